"""A value set as what it asks of the codes of each code system.

`include` and `exclude` add and remove codes; what one of them imports of other value sets must hold as well. Nothing is
listed here, so a value set over a million codes costs as much as one over three.

Spec: https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fhir_server.terminology.conditions import (
    Active,
    Condition,
    Everything,
    Filtered,
    Listed,
    Not,
    Selectable,
    Unknown,
    both,
    either,
)

Json = dict[str, Any]

#: A code system, and the version that is asked for (empty: any).
Key: TypeAlias = tuple[str, str]

#: Finds a value set by its canonical URL, with `|version` or without; None where it is not held.
Find: TypeAlias = Callable[[str], Awaitable[Json | None]]

#: The extension by which a value set names the supplements that it needs.
SUPPLEMENT = "http://hl7.org/fhir/StructureDefinition/valueset-supplement"

#: Value sets that are imported through others, one by one, go no deeper than this.
_DEEPEST = 30


@dataclass(slots=True)
class Part:
    """What a value set asks of one code system; `listed` are the concepts that it names, with their displays."""

    condition: Condition
    listed: dict[str, Json] = field(default_factory=dict)


@dataclass(slots=True)
class Composed:
    """A value set.

    Attributes:
        parts: by code system and version, in the order of the value set
        missing: value sets, not held here, whose codes would be in it as well
        doubtful: value sets, not held here, whose codes would not be in it
        imports: all value sets that it draws on
    """

    resource: Json
    parts: dict[Key, Part] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubtful: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)

    @property
    def canonical(self) -> str:
        url, version = str(self.resource.get("url") or ""), self.resource.get("version")
        return f"{url}|{version}" if version else url


async def composed(resource: Json, find: Find, *, headings: bool = False, within: tuple[str, ...] = ()) -> Composed:
    """What a value set asks for.

    Args:
        headings: whether codes that are mere headings belong to it, too
        within: the value sets through which this one is reached
    """
    result = Composed(resource)
    compose = resource.get("compose")
    if type(compose) is not dict or not compose.get("include"):
        _expanded(result, resource.get("expansion"), headings=headings)
        return result
    reading = _Reading(result, find, (*within, result.canonical, str(resource.get("url") or "")))
    for part in rows_of(compose, "include"):
        await reading.include(part, headings=headings)
    for part in rows_of(compose, "exclude"):
        await reading.exclude(part)
    if compose.get("inactive") is False:
        for kept in result.parts.values():
            kept.condition = both(kept.condition, Active())
    return result


def supplements_of(value_set: Json) -> list[str]:
    """The canonicals of the code system supplements that a value set needs."""
    rows = rows_of(value_set, "extension")
    return [str(row.get("valueCanonical")) for row in rows if row.get("url") == SUPPLEMENT and "valueCanonical" in row]


def rows_of(holder: Json, name: str) -> Iterator[Json]:
    found = holder.get(name)
    yield from (row for row in (found if type(found) is list else ()) if type(row) is dict)


def _expanded(result: Composed, expansion: Any, *, headings: bool) -> None:
    """The codes of a value set that lists them, and does not say what they come from."""
    for row in contained(expansion.get("contains") if type(expansion) is dict else None):
        if "code" in row and (headings or not row.get("abstract")):
            key = (str(row.get("system") or ""), str(row.get("version") or ""))
            part = result.parts.setdefault(key, Part(Listed(frozenset())))
            part.listed[str(row["code"])] = row
    for part in result.parts.values():
        part.condition = Listed(frozenset(part.listed))
    whole = type(expansion) is dict and expansion.get("total", 0) <= sum(len(p.listed) for p in result.parts.values())
    if not whole or "contains" not in expansion:
        result.missing.append(result.canonical)


def contained(rows: Any) -> Iterator[Json]:
    """The rows of an expansion, those within others too."""
    for row in rows if type(rows) is list else ():
        yield row
        yield from contained(row.get("contains"))


class _Reading:
    """Reads the parts of one value set."""

    def __init__(self, result: Composed, find: Find, within: tuple[str, ...]) -> None:
        self._result = result
        self._find = find
        self._within = within

    async def include(self, part: Json, *, headings: bool) -> None:
        own = _own(part, headings=headings)
        imported = [await self._imported(url, headings=headings) for url in _imports(part)]
        for key, condition, listed in _crossed(own, imported):
            known = self._result.parts.get(key)
            if known is None:
                self._result.parts[key] = Part(condition, dict(listed))
            else:
                known.condition = either([known.condition, condition])
                known.listed |= {code: row for code, row in listed.items() if code not in known.listed}
        if own is None:
            self._result.missing += [url for found in imported for url in found.missing]

    async def exclude(self, part: Json) -> None:
        own = _own(part, headings=True)
        imported = [await self._imported(url, headings=True) for url in _imports(part)]
        for (system, version), condition, _ in _crossed(own, imported):
            for (known, pinned), kept in self._result.parts.items():
                if known == system and version in ("", pinned):
                    # Of a code system that is left out as a whole nothing stays, whatever it has.
                    whole = condition == Everything()
                    kept.condition = Listed(frozenset()) if whole else both(kept.condition, Not(condition))
        if own is None:
            self._result.doubtful += [url for found in imported for url in found.missing]

    async def _imported(self, canonical: str, *, headings: bool) -> Composed:
        self._result.imports.append(canonical)
        # One that includes itself has no meaning, however it does.
        lost = canonical in self._within or len(self._within) > 2 * _DEEPEST
        resource = None if lost else await self._find(canonical)
        if resource is None:
            return Composed({"url": canonical}, missing=[canonical])
        found = await composed(resource, self._find, headings=headings, within=(*self._within, canonical))
        self._result.imports += found.imports
        return found


def _imports(part: Json) -> list[str]:
    found = part.get("valueSet")
    return [url for url in (found if type(found) is list else ()) if type(url) is str]


Crossed: TypeAlias = tuple[Key, Condition, Mapping[str, Json]]


def _own(part: Json, *, headings: bool) -> Crossed | None:
    """What an include or exclude says of its code system; None where it names none."""
    system = part.get("system")
    if type(system) is not str:
        return None
    key = (system, str(part.get("version") or ""))
    listed = {str(row["code"]): row for row in rows_of(part, "concept") if "code" in row}
    if listed:
        return key, Listed(frozenset(listed)), listed
    filters = [_filter_of(row) for row in rows_of(part, "filter")]
    base: Condition = Everything() if headings else Selectable()
    # `Selectable` holds of what nobody knows of: that there is such a code is asked besides.
    conditions: list[Condition] = [*filters, Everything()] if headings else [*filters, base, Everything()]
    return key, both(*conditions), {}


def _filter_of(row: Json) -> Condition:
    return Filtered(str(row.get("property") or ""), str(row.get("op") or ""), str(row.get("value") or ""))


def _crossed(own: Crossed | None, imported: list[Composed]) -> Iterable[Crossed]:
    """What is in all of some value sets, and in what an include says itself."""
    if own is not None:
        (system, version), condition, listed = own
        conditions = [condition, *(_of_system(found, system, version) for found in imported)]
        yield (system, version), both(*conditions), listed
        return
    first, *others = imported or [Composed({})]
    for (system, version), part in first.parts.items():
        conditions = [part.condition, *(_of_system(found, system, version) for found in others)]
        yield (system, version), both(*conditions), part.listed


def _of_system(found: Composed, system: str, version: str) -> Condition:
    """What a value set asks of a code system: nothing of it may be in it."""
    own = [
        part.condition
        for (known, pinned), part in found.parts.items()
        if known == system and (not version or not pinned or version == pinned)
    ]
    missing: list[Condition] = [Unknown(url) for url in found.missing]
    condition = either([*own, *missing]) if own or missing else Listed(frozenset())
    doubts = [Not(Unknown(url)) for url in found.doubtful]
    return both(condition, *doubts)
