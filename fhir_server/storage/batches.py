"""The rows of the audit trail: numbered batches in one collection, and what is remembered about them in another.

What a batch means is none of the storage's business (see `audit.chain`); here it is a row whose `_id` is its number, so
that of two writers who want the same number one gets it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import BulkWriteError, DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from fhir_server.storage.database import translated
from fhir_server.storage.document import Version
from fhir_server.storage.refused import row_errors

#: The batches, and the small rows beside them: how far they are turned into resources, what was removed.
AUDIT = "_audit"
AUDIT_STATE = "_audit_state"

#: Acknowledged by the primary, not awaited in the journal.
UNAWAITED = WriteConcern(w=1, j=False)

Row = dict[str, Any]

#: When a lease ended that nobody has had yet.
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class Batches:
    """Batches in the order of their numbers."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._batches = database[AUDIT]
        # The last row counts also while the majority has not confirmed it: whoever goes on from it stands behind it in
        # the oplog, so the one is never kept without the other.
        self._newest = database.get_collection(AUDIT, read_concern=ReadConcern("local"))
        self._state = database[AUDIT_STATE]

    async def append(self, row: Row) -> bool:
        """Insert a row, durably; False when its number is taken."""
        with translated():
            try:
                await self._batches.insert_one(row)
            except DuplicateKeyError:
                return False
        return True

    async def last(self) -> Row | None:
        """The row with the highest number, without its events."""
        with translated():
            found: Row | None = await self._newest.find_one({}, {"z": 0}, sort=[("_id", -1)])
        return found

    async def get(self, number: int, *, confirmed: bool = False) -> Row | None:
        """One row; with `confirmed`, only if a majority holds it."""
        source = self._batches if confirmed else self._newest
        with translated():
            found: Row | None = await source.find_one({"_id": number})
        return found

    async def after(self, number: int, limit: int) -> list[Row]:
        """The rows that follow a number, in order, as far as a majority holds them."""
        with translated():
            cursor = self._batches.find({"_id": {"$gt": number}}, sort=[("_id", 1)], limit=limit, batch_size=limit + 1)
            return list(await cursor.to_list())

    async def before(self, moment_us: int) -> Row | None:
        """The last row made before a moment, without its events."""
        with translated():
            # Moments grow with the numbers, so a few rows from the old end decide; a scan by number stops at the first
            # that is younger.
            cursor = self._batches.find({}, {"z": 0}, sort=[("_id", 1)], batch_size=1000)
            found: Row | None = None
            async with cursor:
                async for row in cursor:
                    if row["t"] >= moment_us:
                        break
                    found = row
        return found

    async def remove_until(self, number: int) -> int:
        """Remove rows up to and with a number."""
        with translated():
            removed = await self._batches.delete_many({"_id": {"$lte": number}})
        return int(removed.deleted_count)

    async def add_resources(self, resource_type: str, versions: Sequence[Version]) -> None:
        """Insert first versions that were made of batches; those that are there already stay.

        They are acknowledged before they are journalled: `advance`, which follows, is durable, and the journal holds it
        only together with what came before. The type must be `ensure`d.
        """
        documents = [version.current_document() for version in versions]
        with translated():
            try:
                await self._database.get_collection(resource_type, write_concern=UNAWAITED).insert_many(
                    documents, ordered=False
                )
            except BulkWriteError as error:
                row_errors(error)

    # --- what is remembered beside them -----------------------------------------------------------------------------

    async def state(self, name: str) -> Row | None:
        with translated():
            found: Row | None = await self._state.find_one({"_id": name})
        return found

    async def put_state(self, name: str, fields: Mapping[str, Any]) -> None:
        with translated():
            await self._state.update_one({"_id": name}, {"$set": dict(fields)}, upsert=True)

    async def advance(self, name: str, number: int) -> None:
        """Let a number grow to this one; a higher one stays."""
        with translated():
            await self._state.update_one({"_id": name}, {"$max": {"n": number}}, upsert=True)

    async def hold(self, name: str, holder: str, lasts_s: float) -> bool:
        """Take, or renew, a lease; False while another holds it. The database's clock says when it ends."""
        free = {"$or": [{"o": holder}, {"$expr": {"$lt": ["$u", "$$NOW"]}}]}
        until = {"$add": ["$$NOW", round(lasts_s * 1000)]}
        taken = [{"$set": {"o": {"$literal": holder}, "u": until}}]
        with translated():
            # A condition on the clock cannot make the row: it is made free, and then taken.
            made = {"$setOnInsert": {"o": "", "u": LONG_AGO}}
            await self._state.update_one({"_id": name}, made, upsert=True)
            return bool((await self._state.update_one({"_id": name, **free}, taken)).matched_count)

    async def let_go(self, name: str, holder: str) -> None:
        with translated():
            await self._state.delete_one({"_id": name, "o": holder})
