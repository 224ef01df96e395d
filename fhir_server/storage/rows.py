"""Small collections of the server's own, beside the resources: jobs, leases, the state of search parameters.

Moments that several processes compare are the database's (`NOW`): clocks of different machines disagree.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from pymongo import IndexModel

from fhir_server.storage.database import translated

#: The comment of commands that no request asked for.
WATCH = "watch"

#: The database's own time, in the expressions of `change`.
NOW = "$$NOW"

Row = dict[str, Any]


def plain(fields: Mapping[str, Any]) -> Row:
    """Fields as they are, for `change`, where a text that begins with `$` would be taken for an expression."""
    return {name: {"$literal": value} for name, value in fields.items()}


class Rows:
    """Documents by `_id`, in one collection whose name begins with an underscore."""

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    async def get(self, row_id: str) -> Row | None:
        with translated():
            found: Row | None = await self._collection.find_one({"_id": row_id})
        return found

    async def put(self, row_id: str, fields: Mapping[str, Any]) -> None:
        """Set fields of a row, which is made when it is not there."""
        with translated():
            await self._collection.update_one({"_id": row_id}, {"$set": dict(fields)}, upsert=True)

    async def put_all(self, filter: Mapping[str, Any], fields: Mapping[str, Any]) -> int:
        """Set fields of all rows that match; how many there are."""
        with translated():
            return int((await self._collection.update_many(filter, {"$set": dict(fields)})).matched_count)

    async def add(self, rows: Sequence[Row]) -> None:
        """Insert rows with new ids."""
        if rows:
            with translated():
                await self._collection.insert_many([*rows], ordered=False)

    async def make(self, row_id: str, fields: Mapping[str, Any], *, comment: str | None = None) -> None:
        """Make a row; one that is there stays as it is."""
        with translated():
            await self._collection.update_one(
                {"_id": row_id}, {"$setOnInsert": dict(fields)}, upsert=True, comment=comment
            )

    async def change(
        self,
        row_id: str,
        where: Mapping[str, Any],
        fields: Mapping[str, Any],
        *,
        comment: str | None = None,
        shown: Sequence[str] | None = None,
    ) -> Row | None:
        """Set fields of a row where a condition holds; the row afterwards, or None where it does not.

        Of several callers at once, whose fields end the condition, one gets the row.

        Args:
            fields: by name, expressions of MongoDB; what is meant as it is goes through `plain`.
            shown: the fields of the row that are wanted; all of them when None.
        """
        with translated():
            row: Row | None = await self._collection.find_one_and_update(
                {"_id": row_id, **where},
                [{"$set": dict(fields)}],
                projection=None if shown is None else {"_id": 1, **dict.fromkeys(shown, 1)},
                return_document=True,
                comment=comment,
            )
        return row

    async def all(
        self,
        filter: Mapping[str, Any] | None = None,
        *,
        newest_by: str = "_id",
        limit: int = 1000,
        hidden: Sequence[str] = (),
    ) -> list[Row]:
        """Rows that match, the newest first, without the fields `hidden`."""
        with translated():
            cursor = self._collection.find(
                filter or {}, dict.fromkeys(hidden, 0) or None, sort=[(newest_by, -1)], limit=limit
            )
            return list(await cursor.to_list())

    async def page(
        self,
        filter: Mapping[str, Any],
        by: str,
        *,
        skip: int = 0,
        limit: int,
        shown: Sequence[str],
        max_time_ms: int,
        hint: str | None = None,
    ) -> list[Row]:
        """Some fields of the rows that match, in the order of a field; for filters that may take long.

        Args:
            hint: the index to go by, where it is known to be the right one
        """
        with translated():
            cursor = self._collection.find(
                filter,
                dict.fromkeys(shown, 1),
                sort=[(by, 1)],
                skip=skip,
                limit=limit,
                max_time_ms=max_time_ms,
                hint=hint,
            )
            return list(await cursor.to_list())

    async def count(
        self, filter: Mapping[str, Any], *, most: int | None = None, max_time_ms: int, hint: str | None = None
    ) -> int:
        """How many rows match, counted no further than `most`; `hint` as for `page`."""
        options: dict[str, Any] = {"maxTimeMS": max_time_ms}
        options |= ({} if most is None else {"limit": most}) | ({} if hint is None else {"hint": hint})
        with translated():
            return int(await self._collection.count_documents(filter, **options))

    async def each(self, filter: Mapping[str, Any]) -> AsyncIterator[Row]:
        """All rows that match, however many, in the order of their ids."""
        with translated():
            async for row in self._collection.find(filter, sort=[("_id", 1)]):
                yield row

    async def oldest(self, filter: Mapping[str, Any], by: str) -> Row | None:
        """The row that matches and is the oldest by a field; its `_id` alone."""
        with translated():
            found: Row | None = await self._collection.find_one(filter, {"_id": 1}, sort=[(by, 1)], comment=WATCH)
        return found

    async def first(self, filter: Mapping[str, Any], by: str, limit: int) -> list[Row]:
        """The rows that match and are the oldest by a field, the oldest first."""
        with translated():
            return list(await self._collection.find(filter, sort=[(by, 1)], limit=limit, comment=WATCH).to_list())

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

    async def remove_all(self, filter: Mapping[str, Any], *, comment: str | None = None) -> int:
        """Remove the rows that match; how many there were."""
        with translated():
            return int((await self._collection.delete_many(filter, comment=comment)).deleted_count)

    async def index(self, *fields: str) -> None:
        """Have an index by some fields."""
        with translated():
            await self._collection.create_indexes([IndexModel([(field, 1) for field in fields], name="-".join(fields))])

    async def forget_after(self, field: str) -> None:
        """Have rows removed once the moment in a field has passed; those without the field stay."""
        with translated():
            await self._collection.create_indexes([IndexModel([(field, 1)], name=field, expireAfterSeconds=0)])
