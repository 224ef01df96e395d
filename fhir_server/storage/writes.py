"""Single writes: each a version in place of another, or where nothing is yet; gathered, and without a transaction.

**How a single write is safe without a transaction.** A create inserts one document. A change first copies the version
that it replaces into the history, then replaces the current document if it still holds that version (compare and set).
The copy is journalled before the replacement, since both go through one oplog; a crash between the two leaves a copy
of a version that is still current, which readers recognise by its number. So a `kill -9` at any point loses no
acknowledged write and shows no half of one.

**How long a write is awaited** its caller says: until it is durable (`DURABLE`), or until the primary has it
(`ORDERED`), where something durable follows before anybody is told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pymongo import InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fhir_server.model.errors import ConflictError
from fhir_server.storage.database import DURABLE, Client, translated
from fhir_server.storage.document import HISTORY, Version
from fhir_server.storage.gather import Gather
from fhir_server.storage.refused import row_errors

#: Acknowledged by the primary, not awaited in the journal: what follows it in the oplog is awaited.
ORDERED = WriteConcern(w=1, j=False)

#: All that is committed, whether or not a majority has it yet.
LOCAL = ReadConcern("local")

Change = tuple[Version, Version]


class VersionConflictError(ConflictError):
    """409: the document that a write wanted to make or replace is not as the writer saw it."""


def lost_race(version: Version) -> VersionConflictError:
    return VersionConflictError(
        f"{version.type}/{version.id} was changed by another request at the same time; read it and try again.",
        key="HS-STORE-CONFLICT",
    )


class SingleWrites:
    """Writes of one database, gathered by type and by how long they are awaited."""

    def __init__(self, database: Any, client: Client) -> None:
        self._database = database
        self._client = client
        #: Waits for a good moment for writes that are not awaited: see `Store.pause_for`.
        self.between: Callable[[], Awaitable[None]] | None = None
        self._inserts: dict[tuple[str, bool], Gather[Version, None]] = {}
        self._changes: dict[tuple[str, bool], Gather[Change, None]] = {}

    @property
    def term(self) -> Any:
        """Names the term of the primary that the driver knows; another value means that an election came in between."""
        return self._client.topology_description.max_election_id

    @property
    def sharded(self) -> bool:
        return self._client.topology_description.topology_type_name == "Sharded"

    async def write(self, new: Version, previous: Version | None, concern: WriteConcern) -> None:
        """Make `new` current; its type must be `ensure`d.

        Raises:
            VersionConflictError: 409; the current document is not (or no longer) what the writer saw.
        """
        key = (new.type, concern is DURABLE)
        ready = None if concern is DURABLE else self.between
        if previous is None:
            insert = self._inserts.get(key)
            if insert is None:
                insert = self._inserts[key] = Gather(self._inserter(new.type, concern), ready=ready)
            await insert(new)
        else:
            change = self._changes.get(key)
            if change is None:
                change = self._changes[key] = Gather(self._changer(new.type, concern), ready=ready)
            await change((new, previous))

    def _inserter(
        self, resource_type: str, concern: WriteConcern
    ) -> Callable[[Sequence[Version]], Awaitable[list[Exception | None]]]:
        collection = self._database.get_collection(resource_type, write_concern=concern)

        async def insert(versions: Sequence[Version]) -> list[Exception | None]:
            results: list[Exception | None] = [None] * len(versions)
            with translated():
                try:
                    await collection.insert_many([v.current_document() for v in versions], ordered=False)
                except BulkWriteError as error:
                    for row in row_errors(error):
                        results[row] = lost_race(versions[row])
            return results

        return insert

    def _changer(
        self, resource_type: str, concern: WriteConcern
    ) -> Callable[[Sequence[Change]], Awaitable[list[Exception | None]]]:
        current = self._database.get_collection(resource_type, write_concern=concern)

        async def change(changes: Sequence[Change]) -> list[Exception | None]:
            with translated():
                # Behind mongos the copy may stand on another shard, in another oplog: then it is awaited by itself.
                apart = DURABLE if self.sharded else ORDERED
                epoch = await self._copy_to_history([old for _, old in changes], apart)
                result = await current.bulk_write(
                    [ReplaceOne({"_id": new.id, "v": old.version}, new.current_document()) for new, old in changes],
                    ordered=False,
                )
                if epoch != self.term:
                    # Another member became primary in between: what was not on a majority may be gone; say it again.
                    await self._copy_to_history([old for _, old in changes], DURABLE)
                if result.matched_count == len(changes):
                    return [None] * len(changes)
                return [None if await self._is_written(new) else lost_race(new) for new, _ in changes]

        return change

    async def _copy_to_history(self, versions: Sequence[Version], concern: WriteConcern) -> Any:
        """Insert versions into the history, each once however often it is said; tells which primary took them."""
        primary = self.term
        history = self._database.get_collection(HISTORY, write_concern=concern)
        try:
            await history.bulk_write([InsertOne(v.history_document()) for v in versions], ordered=False)
        except BulkWriteError as error:
            row_errors(error)
        return primary

    async def _is_written(self, new: Version) -> bool:
        """Whether our own write made this version; it may have been replaced since."""
        # Not only what a majority has: our own write may not be awaited yet.
        current, past = (self._database.get_collection(name, read_concern=LOCAL) for name in (new.type, HISTORY))
        document = await current.find_one({"_id": new.id}, {"v": 1, "w": 1})
        if document is None or document["v"] < new.version:
            return False
        if document["v"] > new.version:
            document = await past.find_one({"_id": f"{new.type}/{new.id}/{new.version}"}, {"w": 1})
        return document is not None and document["w"] == new.token
