"""History as one ordered stream over current and earlier versions.

A resource's last version stands in its type's collection, the others in the history collection; a page is an
aggregation over both, as they were at one moment. The order is total (moment, type, id, version, all descending), so
that a cursor names its place exactly even where a transaction gave thousands of versions the same moment.

Spec: https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import msgspec

from fhir_server.model.dates import Interval
from fhir_server.model.errors import InvalidError
from fhir_server.repository.records import TRAIL
from fhir_server.storage.document import HISTORY, Version, past_version_of

Stage = dict[str, Any]
LARGEST = 2**63

#: Rows that are fetched at a time to fill a page from which some are hidden, and passed over for one page at most.
PORTION = 500
MOST_PASSED_OVER = 5_000
ORDER = {"t": -1, "y": -1, "i": -1, "v": -1}


class HistoryStore(Protocol):
    async def snapshot(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]: ...
    async def collections(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What to list.

    Attributes:
        type: one resource type, or None for the whole server
        id: one resource of it
        since_us: versions made at or after this moment
        at: versions that were current at some time within this span
        count: versions on a page
        cursor: the opaque place where the page before ended
    """

    type: str | None = None
    id: str | None = None
    since_us: int | None = None
    at: Interval | None = None
    count: int = 20
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    versions: list[Version]
    next: str | None


async def history_page(store: HistoryStore, query: HistoryQuery) -> HistoryPage:
    """One page, newest versions first.

    A store that holds to an access policy gives `hidden` rows, which have a place and nothing else: then further rows
    are fetched until the page is full, or so many were passed over that the client may ask again.
    """
    types = [query.type] if query.type else [name for name in await store.collections() if name != TRAIL]
    after = _place_of(query.cursor) if query.cursor else None
    # A writer that crashed may have left a copy of a version in the history that is still current: show it once.
    unique: dict[tuple[str, str, int], dict[str, Any]] = {}
    passed_over = 0
    while True:
        wanted = replace(query, count=query.count - len(unique)) if not passed_over else replace(query, count=PORTION)
        pipeline = _at_pipeline(wanted, types, after) if query.at else _pipeline(wanted, types, after)
        rows = await store.snapshot(HISTORY, pipeline)
        last: dict[str, Any] | None = None
        for row in rows[: wanted.count]:
            if len(unique) == query.count:
                break
            last = row
            if "hidden" in row:
                passed_over += 1
            else:
                unique[row["y"], row["i"], row["v"]] = row
        more = last is not None and (len(rows) > wanted.count or rows[-1] is not last)
        full = len(unique) >= query.count or passed_over >= MOST_PASSED_OVER
        if not more or full or not passed_over:
            break
        assert last is not None
        after = _cut_of(last)
    following = _cursor_of(last) if more and last is not None else None
    return HistoryPage([past_version_of(row) for row in unique.values()], following)


def _cut_of(row: dict[str, Any]) -> tuple[int, str, str, int]:
    return int(row["t"]), row["y"], row["i"], int(row["v"])


def _pipeline(query: HistoryQuery, types: list[str], after: tuple[int, str, str, int] | None) -> list[Stage]:
    """Each source delivers its own first rows in order, from an index; the union is cut once more."""
    cut: list[Stage] = [{"$sort": ORDER}, {"$limit": query.count + 1}]
    span = {"t": {"$gte": query.since_us}} if query.since_us is not None else {}
    place = _before(after)

    def current(name: str) -> list[Stage]:
        match: Stage = {**span, **({"_id": query.id} if query.id else {})}
        moment = {"$match": {"t": {"$lte": after[0]}}} if after else None
        # Cut before the rows are given the shape of the history, where the index on `t` and `_id` serves the order.
        early = [{"$sort": {"t": -1, "_id": -1}}] if not after else []
        limit = [{"$limit": query.count + 1}] if not after else []
        return [
            *([{"$match": match}] if match else []),
            *([moment] if moment else []),
            *early,
            *limit,
            *_as_history(name),
            *place,
            *cut,
        ]

    past: Stage = {**span, **({"y": query.type} if query.type else {}), **({"i": query.id} if query.id else {})}
    if after:
        past["t"] = {**past.get("t", {}), "$lte": after[0]}
    unions = [{"$unionWith": {"coll": name, "pipeline": current(name)}} for name in types]
    return [{"$match": past}, *place, *cut, *unions, *cut]


def _at_pipeline(query: HistoryQuery, types: list[str], after: tuple[int, str, str, int] | None) -> list[Stage]:
    """A version was current from its own moment to that of the next one; keep those whose time meets the span."""
    assert query.at is not None
    begun = {"t": {"$lt": query.at.end_us}}
    past = {**begun, **({"y": query.type} if query.type else {}), **({"i": query.id} if query.id else {})}
    here = {**begun, **({"_id": query.id} if query.id else {})}
    unions = [{"$unionWith": {"coll": name, "pipeline": [{"$match": here}, *_as_history(name)]}} for name in types]
    # The version that ended the time of another may itself have begun after the span: it is left out above, and the
    # other then counts as still current at the end of the span, which is right.
    replaced = {
        "$setWindowFields": {
            "partitionBy": {"y": "$y", "i": "$i"},
            "sortBy": {"v": 1},
            "output": {"end": {"$shift": {"output": "$t", "by": 1, "default": query.at.end_us}}},
        }
    }
    lower = max(query.at.start_us, query.since_us or query.at.start_us)
    meets = {"$match": {"$or": [{"end": {"$gt": lower}}, {"t": {"$gte": lower}}]}}
    since = [{"$match": {"t": {"$gte": query.since_us}}}] if query.since_us is not None else []
    return [
        {"$match": past},
        *unions,
        replaced,
        meets,
        *since,
        *_before(after),
        {"$sort": ORDER},
        {"$limit": query.count + 1},
    ]


def _as_history(name: str) -> list[Stage]:
    return [{"$project": {"_id": 0, "y": name, "i": "$_id", "v": 1, "t": 1, "m": 1, "w": 1, "d": 1, "r": 1, "b": 1}}]


def _before(after: tuple[int, str, str, int] | None) -> list[Stage]:
    """Rows behind a place in the descending order."""
    if after is None:
        return []
    names = ("t", "y", "i", "v")
    alternatives = [
        {**dict(zip(names[:depth], after[:depth], strict=True)), names[depth]: {"$lt": after[depth]}}
        for depth in range(len(names))
    ]
    return [{"$match": {"$or": alternatives}}]


def _cursor_of(row: dict[str, Any]) -> str:
    place = msgspec.json.encode(_cut_of(row))
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _place_of(cursor: str) -> tuple[int, str, str, int]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        moment_us, resource_type, resource_id, version = msgspec.json.decode(raw, type=tuple[int, str, str, int])
        if not (abs(moment_us) < LARGEST and abs(version) < LARGEST):
            raise ValueError("a number beyond what the database stores")
        return moment_us, resource_type, resource_id, version
    except (binascii.Error, ValueError, msgspec.MsgspecError):
        raise InvalidError(
            "`_cursor` is none that this server gave; follow the `next` link of a page instead.",
            code="value",
            key="HS-HISTORY-CURSOR",
        ) from None
