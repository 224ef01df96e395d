"""The alerts of a threshold, as rows: which were raised, for which episodes, and by which resources.

One row for each episode, named by the threshold and the Observation that began it, so that two processes cannot raise
one twice; all alerts of a threshold are looked at and changed under one lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.repository.repository import Change, FailedChangeError
from fhir_server.storage.rows import Row
from fhir_server.storage.unit import Unit
from resources.monitoring.compare import Raised

Json = dict[str, Any]

#: The collection of the rows.
ALERTS = "_alerts"

#: What an alert is made of.
TYPES = ("DetectedIssue", "Flag", "Task", "Communication")


def row_id(plan_id: str, observation_id: str) -> str:
    return f"{plan_id}/{observation_id}"


def raised_of(row: Row) -> Raised:
    return Raised(row["_id"], row["start"], row["end"])


class Ledger:
    """The rows and resources of one threshold's alerts, inside a transaction."""

    def __init__(self, context: Context, unit: Unit, plan_id: str) -> None:
        self._context = context
        self._unit = unit
        self._rows = unit.rows(ALERTS)
        self._plan_id = plan_id

    async def lock(self) -> None:
        await self._unit.lock([f"alerts:{self._plan_id}"])

    async def rows(self) -> list[Row]:
        # "0" comes after "/".
        return await self._rows.find({"_id": {"$gte": f"{self._plan_id}/", "$lt": f"{self._plan_id}0"}})

    async def row(self, alert_id: str) -> Row | None:
        return await self._rows.get(alert_id)

    async def add(self, row: Row) -> None:
        await self._rows.add([row])

    async def put(self, alert_id: str, **fields: Any) -> None:
        await self._rows.put(alert_id, fields)

    async def write(self, resources: Sequence[Json]) -> None:
        """Make new resources."""
        await self._commit([Change("POST", r["resourceType"], r["id"], r, fresh=True) for r in resources])

    async def alter(self, reference: str, alter: Callable[[Json], Json | None]) -> None:
        """Change a resource that is still there; `alter` gives None to leave it."""
        resource_type, _, resource_id = reference.partition("/")
        version = await self._unit.get(resource_type, resource_id)
        if version is None or version.body is None:
            return
        new = alter(codec.decode(version.body))
        if new is not None:
            await self._commit([Change("PUT", resource_type, resource_id, new, if_match=version.version)])

    async def read(self, reference: str) -> Json | None:
        resource_type, _, resource_id = reference.partition("/")
        version = await self._unit.get(resource_type, resource_id)
        found: Json | None = codec.decode(version.body) if version is not None and version.body is not None else None
        return found

    async def _commit(self, changes: Sequence[Change]) -> None:
        repository = self._context.repository
        try:
            await repository.commit_within(self._unit, [repository.check(change) for change in changes])
        except FailedChangeError as failed:
            raise failed.cause from failed
