"""Rows of the server's own inside a transaction: what is written along with resources, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import BulkWriteError

from fhir_server.model.errors import ConflictError
from fhir_server.storage.refused import row_errors
from fhir_server.storage.rows import Row


class TakenError(ConflictError):
    """409: somebody else has made a row of that id, or of that unique key, before.

    Attributes:
        ids: of the rows that could not be made
    """

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__("Another request was faster; read what there is now and try again.", key="HS-STORE-TAKEN")
        self.ids = tuple(ids)


class UnitRows:
    """Documents by `_id`, as one transaction sees and changes them.

    The methods raise the driver's errors, so that the transaction can be tried again.
    """

    def __init__(self, collection: Any, session: Any) -> None:
        self._collection = collection
        self._session = session

    async def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make rows, each with its `_id`.

        Raises:
            TakenError: 409; one is there already. The transaction must be given up.
        """
        if not rows:
            return
        try:
            await self._collection.insert_many([dict(row) for row in rows], session=self._session)
        except BulkWriteError as error:
            raise TakenError([str(rows[n]["_id"]) for n in row_errors(error)]) from error

    async def get(self, row_id: str) -> Row | None:
        found: Row | None = await self._collection.find_one({"_id": row_id}, session=self._session)
        return found

    async def find(self, filter: Mapping[str, Any], *, limit: int = 0) -> list[Row]:
        """Rows that match, in the order of their ids; all of them when there is no limit."""
        cursor = self._collection.find(dict(filter), sort=[("_id", 1)], limit=limit, session=self._session)
        return list(await cursor.to_list())

    async def put(self, row_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a row, which is made when it is not there."""
        await self._collection.update_one({"_id": row_id}, {"$set": dict(fields)}, upsert=True, session=self._session)

    async def change(self, row_id: str, where: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
        """Set fields of a row where a condition holds; whether it did."""
        result = await self._collection.update_one(
            {"_id": row_id, **where}, {"$set": dict(fields)}, session=self._session
        )
        return bool(result.matched_count)

    async def remove(self, filter: Mapping[str, Any]) -> int:
        """Remove the rows that match; how many these were."""
        result = await self._collection.delete_many(dict(filter), session=self._session)
        return int(result.deleted_count)
