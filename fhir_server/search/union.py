"""Pages over several collections at once, and over what their documents contain.

A page is one command, a union of the parts' own searches. The order is by type and id, or by `_lastUpdated` or `_id`
with the type and the id behind it, then by the id of the contained resource; so a cursor names a place in it as in any
other search.

Spec: https://hl7.org/fhir/R4/http.html#paging
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fhir_server.search.compile import all_of
from fhir_server.search.controls import ACROSS
from fhir_server.search.execute import ESTIMATE_LIMIT, FIELDS
from fhir_server.search.inside import FIELD
from fhir_server.search.page import Cursor, Page, cursor_at, cursor_text, mangled
from fhir_server.search.query import Search
from fhir_server.search.sort import Place
from fhir_server.search.types.conditions import Filter

Row = dict[str, Any]
Stage = dict[str, Any]

_INT64 = range(-(2**63), 2**63)


class UnionStore(Protocol):
    """What such a search asks of the database: see `storage.store`."""

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """What one collection adds.

    Attributes:
        resource_type: names the collection; its rows have it as `y`
        match: the condition that its documents meet
        fields: further fields that are wanted of its rows, as a projection
        inside: the condition that a contained resource meets, unwound as `c`, of which each then is a row, with its id
            as `i`; None where the documents are the rows
    """

    resource_type: str
    match: Filter
    fields: Mapping[str, int]
    inside: Filter | None = None


@dataclass(frozen=True, slots=True)
class _Order:
    """The fields that order the rows, `y` being the type, and whether they go down."""

    fields: tuple[str, ...]
    descending: bool


def _order_of(search: Search, parts: Sequence[Part]) -> _Order:
    keys = [ACROSS[key.parameter.code] for key in search.sort]
    inside = ("i",) if any(part.inside is not None for part in parts) else ()
    fields = tuple(dict.fromkeys((*keys[:1], "y", "_id", *inside)))
    return _Order(fields, bool(search.sort) and search.sort[0].descending)


async def page_of_union(store: UnionStore, head: Search, parts: Sequence[Part], beside: Sequence[Row] = ()) -> Page:
    """The page that the search's cursor names, or the first; its rows have their type as `y`.

    Args:
        head: what the parts have in common: page size, total, order and cursor
        beside: what matches, too, and stands in no collection, with its type as `y`; not where parts look inside

    Raises:
        InvalidError: 400; the cursor is not one of this search.
    """
    if not parts:
        return Page([], total=0)
    if head.only_total:
        return Page([], total=await _total(store, head, parts) + len(beside))
    query = _Query(store, parts, _order_of(head, parts), beside)
    cursor = _cursor_of(head, query.order)
    rows = await query.fetched(cursor, head.count + 1)
    if cursor is not None and not cursor.forward and not rows:
        cursor = None  # all that came before is gone: this is the beginning
        rows = await query.fetched(None, head.count + 1)
    page = _page(head, query.order, cursor, rows)
    if cursor is None and page.next is None and head.total != "none":
        return replace(page, total=len(page.rows))
    if head.total in (None, "none"):
        return page
    return replace(page, total=await _total(store, head, parts) + len(beside))


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


@dataclass(frozen=True, slots=True)
class _Query:
    store: UnionStore
    parts: Sequence[Part]
    order: _Order
    beside: Sequence[Row] = ()

    async def fetched(self, cursor: Cursor | None, limit: int) -> list[Row]:
        """The first rows from the cursor on, in its direction, of the parts and of what stands beside them."""
        found = await self._stored(cursor, limit)
        if not self.beside:
            return found
        up = self.order.descending != (cursor is None or cursor.forward)
        rows = [row for row in self.beside if cursor is None or self._is_beyond(row, cursor, up)]
        return sorted([*found, *rows], key=self._rank_of, reverse=not up)[:limit]

    def _rank_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple([row[name] for name in self.order.fields])

    def _is_beyond(self, row: Row, cursor: Cursor, up: bool) -> bool:
        names = [name for name in self.order.fields if name != "_id"]
        place = self._rank_of({**dict(zip(names, cursor.place.keys, strict=True)), "_id": cursor.place.id})
        own = self._rank_of(row)
        if own == place:
            return cursor.direction == "q"
        return own > place if up else own < place

    async def _stored(self, cursor: Cursor | None, limit: int) -> list[Row]:
        forward = cursor is None or cursor.forward
        up = self.order.descending != forward
        pipelines: list[tuple[str, list[Stage]]] = []
        for part in sorted(self.parts, key=lambda part: part.resource_type, reverse=not up):
            beyond = [] if cursor is None else self._beyond(part, cursor, up)
            if beyond is not None:
                pipelines.append((part.resource_type, self._stages(part, beyond, cursor, limit, up=up)))
        if not pipelines:
            return []
        (first, stages), *others = pipelines
        whole: list[Stage] = [*stages, *({"$unionWith": {"coll": name, "pipeline": part}} for name, part in others)]
        if self.order.fields[0] != "y" or len({name for name, _ in pipelines}) < len(pipelines):
            # Otherwise the union is in the order of the types already.
            whole.append({"$sort": dict.fromkeys(self.order.fields, 1 if up else -1)})
        return await self.store.aggregate(first, [*whole, {"$limit": limit}])

    def _stages(self, part: Part, beyond: list[Filter], cursor: Cursor | None, limit: int, *, up: bool) -> list[Stage]:
        own = {name: 1 if up else -1 for name in self.order.fields if name not in ("y", "i")}
        shown: Stage = {**FIELDS, **part.fields, "y": {"$literal": part.resource_type}}
        stages: list[Stage] = [{"$match": all_of([part.match, *beyond])}, {"$sort": own}]
        if part.inside is not None:
            stages += [] if up else [{"$set": {FIELD: {"$reverseArray": f"${FIELD}"}}}]
            stages += [{"$unwind": f"${FIELD}"}, {"$match": all_of([part.inside, *self._behind(part, cursor, up)])}]
            shown["i"] = f"${FIELD}._id"
        elif "i" in self.order.fields:
            shown["i"] = {"$literal": ""}
        return [*stages, {"$limit": limit}, {"$project": shown}]

    def _beyond(self, part: Part, cursor: Cursor, up: bool) -> list[Filter] | None:
        """The conditions on a part's documents that keep what lies beyond a place; None when none of them does."""
        further = "$gt" if up else "$lt"
        names = [name for name in self.order.fields if name != "_id"]
        place = {**dict(zip(names, cursor.place.keys, strict=True)), "_id": cursor.place.id}
        here = further + "e" if self._reaches_beyond(part, cursor, up) else further
        after = str(place["y"]) < part.resource_type if up else part.resource_type < str(place["y"])
        same = place["y"] == part.resource_type
        match self.order.fields[0]:
            case "y":
                return [{"_id": {here: place["_id"]}}] if same else [] if after else None
            case "_id":
                return [{"_id": {here if same else further + "e" if after else further: place["_id"]}}]
            case name if same:
                tie = {"$or": [{name: {further: place[name]}}, {"_id": {here: place["_id"]}}]}
                return [{name: {further + "e": place[name]}}, tie]
            case name:
                return [{name: {further + "e" if after else further: place[name]}}]

    def _reaches_beyond(self, part: Part, cursor: Cursor, up: bool) -> bool:
        """Whether the very document of a place may have rows beyond it."""
        if part.inside is not None:
            return True  # which of them do is looked at behind
        if "i" in self.order.fields and cursor.place.keys[-1]:
            return not up  # the place is a contained resource, and the document stands before those
        return cursor.direction == "q"

    def _behind(self, part: Part, cursor: Cursor | None, up: bool) -> list[Filter]:
        """The condition on the contained resources of the document of a place."""
        if cursor is None:
            return []
        *_, resource_type, contained_id = cursor.place.keys
        if resource_type != part.resource_type:
            return []
        here = ("$gt" if up else "$lt") + ("e" if cursor.direction == "q" else "")
        return [{"$or": [{"_id": {"$ne": cursor.place.id}}, {f"{FIELD}._id": {here: contained_id}}]}]


async def _total(store: UnionStore, head: Search, parts: Sequence[Part]) -> int:
    """How many match; one command."""
    steps: list[Stage] = [{"$limit": ESTIMATE_LIMIT}] if head.total == "estimate" else []
    pipelines: list[tuple[str, list[Stage]]] = []
    for part in parts:
        inner: list[Stage] = [] if part.inside is None else [{"$unwind": f"${FIELD}"}, {"$match": part.inside}]
        pipelines.append((part.resource_type, [{"$match": part.match}, *inner, *steps, {"$count": "n"}]))
    (first, stages), *others = pipelines
    unions = [{"$unionWith": {"coll": name, "pipeline": part}} for name, part in others]
    return sum(int(row["n"]) for row in await store.aggregate(first, [*stages, *unions]))
