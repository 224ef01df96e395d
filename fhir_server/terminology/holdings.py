"""Finds code systems, value sets and concept maps: those stored here, of packages, of the specification, of our own.

Of several with one canonical URL, that with the version asked for is meant, else the highest that is not retired; one
that is stored goes before one of a package of the same version, and either before the specification's own. What was
read is kept for as long as nothing changes: each look-up asks which versions are current, in one command.

Spec: https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from fhir_server.terminology.concepts import resource_of, value_set_of
from fhir_server.terminology.kept import Kept
from fhir_server.terminology.memory import MemorySystem, system_of
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import CODE_SYSTEMS, VALUE_SETS, Source, Stamp
from profiles.registry import digest, own_definitions
from profiles.versions import Rank as VersionRank
from profiles.versions import rank_of

Json = dict[str, Any]

CONCEPT_MAPS = "ConceptMap"

#: What several code systems of one URL are ordered by: whole, then as `rank_of_held`.
Rank: TypeAlias = tuple[bool, bool, bool, bool, VersionRank, bool]
Ranked: TypeAlias = tuple[Rank, MemorySystem]

#: What is stored or comes in a package goes before the specification's own, unless it is retired or in part.
_OWN_RANK: Rank = (True, True, False, False, rank_of(""), False)

#: So much is kept of what was read: definitions by their number, code systems by their concepts.
_MOST_DEFINITIONS = 500
_MOST_CONCEPTS = 200_000


#: Some version of what is stored; that of packages is 0.
_ANY = 1


class Holdings:
    """All terminology that is held here, but for big code systems."""

    def __init__(self, source: Source, rows: Json | None = None) -> None:
        """`rows` has the shape of `digest("terminology")`, which is read when needed if none are given."""
        self._source = source
        self._rows = rows
        self._definitions: Kept[Stamp, Held] = Kept(_MOST_DEFINITIONS)
        self._systems: Kept[Stamp, Ranked] = Kept(_MOST_CONCEPTS, lambda row: 20 + row[1].size)
        self._own: dict[str, MemorySystem] = {}

    @cached_property
    def _digest(self) -> dict[str, dict[str, Json]]:
        rows = digest("terminology") if self._rows is None else self._rows
        return {
            CODE_SYSTEMS: {row["url"]: row for row in rows["codeSystems"] if row["content"] != "supplement"},
            VALUE_SETS: {row["url"]: row for row in rows["valueSets"]},
        }

    @cached_property
    def _carried(self) -> dict[tuple[str, str], Json]:
        """The code systems and value sets of this server's own (`profiles/definitions`), by type and URL."""
        if self._rows is not None:
            return {}
        return {(name, row["url"]): row for name in (CODE_SYSTEMS, VALUE_SETS) for row in own_definitions(name)}

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        """The current versions of what is stored or packaged under some URLs; one command."""
        return await self._source.stamps(resource_type, urls)

    async def held(self, resource_type: str, url: str) -> list[Held]:
        """What is stored or packaged under a URL, the best one first."""
        return await self._read(await self.stamps(resource_type, [url]))

    async def _read(self, stamps: Collection[Stamp]) -> list[Held]:
        found = {stamp: known for stamp in stamps if (known := self._definitions.get(stamp)) is not None}
        missing = [stamp for stamp in stamps if stamp not in found]
        if missing:
            by_key = {(stamp.type, stamp.id): stamp for stamp in missing}
            for held in await self._source.read(missing):
                stamp = by_key[held.content["resourceType"], held.id]
                if stamp.type != CODE_SYSTEMS:  # those are kept as what they are asked as
                    self._definitions.put(stamp, held)
                found[stamp] = held
        return sorted(found.values(), key=rank_of_held, reverse=True)

    async def definition(self, resource_type: str, canonical: str) -> Json | None:
        """A value set or concept map by its canonical URL, with `|version` or without."""
        url, _, version = canonical.partition("|")
        for held in await self.held(resource_type, url):
            if version in ("", str(held.content.get("version") or "")):
                return held.content
        carried = self._carried.get((resource_type, url))
        if carried is not None and version in ("", carried.get("version")):
            return carried
        row = self._digest[VALUE_SETS].get(url) if resource_type == VALUE_SETS else None
        return value_set_of(row) if row is not None and version in ("", row.get("version")) else None

    async def of_id(self, resource_type: str, resource_id: str) -> Json | None:
        """A definition that is stored here, by its id."""
        found = await self._source.read([Stamp(resource_type, resource_id, _ANY)])
        return found[0].content if found else None

    async def code_systems(self, urls: Collection[str]) -> tuple[dict[str, list[Ranked]], set[str]]:
        """What is held in memory of some code systems, the best of each first; and the addresses of big ones.

        One command, where nothing has changed.
        """
        current = await self.stamps(CODE_SYSTEMS, urls) if urls else ()
        stamps = [stamp for stamp in current if not stamp.is_big]
        known = {stamp: ranked for stamp in stamps if (ranked := self._systems.get(stamp)) is not None}
        unread = {stamp.id: stamp for stamp in stamps if stamp not in known}
        if unread:
            for held in await self._source.read(list(unread.values())):
                # Thousands of concepts take long to read; other requests go on meanwhile.
                system = await asyncio.to_thread(system_of, held.content)
                stamp = unread[held.id]
                known[stamp] = (held.content.get("content") == "complete", *rank_of_held(held)), system
                self._systems.put(stamp, known[stamp])
        found: dict[str, list[Ranked]] = {url: [] for url in urls}
        for rank, system in known.values():
            if system.size:
                found.setdefault(system.about.url, []).append((rank, system))
        for url, several in found.items():
            if (own := self.own_system(url)) is not None:
                several.append((_OWN_RANK, own))
            several.sort(key=lambda row: row[0], reverse=True)
        return found, {f"{CODE_SYSTEMS}/{stamp.id}" for stamp in current if stamp.is_big}

    def own_system(self, url: str) -> MemorySystem | None:
        """A code system of the specification itself, or of this server's own."""
        held = self._own.get(url)
        if held is not None:
            return held
        resource = self._carried.get((CODE_SYSTEMS, url))
        if resource is None:
            row = self._digest[CODE_SYSTEMS].get(url)
            if row is None or not row["concepts"]:
                return None
            resource = resource_of(row)
        # Two threads may both build it; either result serves.
        return self._own.setdefault(url, system_of(resource))

    @cached_property
    def own_systems(self) -> list[tuple[str, str]]:
        """The code systems of the specification whose codes are held, and this server's own, with their versions."""
        rows = [row for row in self._digest[CODE_SYSTEMS].values() if row["concepts"]]
        rows += [row for (name, _), row in self._carried.items() if name == CODE_SYSTEMS]
        return sorted((row["url"], str(row.get("version") or "")) for row in rows)


def rank_of_held(held: Held) -> tuple[bool, bool, bool, VersionRank, bool]:
    """What several versions of a definition are ordered by, the one that is meant where none is named last."""
    content = held.content
    version = str(content.get("version") or "")
    return content.get("status") != "retired", held.preferred, bool(version), rank_of(version), held.version > 0
