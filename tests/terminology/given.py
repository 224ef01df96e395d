"""A source of definitions for tests: those that are given, as if they were stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import Stamp

Json = dict[str, Any]


class Given:
    """Holds definitions by number; `put` adds one, in place of that with its id."""

    def __init__(self, resources: Iterable[Json] = ()) -> None:
        self._held: dict[str, Held] = {}
        self.asked = 0
        for resource in resources:
            self.put(resource)

    def put(self, resource: Json) -> None:
        key = str(resource.get("id") or f"n{len(self._held)}")
        before = self._held.get(key)
        self._held[key] = Held(key, before.version + 1 if before else 1, str(resource.get("url") or ""), resource)

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        self.asked += 1
        return [
            Stamp(resource_type, held.id, held.version)
            for held in self._held.values()
            if held.content["resourceType"] == resource_type and held.url in urls
        ]

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        return [self._held[stamp.id] for stamp in stamps if stamp.id in self._held]
