"""The store: current versions by type, and every earlier one in the history.

How a single write is safe without a transaction is told in `storage.writes`; changes of several resources use a
MongoDB transaction (`transact`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

from pymongo import UpdateOne
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fhir_server.model.access import Verb
from fhir_server.storage.batches import Batches
from fhir_server.storage.blobs import Blobs
from fhir_server.storage.changes_stream import ChangesStream
from fhir_server.storage.database import DURABLE, Client, database_of, given_up, translated
from fhir_server.storage.document import (
    FIELDS,
    HISTORY,
    Version,
    blob_of,
    past_version_of,
)
from fhir_server.storage.gather import PARALLEL, Gather
from fhir_server.storage.indexes import IndexLike, drop_own, make_base_indexes, make_indexes
from fhir_server.storage.reads import CurrentReads
from fhir_server.storage.rows import Rows
from fhir_server.storage.shared import Finding, Found, Piping, Shared
from fhir_server.storage.unit import Unit
from fhir_server.storage.writes import LOCAL, ORDERED, SingleWrites

T = TypeVar("T")
Keys = Sequence[tuple[str, int]]


class Store:
    """The one user of the driver: all methods are safe to call from many tasks at once."""

    def __init__(
        self, client: Client, database: str, indexes_of: Callable[[str], Sequence[IndexLike]], *, max_time_ms: int
    ) -> None:
        self._client = client
        self._database = database_of(client, database)
        self._indexes_of = indexes_of
        self._max_time_ms = max_time_ms
        self.blobs = Blobs(self._database)
        self.batches = Batches(self._database)
        self.changes = ChangesStream(self._database)
        self._reads = CurrentReads(self._database)
        self._concern = DURABLE
        self._unawaited: Store | None = None
        self._writes = SingleWrites(self._database, client)
        self._past: Gather[str, Version | None] = Gather(self._read_past, parallel=PARALLEL)
        self._shared = Shared(self._find, self._aggregate)
        self._ready: dict[str, asyncio.Future[None]] = {}

    # --- set-up -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Make the indexes that the store itself needs."""
        await make_base_indexes(self._database)
        await self.blobs.open()

    async def ping(self) -> None:
        """Raise UnavailableError unless the database answers as a writable primary would."""
        with translated():
            await self._database.command("ping")

    async def ensure(self, resource_type: str) -> None:
        """Make the collection of a type and its indexes before the first write of this process to it."""
        ready = self._ready.get(resource_type)
        if ready is None or (ready.done() and (ready.cancelled() or ready.exception() is not None)):
            ready = self._ready[resource_type] = asyncio.ensure_future(
                make_indexes(self._database[resource_type], self._indexes_of(resource_type))
            )
        if not ready.done():
            await asyncio.shield(ready)
        ready.result()

    def forget(self, resource_types: Iterable[str]) -> None:
        """Look at the indexes of some types again before the next write: others are wanted now."""
        for resource_type in resource_types:
            self._ready.pop(resource_type, None)

    async def drop_unwanted(self, resource_type: str) -> None:
        """Drop the indexes of search parameters that are no longer in force."""
        await drop_own(self._database[resource_type], self._indexes_of(resource_type))

    def rows(self, collection: str) -> Rows:
        """A collection of the server's own that is not of resources, such as that of jobs."""
        return Rows(self._database[collection])

    async def collections(self) -> list[str]:
        """The resource types that have a collection, sorted."""
        with translated():
            names = await self._database.list_collection_names(filter={"name": {"$not": {"$regex": "^[_a-z]"}}})
        return sorted(names)

    async def given_up(self) -> bool:
        """Whether the database has gone: then nobody waits for it any more; for the end of the server."""
        return await given_up(self._client)

    # --- how long a write is awaited --------------------------------------------------------------------------------

    def unawaited(self) -> Store:
        """The same store for who makes something else durable behind each write before anybody is told of it.

        Its writes are acknowledged by the primary alone. What is durable later in the same oplog carries them along;
        whether it was the same, `term` tells.
        """
        if self._unawaited is None:
            other = self._unawaited = copy(self)
            other._concern = ORDERED
        return self._unawaited

    def pause_for(self, between: Callable[[], Awaitable[None]]) -> None:
        """Let unawaited writes wait for the moments between the durable ones that follow them."""
        self._writes.between = between

    @property
    def term(self) -> Any:
        """Names the term of the primary: the same before a write and after a durable one, both are in one oplog."""
        return self._writes.term

    def _awaited(self) -> WriteConcern:
        """How writes are acknowledged: behind mongos the next one may be on another shard, in another oplog."""
        return DURABLE if self._writes.sharded else self._concern

    @property
    def unguarded(self) -> Store:
        """The store that nothing is hidden from: itself, but for the stores that hold to an access policy."""
        return self

    async def limits(self, resource_type: str, verb: Verb) -> bool:
        """Whether something of a type is hidden from this verb."""
        return False

    async def visible(self, resource_type: str) -> Mapping[str, Any]:
        """The filter of what searches of a type may find: all of it, but for stores that hold to an access policy."""
        return {}

    async def require(self, new: Version, previous: Version | None, reads: Store | Unit) -> None:
        """A write is one that may be made: always, but for stores that hold to an access policy."""

    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None:
        """The current version, which may be a deletion; None when the id was never used.

        `verb` is what it is read for, which a store that holds to an access policy asks.
        """
        return await self._reads.get(resource_type, resource_id)

    async def get_where(self, resource_type: str, resource_id: str, condition: Mapping[str, Any]) -> Version | None:
        """The current version, if it meets a condition; gathered where the condition is the same object."""
        return await self._reads.get(resource_type, resource_id, condition)

    async def get_judged(
        self,
        resource_type: str,
        resource_id: str,
        entries: tuple[str, ...],
        admits: Callable[[Mapping[str, Any]], bool],
    ) -> Version | None:
        """The current version, if its document is admitted; a deletion, which has no entries to tell by, never is.

        Args:
            entries: the fields of the index entries that are read for that; reads with the same ones are gathered
        """
        while True:
            found = await self._reads.with_entries(resource_type, resource_id, entries)
            if found is None or "d" in found[1] or not admits(found[1]):
                return None
            version = found[0]
            if version.body is not None:
                return version
            whole = await self._reads.get(resource_type, resource_id)
            if whole is not None and whole.version == version.version:
                return whole

    async def past(self, resource_type: str, resource_id: str, version: int) -> Version | None:
        """A version that is no longer current."""
        return await self._past(f"{resource_type}/{resource_id}/{version}")

    async def _read_past(self, keys: Sequence[str]) -> list[Version | None]:
        with translated():
            cursor = self._database[HISTORY].find({"_id": {"$in": list(keys)}})
            found = {d["_id"]: past_version_of(d) for d in await cursor.to_list()}
        return [found.get(key) for key in keys]

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
        """Documents of a type, at most `limit`, in the order of `sort`.

        With `shared`, the command is gathered with those of other callers; do so only where it is certain to be quick.
        """
        finding = Finding(resource_type, filter, sort, limit, fields)
        return await (self._shared(finding) if shared else self._find(finding))

    async def _find(self, finding: Finding) -> Found:
        with translated():
            cursor = self._database[finding.collection].find(
                finding.filter,
                finding.fields,
                sort=list(finding.sort) or None,
                limit=finding.limit,
                batch_size=finding.limit + 1,
                max_time_ms=self._max_time_ms,
            )
            return list(await cursor.to_list())

    async def aggregate(
        self, resource_type: str, pipeline: Sequence[Mapping[str, Any]], *, shared: bool = False
    ) -> list[dict[str, Any]]:
        """What a pipeline over a type's collection gives; `shared` as for `find`."""
        piping = Piping(resource_type, pipeline)
        return await (self._shared(piping) if shared else self._aggregate(piping))

    async def _aggregate(self, piping: Piping) -> Found:
        with translated():
            collection = self._database[piping.collection]
            cursor = await collection.aggregate(list(piping.stages), maxTimeMS=self._max_time_ms)
            return list(await cursor.to_list())

    async def latest(self, resource_type: str, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What a pipeline gives of all that is committed, whether or not a majority has it yet.

        For who has just waited for another transaction to end, and must see what that one did.
        """
        collection = self._database.get_collection(resource_type, read_concern=LOCAL)
        with translated():
            cursor = await collection.aggregate(list(pipeline), maxTimeMS=self._max_time_ms)
            return list(await cursor.to_list())

    async def count(
        self, resource_type: str, filter: Mapping[str, Any], limit: int | None = None, *, shared: bool = False
    ) -> int:
        """How many documents match, counted no further than `limit`; `shared` as for `find`."""
        if shared and limit is None:
            rows = await self._shared(Piping(resource_type, [{"$match": filter}, {"$count": "n"}]))
            return int(rows[0]["n"]) if rows else 0
        options: dict[str, Any] = {"maxTimeMS": self._max_time_ms}
        if limit is not None:
            options["limit"] = limit
        with translated():
            return int(await self._database[resource_type].count_documents(filter, **options))

    async def estimate(self, resource_type: str) -> int:
        """About how many resources of a type there are, deletions included; costs nothing."""
        with translated():
            return int(await self._database[resource_type].estimated_document_count(maxTimeMS=self._max_time_ms))

    async def explain(self, command: Mapping[str, Any]) -> dict[str, Any]:
        """How MongoDB carries out a find or an aggregate, which runs for that."""
        with translated():
            limited = {**command, "maxTimeMS": self._max_time_ms}
            plan = await self._database.command({"explain": limited, "verbosity": "executionStats"})
            return dict(plan)

    async def snapshot(self, collection: str, pipeline: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Aggregate over several collections as they were at one moment."""
        with translated():
            async with self._client.start_session(snapshot=True) as session:
                # a snapshot session brings its own read concern
                source = self._database.get_collection(collection, read_concern=ReadConcern())
                cursor = await source.aggregate(list(pipeline), session=session, maxTimeMS=self._max_time_ms)
                return list(await cursor.to_list())

    # --- writing ----------------------------------------------------------------------------------------------------

    async def write(self, new: Version, previous: Version | None) -> None:
        """Make `new` current: in place of `previous`, or where nothing is yet.

        Raises:
            VersionConflictError: 409; the current document is not (or no longer) what the writer saw.
        """
        await self.ensure(new.type)
        await self._writes.write(new, previous, self._awaited())

    async def set_entries(self, resource_type: str, rows: Sequence[tuple[str, int, Mapping[str, Any]]]) -> None:
        """Change what is indexed of `(id, version, change)`, where that version is still the current one."""
        with translated():
            await self._database[resource_type].bulk_write(
                [UpdateOne({"_id": i, "v": v, "d": None}, change) for i, v, change in rows], ordered=False
            )

    # --- removing for good ------------------------------------------------------------------------------------------

    async def erase(self, resource_type: str, ids: Sequence[str]) -> None:
        """Remove all versions of some resources, and their blobs.

        The current ones go last: while one stands there, it can be found again after a crash.
        """
        past = self._database[HISTORY]
        current = self._database[resource_type]
        these = {"y": resource_type, "i": {"$in": list(ids)}}
        with translated():
            rows = await past.find({**these, "b": {"$ne": None}}, {"b": 1}).to_list()
            rows += await current.find({"_id": {"$in": list(ids)}, "b": {"$ne": None}}, {"b": 1}).to_list()
            for blob in {b for row in rows if (b := blob_of(row)) is not None}:
                await self.blobs.discard(blob)
            await past.delete_many(these)
            await current.delete_many({"_id": {"$in": list(ids)}})

    async def erase_past(self, keys: Sequence[str]) -> None:
        """Remove earlier versions by the keys of their documents (`Patient/1/3`)."""
        if keys:
            with translated():
                await self._database[HISTORY].delete_many({"_id": {"$in": list(keys)}})

    async def transact(self, work: Callable[[Unit], Awaitable[T]]) -> T:
        """Run `work` in one MongoDB transaction; it may run several times, until nothing conflicts.

        Raises:
            VersionConflictError: 409; a version that `work` wanted to replace is no longer current.
        """

        async def attempt(session: Any) -> tuple[T, Unit]:
            unit = Unit(self._database, session, self._max_time_ms)
            result = await work(unit)
            await unit.end()
            return result, unit

        with translated():
            async with self._client.start_session() as session:
                result, unit = await session.with_transaction(
                    attempt, read_concern=ReadConcern("snapshot"), write_concern=self._awaited()
                )
        for told in unit.committed:
            told()
        return result
