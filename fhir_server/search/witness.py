"""Notes what a search asks of the database, to explain it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhir_server.search.execute import SearchStore
from fhir_server.storage.document import FIELDS

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """One command: the collection that it is sent to, and what it says."""

    resource_type: str
    command: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Witness:
    """A store that hands everything on; commands go one by one, so that each can be explained."""

    store: SearchStore
    asked: list[Asked] = field(default_factory=list)

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]],
        limit: int,
        fields: Mapping[str, Any] = FIELDS,
        shared: bool = False,
    ) -> list[Row]:
        command = {"find": resource_type, "filter": filter, "sort": dict(sort), "limit": limit}
        self.asked.append(Asked(resource_type, command))
        return await self.store.find(resource_type, filter, sort=sort, limit=limit, fields=fields)

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[Row]:
        command = {"aggregate": resource_type, "pipeline": list(pipeline), "cursor": {}}
        self.asked.append(Asked(resource_type, command))
        return await self.store.aggregate(resource_type, pipeline)

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        stages: list[Mapping[str, Any]] = [{"$match": filter}, *([{"$limit": limit}] if limit else []), {"$count": "n"}]
        self.asked.append(Asked(resource_type, {"aggregate": resource_type, "pipeline": stages, "cursor": {}}))
        return await self.store.count(resource_type, filter, limit)

    async def collections(self) -> list[str]:
        return await self.store.collections()

    async def estimate(self, resource_type: str) -> int:
        return await self.store.estimate(resource_type)
