"""Which definitions a profile needs: those that it names, those that these name, and their value sets.

Spec: https://hl7.org/fhir/R4/profiling.html
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import CODE_SYSTEMS, STRUCTURES, VALUE_SETS, Source, Stamp
from profiles.registry import Registry
from profiles.terminology import Terminology

Json = dict[str, Any]

#: Profiles and value sets that an invariant asks about.
CONFORMS_TO = re.compile(r"conformsTo\('([^']+)'\)")
MEMBER_OF = re.compile(r"memberOf\('([^']+)'\)")

#: Definitions name each other in circles and chains; no chain is longer than this.
MAX_ROUNDS = 20


class Gathering:
    """Follows the names in definitions to further ones, a query for each kind and round."""

    def __init__(self, source: Source, known: dict[Stamp, Held], registry: Registry, terminology: Terminology) -> None:
        self._source = source
        self._known = known
        self._registry = registry
        self._terminology = terminology
        self.urls: dict[str, set[str]] = {STRUCTURES: set(), VALUE_SETS: set(), CODE_SYSTEMS: set()}
        self.held: dict[Stamp, Held] = {}
        self._bound: set[str] = set()

    async def structures(self, wanted: set[str]) -> None:
        targets: set[str] = set()
        for _ in range(MAX_ROUNDS):
            found = await self._fetch(STRUCTURES, wanted)
            wanted = set()
            for held in found:
                wanted.update(profiles_named_by(held.content))
                targets.update(targets_named_by(held.content))
                self._bound.update(value_sets_named_by(held.content))
            wanted = {url for url in wanted if self._is_stored(url)} - self.urls[STRUCTURES]
            if not wanted:
                break
        await self._fetch(STRUCTURES, {url for url in targets if self._is_stored(url)} - self.urls[STRUCTURES])

    def _is_stored(self, url: str) -> bool:
        """Whether a profile can only be one of this server's own."""
        name = url.removeprefix("http://hl7.org/fhir/StructureDefinition/")
        return url not in self._registry.profiles and name not in self._registry.types

    async def value_sets(self, further: Collection[str] = ()) -> None:
        """The value sets that are bound, and the code systems that they draw on, where the specification has none."""
        wanted, systems = self._bound | set(further), set[str]()
        for _ in range(MAX_ROUNDS):
            found = await self._fetch(VALUE_SETS, wanted - self.urls[VALUE_SETS] - self._terminology.value_sets)
            wanted = set()
            for held in found:
                sets, drawn = imports_of(held.content)
                wanted |= sets
                systems |= drawn
            if not wanted:
                break
        await self._fetch(CODE_SYSTEMS, systems - self._terminology.code_systems)

    async def _fetch(self, resource_type: str, urls: Collection[str]) -> list[Held]:
        """What is stored under some URLs; what was read before is not read again."""
        if not urls:
            return []
        self.urls[resource_type].update(urls)
        stamps = [stamp for stamp in await self._source.stamps(resource_type, urls) if not stamp.is_big]
        found = {stamp: self._known[stamp] for stamp in stamps if stamp in self._known}
        missing = [stamp for stamp in stamps if stamp not in found]
        if missing:
            read = await self._source.read(missing)
            by_id = {(held.content["resourceType"], held.id): held for held in read}
            found |= {Stamp(resource_type, held.id, held.version, held.write): held for held in by_id.values()}
        self.held |= found
        return list(found.values())


def profiles_named_by(structure: Json) -> Iterator[str]:
    """The profiles that a value of this profile is validated against: its base's, those of its elements' types."""
    if "snapshot" not in structure and "baseDefinition" in structure:
        yield url_of(structure["baseDefinition"])
    for element in _elements(structure):
        for entry in element.get("type", ()):
            yield from map(url_of, entry.get("profile", ()))
        for constraint in element.get("constraint", ()):
            yield from map(url_of, CONFORMS_TO.findall(constraint.get("expression", "")))


def targets_named_by(structure: Json) -> Iterator[str]:
    """The profiles that references lead to: their type is asked, or by what they tell slices apart."""
    for element in _elements(structure):
        for entry in element.get("type", ()):
            yield from map(url_of, entry.get("targetProfile", ()))


def value_sets_named_by(structure: Json) -> Iterator[str]:
    for element in _elements(structure):
        binding = element.get("binding") or {}
        if "valueSet" in binding:
            yield url_of(binding["valueSet"])
        for extension in binding.get("extension", ()):
            if "valueCanonical" in extension:
                yield url_of(extension["valueCanonical"])
        for constraint in element.get("constraint", ()):
            yield from map(url_of, MEMBER_OF.findall(constraint.get("expression", "")))


def imports_of(value_set: Json) -> tuple[set[str], set[str]]:
    """The value sets and the code systems that a value set draws on."""
    sets: set[str] = set()
    systems: set[str] = set()
    compose = value_set.get("compose") or {}
    for part in (*compose.get("include", ()), *compose.get("exclude", ())):
        sets.update(map(url_of, part.get("valueSet", ())))
        if "system" in part and "concept" not in part:
            systems.add(part["system"])
    return sets, systems


def url_of(canonical: str) -> str:
    return canonical.partition("|")[0]


def _elements(structure: Json) -> Iterable[Json]:
    """The elements of a snapshot, or of a differential where there is none."""
    rows = structure.get("snapshot") or structure.get("differential") or {}
    found: list[Json] = rows.get("element") or []
    return found
