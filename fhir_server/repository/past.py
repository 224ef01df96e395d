"""The definitions that were stored here, or came in packages, at a moment of the past.

What has not changed since is found by its index entries; of what has, the version of that moment is read from the
history, all of a type, since the history is not indexed by URL. Where something came or went that leaves no history (a
package), what was in force before is not known, and that is said.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html (date)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fhir_server.repository.packages import HeldDefinitions, Packages
from fhir_server.repository.profiles import MOST, StoredDefinitions, held_of
from fhir_server.search.types.conditions import any_of
from fhir_server.storage.document import HISTORY
from fhir_server.storage.store import Store
from fhir_server.terminology.past import lost
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import Stamp

#: So many definitions of a type may have changed since.
MOST_CHANGED = 2_000

#: Versions that are looked at for one portion of ids.
_PORTION = 100
_MOST_VERSIONS = 10_000


class PastDefinitions:
    """Finds definitions as they were; for one request, within which what was read is kept."""

    def __init__(self, store: Store, packages: Packages, moment_us: int) -> None:
        self._store = store
        self._packages = packages
        self._held = HeldDefinitions(StoredDefinitions(store), packages)
        self._moment_us = moment_us
        self._changed: dict[str, list[Held]] = {}
        self._known: dict[tuple[str, str], Held] = {}

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        """The versions that were current of all definitions of a type with one of the URLs.

        Raises:
            UnprocessableError: 422; packages have changed since, or too many definitions.
        """
        if not urls:
            return ()
        stamps = await self._packaged(resource_type, urls)
        same = await self._current(resource_type, any_of("x.url", sorted(urls)))
        for held in (*same, *(held for held in await self._changed_of(resource_type) if held.url in urls)):
            self._known[resource_type, held.id] = held
            # Whatever its size, it is read: rows are of what is current alone.
            stamps.append(Stamp(resource_type, held.id, held.version, held.write))
        return stamps

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        found: list[Held] = []
        packaged: list[Stamp] = []
        for stamp in stamps:
            known = self._known.get((stamp.type, stamp.id))
            if known is not None:
                found.append(known)
            elif stamp.version == 0:
                packaged.append(stamp)
            else:
                found += await self._by_id(stamp.type, stamp.id)
        return [*found, *(await self._held.read(packaged) if packaged else ())]

    async def _packaged(self, resource_type: str, urls: Collection[str]) -> list[Stamp]:
        entries = self._packages.catalogue.entries(resource_type, urls)
        added_us = {package.id: package.added_us for package in self._packages.catalogue.packages}
        later = [entry.package for entry in entries if added_us[entry.package] > self._moment_us]
        if later:
            raise lost(self._moment_us, f"the package {later[0]} was installed after that")
        if await self._packages.gone_us() > self._moment_us:
            raise lost(self._moment_us, "a package was removed after that")
        return [Stamp(resource_type, entry.id, 0) for entry in entries]

    async def _current(self, resource_type: str, condition: Mapping[str, Any]) -> list[Held]:
        """What meets a condition now, and was the same then."""
        rows = await self._store.find(
            resource_type,
            {**condition, "t": {"$lte": self._moment_us}},
            sort=[("_id", 1)],
            limit=MOST,
            fields={"v": 1, "w": 1, "r": 1},
        )
        return [held_of(row["_id"], row) for row in rows if row.get("r") is not None]

    async def _by_id(self, resource_type: str, resource_id: str) -> list[Held]:
        found = await self._current(resource_type, {"_id": resource_id})
        return found or await self._before(resource_type, [resource_id])

    async def _changed_of(self, resource_type: str) -> list[Held]:
        """All definitions of a type that have changed since, as they were."""
        if resource_type not in self._changed:
            rows = await self._store.find(
                resource_type,
                {"t": {"$gt": self._moment_us}},
                sort=[("_id", 1)],
                limit=MOST_CHANGED + 1,
                fields={"_id": 1},
            )
            if len(rows) > MOST_CHANGED:
                why = f"more than {MOST_CHANGED:,} resources of the type {resource_type} have changed since"
                raise lost(self._moment_us, why)
            ids = [row["_id"] for row in rows]
            found: list[Held] = []
            for start in range(0, len(ids), _PORTION):
                found += await self._before(resource_type, ids[start : start + _PORTION])
            self._changed[resource_type] = found
        return self._changed[resource_type]

    async def _before(self, resource_type: str, ids: Sequence[str]) -> list[Held]:
        """The versions of the moment, of what has a later one; a deletion is none."""
        then = {"y": resource_type, "i": {"$in": list(ids)}, "t": {"$lte": self._moment_us}}
        rows = await self._store.find(
            HISTORY, then, sort=[("y", 1), ("i", 1), ("v", 1)], limit=_MOST_VERSIONS + 1, fields={"i": 1}
        )
        if len(rows) > _MOST_VERSIONS:
            raise lost(self._moment_us, f"resources of the type {resource_type} have changed too often")
        last = {row["i"]: row["_id"] for row in rows}  # in the order of versions
        if not last:
            return []
        keys = list(last.values())
        rows = await self._store.find(
            HISTORY, {"_id": {"$in": keys}}, sort=[("_id", 1)], limit=len(keys), fields={"i": 1, "v": 1, "w": 1, "r": 1}
        )
        by_key = {row["_id"]: row for row in rows if row.get("r") is not None}
        return [held_of(by_key[key]["i"], by_key[key]) for key in keys if key in by_key]
