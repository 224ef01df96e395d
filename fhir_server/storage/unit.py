"""One MongoDB transaction: reads of a snapshot, locks on criteria, and writes that all happen or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

from pymongo import InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError

from fhir_server.model.access import Verb
from fhir_server.model.errors import ConflictError, InvalidError
from fhir_server.storage.document import (
    BLOBS,
    DUPLICATE_KEY,
    FIELDS,
    HISTORY,
    LOCKS,
    UPLOADS,
    Blob,
    Version,
    past_version_of,
    version_of,
)
from fhir_server.storage.quarantine import Quarantine
from fhir_server.storage.unit_rows import UnitRows

#: What one command carries: the driver splits by 48 MB, and smaller portions keep memory flat.
PORTION = 1000

Keys = Sequence[tuple[str, int]]


class Unit:
    """What `Store.transact` hands to its work. The methods raise the driver's errors, so that it can try again."""

    def __init__(self, database: Any, session: Any, max_time_ms: int) -> None:
        #: Checks by name; whoever writes adds to them.
        self.ends: dict[str, Callable[[], Awaitable[None]]] = {}
        #: Called once when the transaction is committed; they must not fail.
        self.committed: list[Callable[[], None]] = []
        self._database = database
        self._session = session
        self._max_time_ms = max_time_ms

    async def end(self) -> None:
        """Look at what is to be looked at when all is written, just before the commit: the checks in `ends`."""
        for check in self.ends.values():
            await check()

    async def settle(self, blobs: Sequence[Blob]) -> None:
        """Versions of this transaction name the blobs: they stay when it commits."""
        if blobs:
            await Quarantine(self._database[f"{BLOBS}.files"]).named([b.id for b in blobs], self._session)
            await self._database[UPLOADS].delete_many({"_id": {"$in": [b.id for b in blobs]}}, session=self._session)

    async def retell(self, blobs: Sequence[Blob]) -> None:
        """Documents of this transaction name contents that were examined before: see `Quarantine.retell`."""
        await Quarantine(self._database[f"{BLOBS}.files"]).retell([b.id for b in blobs], self._session)

    def rows(self, collection: str) -> UnitRows:
        """A collection of the server's own, such as `Store.rows` gives, within this transaction."""
        return UnitRows(self._database[collection], self._session)

    async def lock(self, keys: Sequence[str]) -> None:
        """Hold criteria until the transaction ends.

        Two transactions that write one lock row conflict, and the later one starts again with a snapshot in which it
        sees what the first has made. There is nothing to release and nothing that a crash leaves behind.
        """
        for key in sorted(set(keys)):
            await self._database[LOCKS].update_one(
                {"_id": key}, {"$set": {"t": datetime.now(UTC)}, "$inc": {"n": 1}}, upsert=True, session=self._session
            )

    async def put_row(self, collection: str, row_id: str, fields: Mapping[str, Any], *gone: str) -> None:
        """Set fields of a row of the server's own (`Store.rows`), which is made when it is not there; some go."""
        change: dict[str, Any] = {"$set": dict(fields)}
        if gone:
            change["$unset"] = dict.fromkeys(gone, "")
        await self._database[collection].update_one({"_id": row_id}, change, upsert=True, session=self._session)

    async def remove_row(self, collection: str, row_id: str) -> None:
        await self._database[collection].delete_one({"_id": row_id}, session=self._session)

    @property
    def unguarded(self) -> Unit:
        """The transaction that nothing is hidden from: itself, but for those that hold to an access policy."""
        return self

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        """Whether something of a type is hidden from this verb."""
        return False

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None:
        return (await self.get_many(resource_type, [resource_id], verb)).get(resource_id)

    async def get_many(self, resource_type: str, ids: Sequence[str], verb: Verb = "r") -> dict[str, Version]:
        """The current versions of some ids, deletions included; `verb` as for `Store.get`."""
        cursor = self._database[resource_type].find({"_id": {"$in": list(ids)}}, FIELDS, session=self._session)
        return {d["_id"]: version_of(resource_type, d) for d in await cursor.to_list()}

    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None:
        key = f"{resource_type}/{resource_id}/{version}"
        document = await self._database[HISTORY].find_one({"_id": key}, session=self._session)
        return past_version_of(document) if document else None

    async def past_many(self, resource_type: str, rows: Sequence[tuple[str, int]]) -> dict[str, Version]:
        """Versions that are no longer current, `(id, version)`, one of an id; by id, where they are."""
        keys = [f"{resource_type}/{resource_id}/{version}" for resource_id, version in rows]
        cursor = self._database[HISTORY].find({"_id": {"$in": keys}}, session=self._session)
        return {d["i"]: past_version_of(d) for d in await cursor.to_list()}

    async def snapshot(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Aggregate over several collections as this transaction sees them."""
        return await self.aggregate(collection, pipeline)

    async def collections(self) -> list[str]:
        """The resource types that have a collection, sorted."""
        names = await self._database.list_collection_names(filter={"name": {"$not": {"$regex": "^[_a-z]"}}})
        return sorted(names)

    # A transaction runs one command after another: what `shared` allows elsewhere is not possible here.

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Keys,
        limit: int,
        fields: Mapping[str, Any] = FIELDS,
        shared: bool = False,
    ) -> list[dict[str, Any]]:
        cursor = self._database[resource_type].find(
            filter,
            fields,
            sort=list(sort) or None,
            limit=limit,
            batch_size=limit + 1,
            max_time_ms=self._max_time_ms,
            session=self._session,
        )
        return list(await cursor.to_list())

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]:
        """What a pipeline gives. MongoDB has no `$unionWith` inside a transaction, so unions are made here.

        Raises:
            InvalidError: 400; behind a union stands what only the database could do.
        """
        head = list(pipeline[: _first_union(pipeline)])
        cursor = await self._database[resource_type].aggregate(head, session=self._session, maxTimeMS=self._max_time_ms)
        rows = list(await cursor.to_list())
        for stage in pipeline[len(head) :]:
            match dict(stage):
                case {"$unionWith": {"coll": name, "pipeline": part}}:
                    rows += await self.aggregate(name, part)
                case {"$sort": order}:
                    for field, direction in reversed(order.items()):
                        rows.sort(key=itemgetter(field), reverse=direction < 0)
                case {"$limit": limit}:
                    rows = rows[:limit]
                case _:
                    raise InvalidError(
                        "This read is not possible inside a transaction; send it by itself.",
                        code="not-supported",
                        key="HS-TXN-READ",
                    )
        return rows

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        options: dict[str, Any] = {"maxTimeMS": self._max_time_ms} | ({} if limit is None else {"limit": limit})
        return int(await self._database[resource_type].count_documents(filter, session=self._session, **options))

    async def estimate(self, resource_type: str) -> int:
        """An exact count: MongoDB has no estimate inside a transaction."""
        return await self.count(resource_type, {})

    async def write(self, changes: Sequence[tuple[Version, Version | None]]) -> None:
        """Make versions current, each in place of the one beside it, or where nothing is yet.

        Raises:
            ConflictError: 409; one of them is not (or no longer) what the writer saw.
        """
        by_type: dict[str, list[tuple[Version, Version | None]]] = {}
        for change in changes:
            by_type.setdefault(change[0].type, []).append(change)
        past = [old for _, old in changes if old is not None]
        for start in range(0, len(past), PORTION):
            await self._keep(past[start : start + PORTION])
        for resource_type, rows in by_type.items():
            for start in range(0, len(rows), PORTION):
                await self._write_portion(resource_type, rows[start : start + PORTION])

    async def _keep(self, versions: Sequence[Version]) -> None:
        """Copy versions to the history; a copy that a crashed writer left there is replaced by the same content."""
        documents = [v.history_document() for v in versions]
        await self._database[HISTORY].bulk_write(
            [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in documents], ordered=False, session=self._session
        )

    async def _write_portion(self, resource_type: str, rows: list[tuple[Version, Version | None]]) -> None:
        collection = self._database[resource_type]
        requests: list[InsertOne[dict[str, Any]] | ReplaceOne[dict[str, Any]]] = [
            InsertOne(new.current_document())
            if old is None
            else ReplaceOne({"_id": new.id, "v": old.version}, new.current_document())
            for new, old in rows
        ]
        try:
            result = await collection.bulk_write(requests, ordered=False, session=self._session)
        except BulkWriteError as error:
            refused = [e for e in (error.details or {}).get("writeErrors", []) if e["code"] == DUPLICATE_KEY]
            if not refused:
                raise
            new = rows[int(refused[0]["index"])][0]
            raise ConflictError(
                f"{new.type}/{new.id} was made by another request at the same time; try again.",
                key="HS-STORE-CONFLICT",
            ) from error
        if result.matched_count + result.inserted_count != len(rows):
            raise ConflictError(
                f"A {resource_type} of this transaction was changed by another request at the same time; try again.",
                key="HS-STORE-CONFLICT",
            )


def _first_union(pipeline: Sequence[Mapping[str, Any]]) -> int:
    return next((n for n, stage in enumerate(pipeline) if "$unionWith" in stage), len(pipeline))
