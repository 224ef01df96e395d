"""Reads of current versions by id, gathered: what arrives while a command is under way goes as one `$in`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fhir_server.storage.database import translated
from fhir_server.storage.document import FIELDS, Version, version_of
from fhir_server.storage.gather import PARALLEL, Gather

#: Conditions whose reads are gathered; the oldest is forgotten first.
CONDITIONS = 5_000

Condition = Mapping[str, Any]
Reading = Gather[str, Version | None]

#: A body that is longer is fetched for those alone who may see it: how long a read takes must not tell others of it.
LONG = 64 * 1024
SHORT_BODY = {
    "r": {"$cond": [{"$lt": [{"$binarySize": {"$ifNull": ["$r", b""]}}, LONG]}, "$r", "$$REMOVE"]},
}

#: A version, without a long body, and the document with what was fetched of its index entries.
WithEntries = tuple[Version, dict[str, Any]]


class CurrentReads:
    """Reads of one database, by type, and by the condition that a document must meet to be seen."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._plain: dict[str, Reading] = {}
        self._with_entries: dict[tuple[str, tuple[str, ...]], Gather[str, WithEntries | None]] = {}
        self._conditional: dict[tuple[str, int], tuple[Condition, Reading]] = {}

    async def get(self, resource_type: str, resource_id: str, condition: Condition | None = None) -> Version | None:
        """The current version, which may be a deletion; None where nothing is, or what is does not meet the condition.

        Reads under one condition, the same object each time, are gathered together.
        """
        if condition is not None:
            return await self._under(resource_type, condition)(resource_id)
        gather = self._plain.get(resource_type)
        if gather is None:
            gather = self._plain[resource_type] = Gather(self._reader(resource_type, None), parallel=PARALLEL)
        return await gather(resource_id)

    async def with_entries(self, resource_type: str, resource_id: str, entries: tuple[str, ...]) -> WithEntries | None:
        """The current version with some fields of its index entries; reads for which these are the same go together.

        Of a version that is longer than `LONG` the body is left out.
        """
        key = (resource_type, entries)
        gather = self._with_entries.get(key)
        if gather is None:
            if len(self._with_entries) >= CONDITIONS:
                self._with_entries.pop(next(iter(self._with_entries)))
            gather = self._with_entries[key] = Gather(self._entries_reader(resource_type, entries), parallel=PARALLEL)
        return await gather(resource_id)

    def _entries_reader(
        self, resource_type: str, entries: tuple[str, ...]
    ) -> Callable[[Sequence[str]], Awaitable[list[WithEntries | None]]]:
        collection = self._database[resource_type]
        fields = {**FIELDS, **SHORT_BODY, **dict.fromkeys(entries, 1)}

        async def read(ids: Sequence[str]) -> list[WithEntries | None]:
            wanted = ids[0] if len(ids) == 1 else {"$in": list(ids)}
            with translated():
                cursor = collection.find({"_id": wanted}, fields, batch_size=len(ids) + 1)
                found = {d["_id"]: (version_of(resource_type, d), d) for d in await cursor.to_list()}
            return [found.get(i) for i in ids]

        return read

    def _under(self, resource_type: str, condition: Condition) -> Reading:
        key = (resource_type, id(condition))
        known = self._conditional.get(key)
        if known is None:
            if len(self._conditional) >= CONDITIONS:
                self._conditional.pop(next(iter(self._conditional)))
            gather = Gather(self._reader(resource_type, condition), parallel=PARALLEL)
            known = self._conditional[key] = (condition, gather)  # holding the condition keeps its id its own
        return known[1]

    def _reader(
        self, resource_type: str, condition: Condition | None
    ) -> Callable[[Sequence[str]], Awaitable[list[Version | None]]]:
        collection = self._database[resource_type]

        def where(ids: Any) -> dict[str, Any]:
            return {"$and": [{"_id": ids}, condition]} if condition is not None else {"_id": ids}

        async def read(ids: Sequence[str]) -> list[Version | None]:
            with translated():
                if len(ids) == 1:
                    document = await collection.find_one(where(ids[0]), FIELDS)
                    return [version_of(resource_type, document) if document else None]
                cursor = collection.find(where({"$in": list(ids)}), FIELDS, batch_size=len(ids) + 1)
                found = {d["_id"]: version_of(resource_type, d) for d in await cursor.to_list()}
            return [found.get(i) for i in ids]

        return read
