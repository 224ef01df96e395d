"""Small collections of the server's own, beside the resources: jobs, the state of search parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.storage.database import translated

#: The comment of commands that no request asked for.
WATCH = "watch"


class Rows:
    """Documents by `_id`, in one collection whose name begins with an underscore."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def get(self, row_id: str) -> dict[str, Any] | None:
        with translated():
            found: dict[str, Any] | None = await self._collection.find_one({"_id": row_id})
        return found

    async def put(self, row_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a row, which is made when it is not there."""
        with translated():
            await self._collection.update_one({"_id": row_id}, {"$set": dict(fields)}, upsert=True)

    async def all(
        self, filter: Mapping[str, Any] | None = None, *, newest_by: str = "_id", limit: int = 1000
    ) -> list[dict[str, Any]]:
        """Rows that match, the newest first."""
        with translated():
            cursor = self._collection.find(filter or {}, sort=[(newest_by, -1)], limit=limit)
            return list(await cursor.to_list())

    async def newest(self, field: str) -> int:
        """The highest number in a field that has an index; 0 where there is none."""
        with translated():
            found = await self._collection.find_one({}, {field: 1}, sort=[(field, -1)], comment=WATCH)
        return int(found[field]) if found else 0

    async def ids(self) -> list[str]:
        """All ids, of a collection that has few."""
        with translated():
            return [row["_id"] for row in await self._collection.find({}, {"_id": 1}, comment=WATCH).to_list()]

    async def remove(self, row_id: str) -> None:
        with translated():
            await self._collection.delete_one({"_id": row_id})
