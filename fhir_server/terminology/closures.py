"""Closure tables: which of the concepts that a client has met subsume which.

A table has a row for each concept, with all that is above it, and a number that grows with each call. A row is written
before relations are looked for, so that of two calls at once at least one tells how their concepts stand to each other.

Spec: https://hl7.org/fhir/R4/terminology-service.html#closure
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from fhir_server.storage.rows import Row, Rows
from fhir_server.storage.store import Store

TABLES = "_closures"
CONCEPTS = "_closure_concepts"

#: Of one owner, and of one table.
MOST_TABLES = 100
MOST_CONCEPTS = 20_000


@dataclass(frozen=True, slots=True)
class Met:
    """A concept of a table, with the codes above it in its code system."""

    system: str
    code: str
    above: frozenset[str]


@dataclass(frozen=True, slots=True, order=True)
class Relation:
    """`below` is a kind of `above`, in one code system."""

    system: str
    below: str
    above: str


class FullError(Exception):
    """An owner has too many tables, or a table too many concepts; the text says which."""


class Closures:
    """The tables of all owners."""

    def __init__(self, store: Store) -> None:
        self._tables: Rows = store.rows(TABLES)
        self._concepts: Rows = store.rows(CONCEPTS)

    async def open(self) -> None:
        await self._tables.index("o")
        await self._concepts.index("k", "s", "a")
        await self._concepts.index("k", "n")

    async def start(self, owner: str, name: str) -> None:
        """Begin a table, or begin it anew.

        Raises:
            FullError: the owner has too many.
        """
        key = _key_of(owner, name)
        others = [row for row in await self._tables.all({"o": owner}, limit=MOST_TABLES + 1) if row["_id"] != key]
        if len(others) >= MOST_TABLES:
            raise FullError(f"there are {MOST_TABLES} closure tables already")
        await self._concepts.remove_all({"k": key})
        await self._tables.put(key, {"o": owner, "name": name, "v": 0, "c": 0})

    async def version(self, owner: str, name: str) -> int | None:
        """How often a table has grown; None where there is none."""
        row = await self._tables.get(_key_of(owner, name))
        return None if row is None else int(row["v"])

    async def add(self, owner: str, name: str, met: Collection[Met]) -> tuple[int, list[Relation]]:
        """Add concepts to a table that there is; its new version, and how they stand to each other and to the others.

        Raises:
            FullError: the table has no room for them.
        """
        key = _key_of(owner, name)
        grown = {"v": {"$add": ["$v", 1]}, "c": {"$add": ["$c", len(met)]}}
        row = await self._tables.change(key, {"c": {"$lte": MOST_CONCEPTS - len(met)}}, grown)
        if row is None:
            raise FullError(f"a closure table has {MOST_CONCEPTS} concepts at most")
        version = int(row["v"])
        for one in met:
            fields = {"k": key, "s": one.system, "c": one.code, "a": sorted(one.above), "n": version}
            await self._concepts.make(f"{key}/{one.system}|{one.code}", fields)
        found: set[Relation] = set()
        by_system: dict[str, list[Met]] = {}
        for one in met:
            by_system.setdefault(one.system, []).append(one)
        for system, some in by_system.items():
            codes = {one.code for one in some}
            wider = {code for one in some for code in one.above}
            rows = await self._rows(
                {"k": key, "s": system, "$or": [{"c": {"$in": sorted(wider)}}, {"a": {"$in": sorted(codes)}}]}
            )
            present = {row["c"] for row in rows}
            found |= {Relation(system, one.code, code) for one in some for code in one.above if code in present}
            found |= {Relation(system, row["c"], code) for row in rows for code in row["a"] if code in codes}
        return version, sorted(relation for relation in found if relation.below != relation.above)

    async def since(self, owner: str, name: str, version: int) -> list[Relation]:
        """All relations of which at least one concept came after a version."""
        rows = await self._rows({"k": _key_of(owner, name)})
        came = {(row["s"], row["c"]): row["n"] for row in rows}
        found: Iterable[Relation] = (
            Relation(row["s"], row["c"], code)
            for row in rows
            for code in row["a"]
            if code != row["c"] and max(row["n"], came.get((row["s"], code), -1)) > version and (row["s"], code) in came
        )
        return sorted(found)

    async def _rows(self, filter: Row) -> list[Row]:
        return await self._concepts.all(filter, limit=MOST_CONCEPTS)


def _key_of(owner: str, name: str) -> str:
    return blake2b(f"{owner}\0{name}".encode(), digest_size=16).hexdigest()
