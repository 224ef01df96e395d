"""From a search to a page of its matches; a first page costs one database command.

Spec: https://hl7.org/fhir/R4/http.html#paging, https://hl7.org/fhir/R4/search.html#total
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.search.beside import Keyed, Row, merged
from fhir_server.search.compile import LIVING, all_of, filter_of
from fhir_server.search.cost import is_narrow, is_quick
from fhir_server.search.page import Cursor, Direction, Page, cursor_of, cursor_text
from fhir_server.search.query import Search
from fhir_server.search.sort import (
    Order,
    Place,
    around,
    beyond_group,
    beyond_indexed,
    computed_key,
    computed_stages,
    indexed_sort,
    is_always_present,
    keys_of,
    order_of,
    presence,
)
from fhir_server.search.types.conditions import Filter
from fhir_server.storage.finding import Finds
from profiles.terminology import Terminology

Stage = dict[str, Any]

#: What a page needs of a document.
FIELDS: dict[str, int] = {"v": 1, "t": 1, "r": 1}

#: `_total=estimate` counts no further than this.
ESTIMATE_LIMIT = 100_000


class SearchStore(Finds, Protocol):
    """What a search asks of the database: see `storage.store`.

    `shared` allows to answer a command together with those of other callers.
    """

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]: ...

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int: ...

    async def estimate(self, resource_type: str) -> int: ...

    async def collections(self) -> list[str]: ...


async def page_of(
    store: SearchStore,
    search: Search,
    terminology: Terminology,
    access: Iterable[Filter] = (),
    fields: Mapping[str, int] | None = None,
    beside: Sequence[Row] = (),
) -> Page:
    """The page of a search's matches that its cursor names, or the first.

    Args:
        search: parsed, its terminology modifiers resolved
        access: conditions that every match must meet, such as those of an access policy
        fields: further fields that are wanted of the rows, as a projection
        beside: what matches, too, and stands in no collection (see `beside`)

    Returns:
        The page. Its total is there when `_total` asks for it, and when the first page shows all there is.

    Raises:
        InvalidError: 400; the cursor is not one of this search.
    """
    conditions = filter_of(search, terminology, access)
    if search.only_total:
        return Page([], total=await _total(store, search, conditions) + len(beside))
    query = _Query(store, search, conditions, order_of(search.sort), fields or {}, beside)
    cursor = cursor_of(search, query.order)
    if cursor is not None and not cursor.forward:
        page = await _backward(query, cursor)
        if page.rows:
            return await _with_total(query, page)
        cursor = None  # all that came before is gone: this is the beginning
    rows = await query.fetch(cursor, search.count + 1)
    page = _forward_page(search, cursor, rows)
    if cursor is None and page.next is None and search.total != "none":
        return Page(page.rows, total=len(page.rows))
    return await _with_total(query, page)


def _forward_page(search: Search, cursor: Cursor | None, rows: list[Keyed]) -> Page:
    shown = rows[: search.count]
    previous: str | None = None
    if cursor is not None:
        previous = _link(search, "p", shown[0]) if shown else cursor_text(search, Cursor("q", cursor.place))
    following = _link(search, "n", shown[-1]) if len(rows) > search.count else None
    return Page([row for row, _ in shown], following, previous)


async def _backward(query: _Query, cursor: Cursor) -> Page:
    search = query.search
    rows = await query.fetch(cursor, search.count + 1)
    shown = rows[: search.count][::-1]
    if not shown:
        return Page([])
    previous = _link(search, "p", shown[0]) if len(rows) > search.count else None
    return Page([row for row, _ in shown], _link(search, "n", shown[-1]), previous)


def _link(search: Search, direction: Direction, keyed: Keyed) -> str:
    row, keys = keyed
    return cursor_text(search, Cursor(direction, Place(keys, row["_id"])))


async def _with_total(query: _Query, page: Page) -> Page:
    if query.search.total in (None, "none"):
        return page
    total = await _total(query.store, query.search, query.conditions) + len(query.beside)
    return Page(page.rows, page.next, page.previous, total)


async def _total(store: SearchStore, search: Search, conditions: Filter) -> int:
    if search.checks:
        steps: list[Stage] = [{"$limit": ESTIMATE_LIMIT}] if search.total == "estimate" else []
        whole: list[Stage] = [{"$match": conditions}, *check_stages(search), *steps, {"$count": "n"}]
        rows = await store.aggregate(search.resource_type, whole, shared=is_quick(search))
        return int(rows[0]["n"]) if rows else 0
    if search.total != "estimate":
        return await store.count(search.resource_type, conditions, None, shared=is_quick(search))
    if conditions == LIVING:
        return await store.estimate(search.resource_type)
    return await store.count(search.resource_type, conditions, ESTIMATE_LIMIT)


def check_stages(search: Search) -> list[Stage]:
    """The stages that keep, of what the predicates match, those to which something refers as the checks say."""
    stages: list[Stage] = []
    for n, check in enumerate(search.checks):
        name = f"c{n}"
        one: list[Stage] = [{"$match": check.condition}, {"$limit": 1}, {"$project": {"_id": 1}}]
        lookup = {"from": check.source, "localField": name, "foreignField": check.field, "pipeline": one, "as": name}
        stages += [
            {"$set": {name: {"$concat": [f"{search.resource_type}/", "$_id"]}}},
            {"$lookup": lookup},
            {"$match": {name: {"$ne": []}}},
        ]
    return stages


@dataclass(frozen=True, slots=True)
class _Query:
    """A compiled search with the order of its matches."""

    store: SearchStore
    search: Search
    conditions: Filter
    order: Order
    fields: Mapping[str, int]
    beside: Sequence[Row] = ()

    async def fetch(self, cursor: Cursor | None, limit: int) -> list[Keyed]:
        """Matches with their keys, from the cursor on, in its direction."""
        return merged(self.order, await self._stored(cursor, limit), self.beside, cursor, limit)

    async def _stored(self, cursor: Cursor | None, limit: int) -> list[Keyed]:
        forward = cursor is None or cursor.forward
        if not (self.order.indexed if forward else self.order.reversible):
            return await self._computed_within(cursor, forward, limit)
        keys = self.order.keys
        if not keys or self.order.all_in_one or is_always_present(keys[0], self.search.predicates):
            return await self._found([self.conditions, *self._beyond(cursor)], forward, limit)
        present = [self.conditions, presence(keys[0], present=True)]
        missing = [self.conditions, presence(keys[0], present=False)]
        in_missing = cursor is not None and cursor.place.keys[0] is None
        first, second = (present, missing) if forward else (missing, present)
        if in_missing == forward:  # the second part has begun, or there is none
            conditions = missing if in_missing else present
            return await self._found([*conditions, *self._beyond(cursor)], forward, limit)
        return await self._found_in_both([*first, *self._beyond(cursor)], second, forward, limit)

    def _beyond(self, cursor: Cursor | None) -> list[Filter]:
        if cursor is None:
            return []
        return beyond_indexed(self.order, cursor.place, forward=cursor.forward, inclusive=cursor.direction == "q")

    async def _computed_within(self, cursor: Cursor | None, forward: bool, limit: int) -> list[Keyed]:
        """As `_computed`; where an index has the order of the first key, it tells within which keys the page lies."""
        lead = self.order.lead
        if lead is None or not (forward or lead.reversible) or any(map(is_narrow, self.search.predicates)):
            return await self._computed(cursor, forward, limit)
        key, first = lead.keys[0], cursor.place.keys[0] if cursor else None
        if cursor is not None and first is None:
            missing = [presence(key, present=False)] if forward else []
            return await self._computed(cursor, forward, limit, missing)
        # So many of those behind the keys that are equal to that of the place are enough, whatever their order.
        beyond = beyond_group(lead, first, forward=forward) if cursor else []
        present = [self.conditions, presence(key, present=True), *beyond]
        rows = await _Query(self.store, self.search, self.conditions, lead, {})._found(present, forward, limit)
        if len(rows) == limit:
            span = around(key, first, rows[-1][1][0], up=key.descending != forward)
            page = await self._computed(cursor, forward, limit, [span])
            if len(page) == limit:
                return page  # otherwise some have gone since: the rest of the page lies further on
        return await self._computed(cursor, forward, limit)

    async def _found(self, conditions: list[Filter], forward: bool, limit: int) -> list[Keyed]:
        if self.search.checks:
            stages = self._part(conditions, forward, limit)
            found = await self.store.aggregate(self.search.resource_type, stages, shared=is_quick(self.search))
            return [(row, keys_of(self.order, row)) for row in found]
        found = await self.store.find(
            self.search.resource_type,
            all_of(conditions),
            sort=indexed_sort(self.order, forward=forward),
            limit=limit,
            fields=self._fields(),
            shared=is_quick(self.search),
        )
        return [(row, keys_of(self.order, row)) for row in found]

    async def _found_in_both(self, first: list[Filter], second: list[Filter], forward: bool, limit: int) -> list[Keyed]:
        """Those that have a value in the order of their index, then those that have none (backward: the other way
        round); one command for both."""
        begin, rest = (self._part(conditions, forward, limit) for conditions in (first, second))
        union = {"$unionWith": {"coll": self.search.resource_type, "pipeline": rest}}
        found = await self.store.aggregate(
            self.search.resource_type, [*begin, union, {"$limit": limit}], shared=is_quick(self.search)
        )
        return [(row, keys_of(self.order, row)) for row in found]

    def _part(self, conditions: list[Filter], forward: bool, limit: int) -> list[Stage]:
        """Matches in the order of their index."""
        sort = dict(indexed_sort(self.order, forward=forward))
        steps: list[Stage] = [{"$match": all_of(conditions)}, {"$sort": sort}, *check_stages(self.search)]
        return [*steps, {"$limit": limit}, {"$project": self._fields()}]

    async def _computed(
        self, cursor: Cursor | None, forward: bool, limit: int, conditions: Sequence[Filter] = ()
    ) -> list[Keyed]:
        stages = computed_stages(
            self.order,
            cursor.place if cursor else None,
            forward=forward,
            inclusive=cursor is not None and cursor.direction == "q",
            limit=limit,
            fields=self.fields,
        )
        found = await self.store.aggregate(
            self.search.resource_type,
            [{"$match": all_of([self.conditions, *conditions])}, *check_stages(self.search), *stages],
            shared=is_quick(self.search),
        )
        for row in found:
            self._tell_marks(row)
        return [(row, computed_key(self.order, row)) for row in found]

    def _tell_marks(self, row: Row) -> None:
        for i, key in enumerate(self.order.keys):
            if key.positions:
                row["distance_m"] = row[f"k{i}"]
            if key.terms:
                row["score"] = row[f"k{i}"]

    def _fields(self) -> dict[str, int]:
        """The fields of a row, those that are wanted besides, and the one that it is sorted by."""
        return {**FIELDS, **self.fields, **{key.parameter.field: 1 for key in self.order.keys}}
