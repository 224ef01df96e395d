"""Measurements of one kind as points in time, in one unit: what charts and thresholds are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fhir_server.interactions.stats import Code, has, measurements_of, scale_of, tokens_of
from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.search import Searcher

Json = dict[str, Any]
TYPE = "Observation"

#: What is no measurement, or none any more.
VOID = "entered-in-error,cancelled,registered"

#: More than this is an analysis, not a request.
MOST = 20_000


@dataclass(frozen=True, slots=True)
class Point:
    """One value.

    Attributes:
        moment_us: when it was measured, or began to be
        id: of the Observation; several components have the same
        arrived_us: when the server had it, as it is now
    """

    moment_us: int
    value: Fraction
    id: str
    arrived_us: int


@dataclass(frozen=True, slots=True)
class Reading:
    """An Observation that was read, or another record of something done, with its moment and when it arrived."""

    observation: Json
    id: str
    moment_us: int
    arrived_us: int


async def readings(
    searcher: Searcher, subject: str, codes: Iterable[Code], start_us: int | None, end_us: int | None
) -> list[Reading]:
    """The Observations of some codes, the oldest first, as the searcher sees them; one database command.

    Raises:
        UnprocessableError: 422; there are too many.
    """
    pairs = [("subject", subject), ("combo-code", tokens_of(codes)), ("status:not", VOID)]
    return await records(searcher, TYPE, pairs, start_us, end_us)


async def records(
    searcher: Searcher,
    resource_type: str,
    pairs: list[tuple[str, str]],
    start_us: int | None,
    end_us: int | None,
) -> list[Reading]:
    """What a search finds whose date is within a time, the oldest first, as the searcher sees it; one command.

    Raises:
        UnprocessableError: 422; there are too many.
    """
    _, conditions = await searcher.understood(resource_type, pairs, strict=True, default_count=1, max_count=1)
    match: list[Mapping[str, Any]] = [conditions]
    if start_us is not None:
        match.append({"x.date.e": {"$gt": start_us}})
    if end_us is not None:
        match.append({"x.date.s": {"$lt": end_us}})
    rows = await searcher.aggregate(
        resource_type,
        [
            {"$match": {"$and": match}},
            {"$sort": {"x.date.s": 1, "_id": 1}},
            {"$limit": MOST + 1},
            {"$project": {"r": 1, "t": 1, "s": "$x.date.s"}},
        ],
    )
    if len(rows) > MOST:
        raise UnprocessableError(
            f"There are more than {MOST:,} {resource_type}s to look at; ask for a shorter period.",
            code="too-costly",
            key="HS-OP-COST",
        )
    return [Reading(codec.decode(row["r"]), row["_id"], _first(row["s"]), row["t"]) for row in rows if "s" in row]


def _first(moment: Any) -> int:
    return int(min(moment) if isinstance(moment, list) else moment)


def points_of(found: Iterable[Reading], code: Code, unit: str | None, system: str) -> list[Point]:
    """The values of a code in a unit; what cannot be converted is left out.

    Args:
        unit: None where the values have none
    """
    points = []
    to = scale_of((system, unit)) if unit is not None else None
    for reading in found:
        if not has(reading.observation, code):
            continue
        for measured in measurements_of(reading.observation, code, reading.moment_us):
            if measured is None:
                continue
            value = measured.value
            if (measured.unit or (None, None))[1] != unit:
                own = scale_of(measured.unit)
                if to is None or own is None or own[2] != to[2]:
                    continue
                value = (value * own[0] + own[1] - to[1]) / to[0]
            points.append(Point(reading.moment_us, value, reading.id, reading.arrived_us))
    return sorted(points, key=lambda point: (point.moment_us, point.id))
