"""Reading resources one by one, and their history: the half of the repository that changes nothing."""

from __future__ import annotations

from typing import Protocol

from fhir_server.model.access import Verb
from fhir_server.model.errors import NotFoundError
from fhir_server.repository.changes import gone, not_found
from fhir_server.repository.history import HistoryPage, HistoryQuery, HistoryStore, history_page
from fhir_server.storage.document import Version


class ReadStore(HistoryStore, Protocol):
    """Where versions are read: the store itself, or a transaction under way."""

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None: ...
    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None: ...


class Reading:
    """Reads from a store, or from a transaction under way."""

    def __init__(self, reads: ReadStore) -> None:
        self._reads = reads

    async def read(self, resource_type: str, resource_id: str) -> Version:
        """The current version.

        Raises:
            NotFoundError: 404; there never was one.
            GoneError: 410; it was deleted.
        """
        version = await self._reads.get(resource_type, resource_id)
        if version is None:
            raise not_found(resource_type, resource_id)
        if version.deleted:
            raise gone(version)
        return version

    async def current(self, resource_type: str, resource_id: str) -> Version | None:
        """The current version, which may be a deletion; None where nothing ever was."""
        return await self._reads.get(resource_type, resource_id)

    async def vread(self, resource_type: str, resource_id: str, version_id: str) -> Version:
        """One version by its number.

        Raises:
            NotFoundError: 404; no such resource or version.
            GoneError: 410; that version is a deletion.
        """
        current = await self._reads.get(resource_type, resource_id)
        if current is None:
            raise not_found(resource_type, resource_id)
        wanted = int(version_id) if version_id.isascii() and version_id.isdigit() and len(version_id) < 10 else -1
        version: Version | None = current
        if wanted != current.version:
            version = await self._reads.past(resource_type, resource_id, wanted) if wanted > 0 else None
        if version is None or version.version > current.version:
            raise NotFoundError(
                f"{resource_type}/{resource_id} has no version {version_id!r}; the current one is {current.version}.",
                key="HS-READ-VERSION",
            )
        if version.deleted:
            raise gone(version)
        return version

    async def collections(self) -> list[str]:
        """The resource types of which there is, or was, any; one command."""
        return await self._reads.collections()

    async def history(self, query: HistoryQuery) -> HistoryPage:
        return await history_page(self._reads, query)
