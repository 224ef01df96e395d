"""Lists of codes for searches, and memberships for the validation: the ports of others, filled by the engine.

Spec: https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

from fhir_server.search.query import CodeSet
from fhir_server.search.resolve import UnlistedError
from fhir_server.terminology.compose import Part
from fhir_server.terminology.conditions import (
    Active,
    Everything,
    Leaf,
    Listed,
    Selectable,
    judged,
    leaves,
)
from fhir_server.terminology.engine import Engine
from fhir_server.terminology.holdings import Holdings
from fhir_server.terminology.system import System, Wanted
from fhir_server.validation.profile.source import Source

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class SearchCodes:
    """What `:in`, `:not-in`, `:above` and `:below` ask."""

    engine: Engine

    async def codes_in(self, value_set: str, most: int) -> CodeSet:
        found = await self.engine.value_set(value_set, headings=True)
        if found is None:
            raise UnlistedError("it is not held on this server")
        if found.missing or found.doubtful:
            lost = [*found.missing, *found.doubtful][0]
            raise UnlistedError(
                "it says neither what it includes nor, completely, which codes it has, or it includes itself"
                if lost.partition("|")[0] == value_set.partition("|")[0]
                else f"it draws on the value set {lost[:200]!r}, which is not held or has no list of codes"
            )
        codes: set[Pair] = set()
        systems: set[str] = set()
        for system, part, _ in await self.engine.systems_of(found):
            if _is_open(part, system):
                systems.add(system.about.url)
                continue
            codes |= await self._codes(system, part, most)
            if len(codes) > most:
                raise UnlistedError(f"it has more than {most} codes, and a search takes no more")
        return CodeSet(frozenset(codes), frozenset(systems))

    async def _codes(self, system: System, part: Part, most: int) -> set[Pair]:
        why = await system.unanswerable(part.condition)
        if why:
            raise UnlistedError(why)
        rows = await system.page(Wanted(part.condition, part.listed), 0, most + 1)
        return {(system.about.url, row.code) for row in rows}

    async def family(self, system: str, code: str, most: int, *, above: bool) -> Collection[str]:
        known = await self.engine.code_system(system)
        if known is None:
            raise UnlistedError(f"the code system {system!r} is not held here, so its hierarchy is not known")
        found = await known.related(code, above=above, most=most + 1)
        if len(found) > most:
            raise UnlistedError(f"more than {most} codes are meant, and a search takes no more")
        return found


def codes_of(source: Source, base_url: str = "") -> SearchCodes:
    """Codes by what a source and the specification hold, and nobody else."""
    return SearchCodes(Engine(Holdings(source), base_url))


def _is_open(part: Part, system: System) -> bool:
    """Whether each code of a system that is not held, or is big, is meant, so that no list is needed."""
    if system.about.whole and not getattr(system, "is_big", False):
        return False
    if judged(part.condition, _of_stranger) is not True:
        return False
    listed = {code for leaf in leaves(part.condition) if isinstance(leaf, Listed) for code in leaf.codes}
    return all(judged(part.condition, partial(_of_listed, code)) for code in listed)


def _of_stranger(leaf: Leaf) -> bool | None:
    return True if isinstance(leaf, Everything | Selectable) else False if isinstance(leaf, Listed) else None


def _of_listed(code: str, leaf: Leaf) -> bool | None:
    return code in leaf.codes if isinstance(leaf, Listed) else None if isinstance(leaf, Active) else _of_stranger(leaf)
