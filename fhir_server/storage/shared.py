"""Quick searches of several callers as one command.

Most of what a search costs, the driver and the database spend per command. Searches that wait at the same time and are
sure to be quick go together (`storage.gather`), in one of two ways:

- Searches that ask one field of one collection for a value each (an identifier, say) become one `find` for all those
  values; what a row has in that field tells whose it is. A field whose values turn out to have many rows is put aside
  for a while.
- All others become the union of their pipelines, each row marked with the number of its pipeline.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.errors import PyMongoError

from fhir_server.model.errors import FhirError
from fhir_server.storage.gather import PARALLEL, Gather

Row = dict[str, Any]
Found = list[Row]
Stages = Sequence[Mapping[str, Any]]

#: Most searches that go together.
SIZE = 16

#: For so long a field with many rows for a value is not asked for several values at once.
ASIDE_S = 600.0

#: The order in which rows of a field's values can be put together here.
BY_ID = (("_id", 1),)


@dataclass(frozen=True, slots=True)
class Finding:
    """A `find`."""

    collection: str
    filter: Mapping[str, Any]
    sort: Sequence[tuple[str, int]]
    limit: int
    fields: Mapping[str, Any]

    @property
    def stages(self) -> Stages:
        """The same as a pipeline."""
        sort = [{"$sort": dict(self.sort)}] if self.sort else []
        return [{"$match": self.filter}, *sort, {"$limit": self.limit}, {"$project": self.fields}]

    def asked(self) -> Asked | None:
        """The field and its value, if it is these that are asked for, and rows can be told by them.

        What else must hold (of a limited reader, say) is left as it is.
        """
        if tuple(self.sort) != BY_ID or any(name[:2] == "x." for name in self.fields):
            return None
        found: Asked | None = None
        rest: dict[str, Any] = {}
        for field, value in self.filter.items():
            if found is None and type(value) is str and field.startswith("x."):
                found = Asked(field, value, rest)
            elif field == "$nor":
                rest[field] = value
            else:
                return None
        return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A field, a value of it, and what must hold besides: denials, which policies have and a plain search has not."""

    field: str
    value: str
    rest: Mapping[str, Any]

    @property
    def sign(self) -> tuple[tuple[str, int], ...]:
        """The same for what must hold of several searches at once, where it is the same object."""
        return tuple((name, id(condition)) for name, condition in self.rest.items())


@dataclass(frozen=True, slots=True)
class Piping:
    """An `aggregate`."""

    collection: str
    stages: Stages


Query = Finding | Piping
Kind = tuple[str, str, int, tuple[str, ...], tuple[tuple[str, int], ...]]


class Shared:
    """Gathers quick searches; `find` and `aggregate` carry out one command each."""

    def __init__(
        self, find: Callable[[Finding], Awaitable[Found]], aggregate: Callable[[Piping], Awaitable[Found]]
    ) -> None:
        self._find = find
        self._aggregate = aggregate
        self._aside: dict[tuple[str, str], float] = {}
        self._gathered: Gather[Query, Found] = Gather(self._run, parallel=PARALLEL, size=SIZE)

    async def __call__(self, query: Query) -> Found:
        return await self._gathered(query)

    async def _run(self, queries: Sequence[Query]) -> list[Found | Exception]:
        if len(queries) == 1:
            return [await self._alone(queries[0])]
        groups: dict[Kind | None, list[int]] = {}
        for number, query in enumerate(queries):
            groups.setdefault(self._kind_of(query), []).append(number)
        for kind in [kind for kind, numbers in groups.items() if kind is not None and len(numbers) == 1]:
            groups.setdefault(None, []).extend(groups.pop(kind))
        answers = await asyncio.gather(
            *(self._of_kind(kind, [queries[n] for n in numbers]) for kind, numbers in groups.items())
        )
        results: list[Found | Exception] = [[]] * len(queries)
        for numbers, found in zip(groups.values(), answers, strict=True):
            for number, rows in zip(numbers, found, strict=True):
                results[number] = rows
        return results

    def _kind_of(self, query: Query) -> Kind | None:
        """What searches have in common that may go together as one `find`; None for those that may not."""
        if type(query) is not Finding or (asked := query.asked()) is None:
            return None
        if self._aside.get((query.collection, asked.field), 0.0) > time.monotonic():
            return None
        return query.collection, asked.field, query.limit, tuple(query.fields), asked.sign

    async def _of_kind(self, kind: Kind | None, queries: Sequence[Query]) -> list[Found | Exception]:
        """The rows of each search, all of one kind."""
        if kind is None:
            return await self._of_union(queries)
        collection, field, limit, fields, _ = kind
        asked = [one for query in queries if type(query) is Finding and (one := query.asked())]
        values = [one.value for one in asked]
        most = limit * len(values)
        wanted = dict.fromkeys((*fields, field), 1)
        try:
            several = {field: {"$in": [*set(values)]}, **asked[0].rest}
            rows = await self._find(Finding(collection, several, (), most, wanted))
        except (FhirError, PyMongoError):
            return await self._each(queries)
        if len(rows) == most:
            self._aside[collection, field] = time.monotonic() + ASIDE_S
            return await self._of_union(queries)
        by_value: dict[str, Found] = {value: [] for value in values}
        rows.sort(key=_id_of)
        for row in rows:
            for value in _values_of(row.pop("x"), field):
                if value in by_value:
                    by_value[value].append(row)
        return [[row.copy() for row in by_value[value][:limit]] for value in values]

    async def _of_union(self, queries: Sequence[Query]) -> list[Found | Exception]:
        """The rows of each, by one aggregate."""
        if len(queries) == 1:
            return await self._each(queries)
        parts = [[*query.stages, {"$set": {"q": {"$literal": n}}}] for n, query in enumerate(queries)]
        unions = [
            {"$unionWith": {"coll": query.collection, "pipeline": part}}
            for query, part in zip(queries[1:], parts[1:], strict=True)
        ]
        results: list[Found] = [[] for _ in queries]
        try:
            rows = await self._aggregate(Piping(queries[0].collection, [*parts[0], *unions]))
        except (FhirError, PyMongoError):
            return await self._each(queries)
        for row in rows:
            results[row.pop("q")].append(row)
        return list(results)

    async def _each(self, queries: Iterable[Query]) -> list[Found | Exception]:
        """Each by itself, as where one of them cannot be answered: each gets its own answer or error."""
        return list(await asyncio.gather(*map(self._alone_or_error, queries)))

    async def _alone_or_error(self, query: Query) -> Found | Exception:
        try:
            return await self._alone(query)
        except (FhirError, PyMongoError) as error:
            return error

    async def _alone(self, query: Query) -> Found:
        return await (
            self._find(query) if type(query) is Finding else self._aggregate(Piping(query.collection, query.stages))
        )


def _id_of(row: Row) -> str:
    name: str = row["_id"]
    return name


def _values_of(entries: Any, field: str) -> set[str]:
    """What a row has in a field, once each; entries are one or an array."""
    for name in field.split(".")[1:]:
        entries = entries[name]
    return set(entries) if type(entries) is list else {entries}
