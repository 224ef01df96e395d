"""A search of several types at once: of the whole system, of some types, of a compartment.

All its parameters are common to the types. A page is one command, a union of the types' own searches; the order is by
type and id, or by `_lastUpdated` or `_id` with the type and the id behind it, so a cursor names a place in it as in any
other search.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html#_type
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.compile import Access, all_of, filter_of
from fhir_server.search.controls import NAMES, SILENT
from fhir_server.search.execute import ESTIMATE_LIMIT, FIELDS
from fhir_server.search.include import INCLUDES, include_of
from fhir_server.search.page import Cursor, Page, cursor_at, cursor_text, mangled
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Include, Search
from fhir_server.search.sort import Place
from fhir_server.search.types.conditions import Filter
from profiles.registry import Registry
from profiles.terminology import Terminology

Row = dict[str, Any]
Pairs = Sequence[tuple[str, str]]
ParseOne = Callable[[str, Pairs], Search]

#: What results of several types can be sorted by, and the field of a row that has it.
SORTS = {"_id": "_id", "_lastUpdated": "t"}

#: These mean the same in every type, down to the fields that they look at.
SHARED = frozenset((*NAMES, *SILENT, "_id", "_lastUpdated", "_tag", "_security", "_profile", "_source"))

_UNKNOWN = frozenset(("HS-SEARCH-UNKNOWN", "HS-SEARCH-UNSUPPORTED"))
_INT64 = range(-(2**63), 2**63)


class AcrossStore(Protocol):
    """What such a search asks of the database: see `storage.store`."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]: ...


# --- reading ----------------------------------------------------------------------------------------------------------


def parse_across(
    types: Sequence[str], pairs: Pairs, parse_one: ParseOne, registry: Registry, *, strict: bool
) -> list[Search]:
    """One search for each type, of what is common to all of them; all say the same about the rest.

    Args:
        types: two at least
        parse_one: reads the parameters for one type, not strictly

    Raises:
        InvalidError: 400; a malformed value, or, when strict, a parameter that the types do not have in common.
    """
    pairs, refused = _sortable(pairs)
    includes, included, idle = _includes_of(types, pairs, registry)
    refused += idle
    pairs = [pair for pair in pairs if pair[0] not in INCLUDES]
    if all(name.partition(":")[0] in SHARED for name, _ in pairs):
        first = parse_one(types[0], pairs)
        searches = [first, *(replace(first, resource_type=name) for name in types[1:])]
    else:
        searches = [parse_one(name, pairs) for name in types]
    ignored = {issue.expression: issue for issue in refused}
    for search in searches:
        for issue in search.ignored:
            ignored.setdefault(issue.expression, _not_common(issue, types) if issue.key in _UNKNOWN else issue)
    if ignored and strict:
        raise InvalidError([replace(issue, severity="error") for issue in ignored.values()])
    common = [pair for pair in searches[0].applied if all(pair in search.applied for search in searches)]
    if any(len(search.applied) > len(common) for search in searches):
        searches = [parse_one(name, common) for name in types]
    return [
        replace(
            s,
            ignored=tuple(ignored.values()),
            includes=includes,
            applied=(*s.applied, *included),
            sort=tuple([key for key in s.sort if not (key.terms or key.positions)]),  # no score compares types
        )
        for s in searches
    ]


def _includes_of(
    types: Sequence[str], pairs: Pairs, registry: Registry
) -> tuple[tuple[Include, ...], list[tuple[str, str]], list[Issue]]:
    """The includes that concern one of the types at least, and how they were spelt; warnings about the others."""
    includes: dict[Include, None] = {}
    spelt: dict[tuple[str, str], None] = {}
    idle: list[Issue] = []
    for name, text in pairs:
        if name not in INCLUDES or not text:
            continue
        read = [include_of(table_of(one, registry), name, text, registry) for one in types]
        found = [include for include in read if isinstance(include, Include)]
        includes.update(dict.fromkeys(found))
        if found:
            spelt[name, text] = None
        else:
            idle += [replace(issue, severity="warning") for issue in read[:1] if isinstance(issue, Issue)]
    return tuple(includes), list(spelt), idle


def _sortable(pairs: Pairs) -> tuple[list[tuple[str, str]], list[Issue]]:
    """The parameters, without what results of several types cannot be sorted by."""
    kept: list[tuple[str, str]] = []
    refused: list[Issue] = []
    for name, text in pairs:
        rules = [rule for rule in text.split(",") if rule] if name == "_sort" else []
        wrong = [rule for rule in rules if rule.removeprefix("-") not in SORTS]
        if wrong:
            told = f"Several types at once are sorted by _lastUpdated or _id, not by {wrong[0][:60]!r}."
            refused.append(Issue("not-supported", told, "http._sort", "HS-SEARCH-SORT", severity="warning"))
        if wrong and len(wrong) < len(rules):
            kept.append((name, ",".join(rule for rule in rules if rule not in wrong)))
        elif not wrong:
            kept.append((name, text))
    return kept, refused


def _not_common(issue: Issue, types: Sequence[str]) -> Issue:
    name = (issue.expression or "").removeprefix("http.")
    shown = ", ".join(types[:8]) + (" …" if len(types) > 8 else "")
    text = (
        f"{name!r} is no search parameter that all the types searched have in common ({shown}). Name the types by "
        "_type, or search one type."
    )
    return replace(issue, diagnostics=text)


# --- searching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Order:
    """The fields that order the rows, `y` being the type, and whether they go down."""

    fields: tuple[str, ...]
    descending: bool


def _order_of(search: Search) -> _Order:
    keys = [SORTS[key.parameter.code] for key in search.sort]
    fields = tuple(dict.fromkeys((*keys[:1], "y", "_id")))
    return _Order(fields, bool(search.sort) and search.sort[0].descending)


async def page_across(
    store: AcrossStore,
    searches: Sequence[Search],
    terminology: Terminology,
    access: Access,
    fields: Callable[[str], Mapping[str, int]],
) -> Page:
    """The page that the searches' cursor names, or the first; its rows have their type as `y`.

    Args:
        searches: one for each type, in the order of the types, alike in all but that; without chains
        fields: the index entries that are wanted of a type's rows, as a projection

    Raises:
        InvalidError: 400; the cursor is not one of this search.
    """
    head = replace(searches[0], resource_type="")
    parts = {s.resource_type: filter_of(s, terminology, access(s.resource_type)) for s in searches}
    if head.only_total:
        return Page([], total=await _total(store, head, parts))
    order = _order_of(head)
    cursor = _cursor_of(head, order)
    rows = await _fetched(store, order, parts, cursor, head.count + 1, fields)
    if cursor is not None and not cursor.forward and not rows:
        cursor = None  # all that came before is gone: this is the beginning
        rows = await _fetched(store, order, parts, None, head.count + 1, fields)
    page = _page(head, order, cursor, rows)
    if cursor is None and page.next is None and head.total != "none":
        return replace(page, total=len(page.rows))
    return page if head.total in (None, "none") else replace(page, total=await _total(store, head, parts))


def _page(head: Search, order: _Order, cursor: Cursor | None, rows: list[Row]) -> Page:
    more = len(rows) > head.count
    shown = rows[: head.count]
    forward = cursor is None or cursor.forward
    if not forward:
        shown.reverse()
    following = shown and (more or not forward)
    before = cursor is not None and (more or forward)
    previous: str | None = None
    if before and cursor is not None:
        previous = _link(head, order, "p", shown[0]) if shown else cursor_text(head, Cursor("q", cursor.place))
    return Page(shown, _link(head, order, "n", shown[-1]) if following else None, previous)


def _link(head: Search, order: _Order, direction: Any, row: Row) -> str:
    keys = tuple([int(row[f]) if f == "t" else str(row[f]) for f in order.fields if f != "_id"])
    return cursor_text(head, Cursor(direction, Place(keys, row["_id"])))


def _cursor_of(head: Search, order: _Order) -> Cursor | None:
    row = cursor_at(head)
    if row is None:
        return None
    kinds = [int if name == "t" else str for name in order.fields if name != "_id"]
    if [type(value) for value in row[3:]] != kinds or any(v not in _INT64 for v in row[3:] if type(v) is int):
        raise mangled()
    if any("\0" in value for value in row[2:] if type(value) is str):
        raise mangled()
    return Cursor(row[0], Place(tuple(row[3:]), row[2]))


async def _fetched(
    store: AcrossStore,
    order: _Order,
    parts: Mapping[str, Filter],
    cursor: Cursor | None,
    limit: int,
    fields: Callable[[str], Mapping[str, int]],
) -> list[Row]:
    forward = cursor is None or cursor.forward
    up = order.descending != forward
    own = {name: 1 if up else -1 for name in order.fields if name != "y"}
    pipelines: list[tuple[str, list[dict[str, Any]]]] = []
    for name in sorted(parts, reverse=not up):
        beyond = [] if cursor is None else _beyond(order, cursor, name, up)
        if beyond is not None:
            shown = {**FIELDS, **fields(name), "y": {"$literal": name}}
            match = {"$match": all_of([parts[name], *beyond])}
            pipelines.append((name, [match, {"$sort": own}, {"$limit": limit}, {"$project": shown}]))
    if not pipelines:
        return []
    (first, stages), *others = pipelines
    whole: list[dict[str, Any]] = [*stages, *({"$unionWith": {"coll": n, "pipeline": p}} for n, p in others)]
    if order.fields[0] != "y":  # the union is in the order of the types already
        whole.append({"$sort": dict.fromkeys(order.fields, 1 if up else -1)})
    return await store.aggregate(first, [*whole, {"$limit": limit}])


def _beyond(order: _Order, cursor: Cursor, resource_type: str, up: bool) -> list[Filter] | None:
    """The conditions on a type's rows that keep what lies beyond a place; None when none of them does."""
    further = "$gt" if up else "$lt"
    here = further + "e" if cursor.direction == "q" else further
    names = [name for name in order.fields if name != "_id"]
    place = {**dict(zip(names, cursor.place.keys, strict=True)), "_id": cursor.place.id}
    after = str(place["y"]) < resource_type if up else resource_type < str(place["y"])
    same = place["y"] == resource_type
    match order.fields[0]:
        case "y":
            return [{"_id": {here: place["_id"]}}] if same else [] if after else None
        case "_id":
            return [{"_id": {here if same else further + "e" if after else further: place["_id"]}}]
        case name if same:
            tie = {"$or": [{name: {further: place[name]}}, {"_id": {here: place["_id"]}}]}
            return [{name: {further + "e": place[name]}}, tie]
        case name:
            return [{name: {further + "e" if after else further: place[name]}}]


async def _total(store: AcrossStore, head: Search, parts: Mapping[str, Filter]) -> int:
    """How many match; one command."""
    steps: list[dict[str, Any]] = [{"$limit": ESTIMATE_LIMIT}] if head.total == "estimate" else []
    pipelines = [(name, [{"$match": match}, *steps, {"$count": "n"}]) for name, match in parts.items()]
    (first, stages), *others = pipelines
    unions = [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
    return sum(int(row["n"]) for row in await store.aggregate(first, [*stages, *unions]))
