"""The records that accounts are tied to, for the sign-in side: it asks for them here and knows no repository.

These are the server's own reads and writes, for whoever registers; what users see is filtered elsewhere.
"""

from __future__ import annotations

from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.repository.repository import Change, Repository


class RepositoryRecords:
    """Reads and writes single resources, whole and validated."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def read(self, reference: str) -> dict[str, Any] | None:
        """A resource, whoever asks; None when it is not there, or was deleted."""
        resource_type, _, resource_id = reference.partition("/")
        version = await self._repository.current(resource_type, resource_id)
        if version is None or version.body is None:
            return None
        resource: dict[str, Any] = codec.decode(version.body)
        return resource

    async def create(self, resource: dict[str, Any], agent: str) -> str:
        """Create a resource; its reference.

        Raises:
            FhirError: it is not valid.
        """
        change = Change("POST", resource["resourceType"], new_id(), resource, fresh=True)
        version = (await self._repository.commit(change)).version
        return f"{version.type}/{version.id}"

    async def update(self, resource: dict[str, Any], agent: str) -> None:
        """Make a new version of a resource that was read.

        Raises:
            VersionConflictError: 409; it was changed since it was read.
            FhirError: it is not valid.
        """
        read = resource.get("meta", {}).get("versionId")
        await self._repository.commit(
            Change(
                "PUT",
                resource["resourceType"],
                resource["id"],
                resource,
                if_match=int(read) if read else None,
            )
        )
