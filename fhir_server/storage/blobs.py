"""Blobs: large contents of Binaries, in pieces, never whole in memory.

They lie in the collections of a GridFS bucket, in its layout, so that every GridFS tool reads them. The driver's own
writer is not used: it holds up to 32 MB of an upload, twice, before it sends them.

**How a crash leaves nothing.** A row in `_uploads` names a blob before its first piece is written, and goes once a
version names the blob. What a crash leaves is found by its row and removed at the next start, an hour later at the
earliest; an upload under way renews its row.

Spec: https://www.mongodb.com/docs/manual/core/gridfs/
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.int64 import Int64
from pymongo import ASCENDING, IndexModel

from fhir_server.model.clock import new_id
from fhir_server.storage.database import translated
from fhir_server.storage.document import BLOBS, HISTORY, UPLOADS, Blob
from fhir_server.storage.quarantine import Quarantine, marked

#: GridFS's own size of a piece: a little less than 256 KiB, so that a document fits a page of the database.
PIECE = 255 * 1024

#: Pieces that one command writes or reads: 4 MB.
PIECES = 16

#: An upload renews its row this often, in seconds; a row that is older than `LITTER_AFTER_S` is litter.
RENEW_S = 60.0
LITTER_AFTER_S = 3600

#: The type whose versions name blobs.
OWNER = "Binary"


class Blobs:
    """The blobs of one database."""

    def __init__(self, database: Any) -> None:
        self._database = database
        self._files = database[f"{BLOBS}.files"]
        self._pieces = database[f"{BLOBS}.chunks"]
        self._uploads = database[UPLOADS]
        self.quarantine = Quarantine(self._files)

    async def open(self) -> None:
        """Make the indexes that GridFS asks for."""
        with translated():
            await self._files.create_indexes([IndexModel([("filename", ASCENDING), ("uploadDate", ASCENDING)])])
            await self._pieces.create_indexes([IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)])
        await self.quarantine.open()

    async def put(self, content: AsyncIterable[bytes], *, owner: str = "", examined: bool | None = None) -> Blob:
        """Store a content; it stays for good once `settle` was called, which is to follow when a version names it.

        When `content` fails, what was stored of it is removed.

        Args:
            owner: the id of the Binary that it is for
            examined: whether it is withheld until it was examined; not said, as the server is set up
        """
        wanted = self.quarantine.everything if examined is None else examined
        about = marked(owner) if wanted else {}
        blob_id = new_id()
        with translated():
            await self._uploads.insert_one({"_id": blob_id, "t": datetime.now(UTC)})
        try:
            return await self._write(blob_id, content, about)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._remove(blob_id)))
            raise

    async def _write(self, blob_id: str, content: AsyncIterable[bytes], about: Mapping[str, Any]) -> Blob:
        sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
        size, number, renewed = 0, 0, time.monotonic()
        rows: list[dict[str, Any]] = []
        async for piece in _pieces_of(content):
            rows.append({"files_id": blob_id, "n": number, "data": piece})
            size, number = size + len(piece), number + 1
            if len(rows) == PIECES:
                await asyncio.to_thread(_digest, rows, sha1, sha256)
                with translated():
                    await self._pieces.insert_many(rows)
                rows = []
            if time.monotonic() - renewed > RENEW_S:
                renewed = time.monotonic()
                await self._renew(blob_id)
        _digest(rows, sha1, sha256)
        blob = Blob(blob_id, size, sha1.hexdigest(), sha256.hexdigest())
        with translated():
            if rows:
                await self._pieces.insert_many(rows)
            await self._files.insert_one(
                {
                    "_id": blob_id,
                    "length": Int64(size),
                    "chunkSize": PIECE,
                    "uploadDate": datetime.now(UTC),
                    "filename": blob_id,
                    "metadata": {"sha1": blob.sha1, "sha256": blob.sha256, **about},
                }
            )
        await self._renew(blob_id)
        return blob

    async def _renew(self, blob_id: str) -> None:
        with translated():
            await self._uploads.update_one({"_id": blob_id}, {"$set": {"t": datetime.now(UTC)}})

    async def read(
        self, blob: Blob, start: int = 0, end: int | None = None, *, withheld: bool = False
    ) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not including, `end`, in pieces of at most 255 KiB.

        Args:
            withheld: whether those are wanted that nobody may have: for who examines them

        Raises:
            ForbiddenError: 403; the content is in quarantine.
        """
        if not withheld:
            await self.quarantine.require_free(blob)
        end = blob.size if end is None else end
        if start >= end:
            return
        first, last = start // PIECE, (end - 1) // PIECE
        wanted = {"files_id": blob.id, "n": {"$gte": first, "$lte": last}}
        with translated():
            cursor = self._pieces.find(wanted, {"_id": 0, "n": 1, "data": 1}, sort=[("n", 1)], batch_size=PIECES)
            async with cursor:
                async for row in cursor:
                    offset = row["n"] * PIECE
                    yield row["data"][max(0, start - offset) : end - offset]

    async def settle(self, blob: Blob, session: Any = None) -> None:
        """A version names the blob now: it stays."""
        with translated():
            await self.quarantine.named([blob.id], session)
            await self._uploads.delete_one({"_id": blob.id}, session=session)

    async def discard(self, blob: Blob) -> None:
        """Remove a blob that no version names."""
        await self._remove(blob.id)

    async def _remove(self, blob_id: str) -> None:
        with translated():
            await self._files.delete_one({"_id": blob_id})
            await self._pieces.delete_many({"files_id": blob_id})
            await self._uploads.delete_one({"_id": blob_id})

    async def sweep(self, older_than_s: int = LITTER_AFTER_S) -> int:
        """Remove what uploads that ended in a crash have left; tells how many there were."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        removed = 0
        with translated():
            rows = await self._uploads.find({"t": {"$lt": before}}).to_list()
            for row in rows:
                if await self._is_named(row["_id"]):
                    await self.quarantine.named([row["_id"]])
                    await self._uploads.delete_one({"_id": row["_id"]})
                else:
                    await self._remove(row["_id"])
                    removed += 1
        return removed

    async def _is_named(self, blob_id: str) -> bool:
        """Whether a version names a blob. It looks through all Binaries: only rows that a crash left come here."""
        current = await self._database[OWNER].find_one({"b.i": blob_id}, {"_id": 1})
        return current is not None or (
            await self._database[HISTORY].find_one({"y": OWNER, "b.i": blob_id}, {"_id": 1}) is not None
        )


async def _pieces_of(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of `PIECE`, the last one shorter."""
    buffer = bytearray()
    async for data in content:
        buffer += data
        while len(buffer) >= PIECE:
            yield bytes(buffer[:PIECE])
            del buffer[:PIECE]
    if buffer:
        yield bytes(buffer)


def _digest(rows: list[dict[str, Any]], *digests: Any) -> None:
    for row in rows:
        for digest in digests:
            digest.update(row["data"])
