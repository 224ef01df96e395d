"""`$lastn`: the most recent Observations of each kind, for one subject.

Observations are of one kind when they are about the same subject and their codes have a coding in common, whatever
further translations each has; without any coding, when their text is the same. What was entered in error is left out
unless `status` is asked for. The kinds come by their newest Observation, and in each the newest first.

Spec: https://hl7.org/fhir/R4/observation-operation-lastn.html
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

import msgspec

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.interactions.subset import subset
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.parse import link_pairs
from fhir_server.search.query import Search

TYPE = "Observation"
MOST_OF_A_KIND = 1000

#: The order of one kind: newest first.
NEWEST = {"x.date.s": -1, "x.date.e": -1, "_id": -1}

#: A place in the answer: newest moment of the kind, its name, moment of the Observation, its id.
Order = tuple[int, str, int, str]
NEVER = -(2**63)


async def lastn(context: Context, request: Request) -> Answer:
    """Observation/$lastn: a searchset, from one database command."""
    inputs = Inputs.of(request)
    most = inputs.whole("max", least=1) or 1
    if most > MOST_OF_A_KIND:
        raise InvalidError(
            f"`max` is {most}; this server gives {MOST_OF_A_KIND} of a kind at most.",
            code="too-costly",
            expression="Parameters.parameter.where(name='max')",
            key="HS-OP-PARAMETER",
        )
    search, conditions = await context.searcher.understood(
        TYPE,
        [pair for pair in inputs.pairs(without=frozenset({"max"})) if pair[0] != "_cursor"],
        strict=preferences(request).get("handling", "").lower() == "strict",
        default_count=context.limits.max_page_size,
        max_count=context.limits.max_page_size,
    )
    names = {name.partition(":")[0].partition(".")[0] for name, _ in search.applied}
    if not names & {"patient", "subject"}:
        raise InvalidError(
            "The subject is missing: `patient` or `subject` names whose Observations are asked for.",
            code="required",
            expression="Parameters.parameter.where(name='subject')",
            key="HS-OP-PARAMETER",
        )
    if search.sort:
        raise InvalidError(
            "`_sort` does not go with $lastn: its order is by kind, and then by date.",
            code="not-supported",
            expression="http._sort",
            key="HS-OP-PARAMETER",
        )
    cursor = inputs.text("_cursor")
    place = place_of(cursor) if cursor else None
    kinds = kinds_of(await context.searcher.aggregate(TYPE, pipeline_of(conditions, most, "status" in names)), most)
    rows = [(order, body) for order, body in ordered(kinds) if place is None or order > place]
    shown = rows[: search.count]
    address = "/".join((request.base_url, *request.path))
    given = [*([("max", str(most))] if inputs.one("max") is not None else []), *search.applied]

    def page_link(relation: str, text: str | None) -> dict[str, str]:
        return link(relation, address, link_pairs(given, text))

    links = [page_link("self", cursor)]
    if cursor:
        links.append(page_link("first", None))
    if len(shown) < len(rows) and shown:
        links.append(page_link("next", cursor_of(shown[-1][0])))
    return Answer(
        200,
        searchset(
            total=sum(map(len, kinds)),
            links=links,
            matches=((f"{request.base_url}/{TYPE}/{order[3]}", part_of(search, body)) for order, body in shown),
            issues=list(search.ignored),
        ),
    )


def part_of(search: Search, body: bytes) -> bytes:
    """A resource as `_summary` and `_elements` want it."""
    if search.summary not in ("true", "text", "data") and not search.elements:
        return body
    summary = None if search.summary in ("false", "count") else search.summary
    return codec.encode(subset(codec.decode(body), summary=summary, elements=search.elements))


def pipeline_of(conditions: Mapping[str, Any], most: int, any_status: bool) -> list[dict[str, Any]]:
    """The newest of each subject and set of codes; sets that have a coding in common are joined afterwards."""
    valid = {} if any_status else {"x.status": {"$ne": "=entered-in-error"}}
    coded = {"$gt": ["$x.code", None]}
    kind = {"s": "$x.subject", "c": "$x.code", "t": {"$cond": [coded, None, "$x.code:text"]}}
    row = {"i": "$_id", "s": "$x.date.s", "e": "$x.date.e", "r": "$r"}
    return [
        {"$match": {"$and": [conditions, valid]}},
        {"$group": {"_id": kind, "top": {"$topN": {"n": most, "sortBy": NEWEST, "output": row}}}},
    ]


Row = tuple[int, int, str, bytes]


def kinds_of(groups: list[dict[str, Any]], most: int) -> list[list[Row]]:
    """The newest rows of each kind, newest first."""
    parents: dict[Any, Any] = {}

    def root(name: Any) -> Any:
        while parents.setdefault(name, name) != name:
            parents[name] = name = parents[parents[name]]
        return name

    for number, group in enumerate(groups):
        for name in names_of(group["_id"]):
            parents[root(name)] = root(number)
    kinds: dict[Any, list[Row]] = {}
    for number, group in enumerate(groups):
        rows = [(r.get("s", NEVER), r.get("e", NEVER), r["i"], r["r"]) for r in group["top"]]
        kinds.setdefault(root(number), []).extend(rows)
    return [sorted(rows, key=lambda row: row[:3], reverse=True)[:most] for rows in kinds.values()]


def names_of(kind: dict[str, Any]) -> list[tuple[Any, ...]]:
    """What two sets of codes must share to be of one kind: a subject with a coding, or with a text."""
    subject = str(kind.get("s"))
    codings = [entry for entry in kind.get("c") or () if not entry.startswith("=")]
    names = [(subject, "coding", coding) for coding in codings]
    return names or [(subject, "text", *(kind.get("t") or kind.get("c") or ()))]


def ordered(kinds: list[list[Row]]) -> list[tuple[Order, bytes]]:
    rows = []
    for kind in kinds:
        newest, _, name, _ = kind[0]
        rows += [((-newest, name, -start, i), body) for start, _, i, body in kind]
    return sorted(rows, key=lambda row: row[0])


def cursor_of(order: Order) -> str:
    return urlsafe_b64encode(msgspec.json.encode(order)).rstrip(b"=").decode()


def place_of(cursor: str) -> Order:
    """Where a page ended.

    Raises:
        InvalidError: 400; the cursor is none of ours.
    """
    try:
        raw = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        place: Order = msgspec.json.decode(raw, type=Order)
    except (UnicodeError, binascii.Error, msgspec.MsgspecError):
        raise InvalidError(
            "`_cursor` is none that this server gave; follow the `next` link of a page instead.",
            code="value",
            key="HS-OP-CURSOR",
        ) from None
    return place
