"""Quarantine: what is known of the contents of blobs, and which of them nobody may have yet.

The mark stands in the row of the blob itself, so it holds for every version that names the blob, whatever way leads
there, and goes with the blob. The same rows are the queue of those who examine: a crash loses nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument

from fhir_server.model.errors import ForbiddenError
from fhir_server.storage.database import translated
from fhir_server.storage.document import Blob
from fhir_server.storage.rows import WATCH

#: What is known of a content: it was not examined yet; nothing harmful was found; nobody looked for viruses; a virus
#: was found; a document that does things by itself; no scanner could look at it; somebody has let it go in spite of it;
#: this server has made it.
Mark = Literal["waiting", "clean", "not-scanned", "infected", "active-content", "unscannable", "released", "issued"]

#: Marks whose contents nobody gets.
WITHHELD: Final[frozenset[str]] = frozenset({"waiting", "infected", "active-content", "unscannable"})

#: A picture of a content that is larger is made each time.
MOST_PREVIEW_BYTES: Final = 4 * 2**20

#: How long an examination may be silent before another process begins it anew.
LEASE: Final = timedelta(minutes=10)

_WORDS = {
    "waiting": "it was not examined yet",
    "infected": "a virus was found in it",
    "active-content": "it does things by itself when it is opened (scripts, programs or files inside)",
    "unscannable": "the virus scanner could not look at all of it",
}


@dataclass(frozen=True, slots=True)
class Held:
    """A content that waits for its examination, or was examined.

    Attributes:
        blob: where it is
        owner: the id of the Binary that it was stored for
        mark: what is known of it
        tries: how often its examination failed
        detail: what was found, in words
    """

    blob: Blob
    owner: str
    mark: Mark
    tries: int = 0
    detail: str = ""


class Quarantine:
    """The marks of the blobs of one database.

    Attributes:
        everything: whether every new content is withheld until it was examined, whoever stores it
    """

    def __init__(self, files: Any) -> None:
        self._files = files
        self.everything = False

    async def open(self) -> None:
        waiting = {"metadata.mark": "waiting"}
        with translated():
            await self._files.create_indexes(
                [
                    IndexModel([("metadata.again", ASCENDING)], partialFilterExpression=waiting),
                    IndexModel(
                        [("metadata.retell", ASCENDING)], partialFilterExpression={"metadata.retell": {"$exists": True}}
                    ),
                    IndexModel(
                        [("metadata.owner", ASCENDING), ("uploadDate", DESCENDING)],
                        partialFilterExpression={"metadata.owner": {"$exists": True}},
                    ),
                ]
            )

    async def mark_of(self, blob: Blob) -> Mark | None:
        """What is known of a content; None where it was stored without anybody looking."""
        held = await self.held(blob)
        return None if held is None else held.mark

    async def held(self, blob: Blob) -> Held | None:
        with translated():
            row = await self._files.find_one(
                {"_id": blob.id, "metadata.mark": {"$exists": True}}, {"metadata.preview": 0}
            )
        return None if row is None else _held_of(row)

    async def require_free(self, blob: Blob) -> Mark | None:
        """What is known of a content that may be had.

        Raises:
            ForbiddenError: 403; it is withheld.
        """
        mark = await self.mark_of(blob)
        if mark in WITHHELD:
            raise withheld(mark)
        return mark

    async def preview_of(self, blob: Blob) -> bytes | None:
        """The picture that was made of a content, if there is one."""
        with translated():
            row = await self._files.find_one({"_id": blob.id}, {"metadata.preview": 1})
        found: bytes | None = (row or {}).get("metadata", {}).get("preview")
        return found

    async def keep_preview(self, blob: Blob, picture: bytes) -> None:
        """Keep a picture of a content with it, for as long as it stays."""
        if len(picture) <= MOST_PREVIEW_BYTES:
            with translated():
                await self._files.update_one({"_id": blob.id}, {"$set": {"metadata.preview": picture}})

    async def take_due(self) -> Held | None:
        """A content whose examination is due, for this process alone until its lease runs out."""
        now = datetime.now(UTC)
        with translated():
            row = await self._files.find_one_and_update(
                {"metadata.mark": "waiting", "metadata.again": {"$lte": now}},
                {"$set": {"metadata.again": now + LEASE}},
                sort=[("metadata.again", 1)],
                return_document=ReturnDocument.AFTER,
                comment=WATCH,
            )
        return None if row is None else _held_of(row)

    async def take(self, blob: Blob) -> Held | None:
        """This content, if its examination is due."""
        now = datetime.now(UTC)
        with translated():
            row = await self._files.find_one_and_update(
                {"_id": blob.id, "metadata.mark": "waiting", "metadata.again": {"$lte": now}},
                {"$set": {"metadata.again": now + LEASE}},
                return_document=ReturnDocument.AFTER,
            )
        return None if row is None else _held_of(row)

    async def named(self, blob_ids: Sequence[str], session: Any = None) -> None:
        """Versions name these blobs now: those that wait are due for their examination."""
        waiting = {"_id": {"$in": list(blob_ids)}, "metadata.mark": "waiting", "metadata.again": None}
        await self._files.update_many(waiting, {"$set": {"metadata.again": datetime.now(UTC)}}, session=session)

    async def retell(self, blob_ids: Sequence[str], session: Any) -> None:
        """Other documents name these contents now, and are to say what was found."""
        found = {"_id": {"$in": list(blob_ids)}, "metadata.mark": {"$exists": True}}
        await self._files.update_many(found, {"$set": {"metadata.retell": True}}, session=session)

    async def to_retell(self) -> Held | None:
        """A content of which other documents are to say what was found; `retold` when they do."""
        with translated():
            row = await self._files.find_one(
                {"metadata.retell": True, "metadata.mark": {"$ne": "waiting"}}, {"metadata.preview": 0}, comment=WATCH
            )
        return None if row is None else _held_of(row)

    async def retold(self, blob: Blob) -> None:
        with translated():
            await self._files.update_one({"_id": blob.id}, {"$unset": {"metadata.retell": 1}})

    async def judge(self, blob: Blob, mark: Mark, detail: str = "") -> None:
        """Say what was found, or decided."""
        with translated():
            await self._files.update_one({"_id": blob.id}, {"$set": {"metadata.mark": mark, "metadata.detail": detail}})

    async def postpone(self, blob: Blob, pause: timedelta, detail: str) -> None:
        """Have it examined again later: the scanner does not answer."""
        fields = {"metadata.again": datetime.now(UTC) + pause, "metadata.detail": detail}
        with translated():
            await self._files.update_one(
                {"_id": blob.id, "metadata.mark": "waiting"}, {"$set": fields, "$inc": {"metadata.tries": 1}}
            )

    async def due_now(self) -> None:
        """Have all that waits examined at once: the scanner answers again."""
        with translated():
            await self._files.update_many(
                {"metadata.mark": "waiting", "metadata.tries": {"$gt": 0}},
                {"$set": {"metadata.again": datetime.now(UTC)}},
            )


def marked(owner: str) -> Mapping[str, Any]:
    """What the row of a new blob says when its content is to be examined, which is due when a version names it."""
    return {"owner": owner, "mark": "waiting", "tries": 0, "detail": ""}


def withheld(mark: str) -> ForbiddenError:
    return ForbiddenError(
        f"This content is in quarantine: {_WORDS.get(mark, mark)}. Nobody gets it until that is settled.",
        code="suppressed",
        key="HS-BINARY-WITHHELD",
        expression="Binary.data",
    )


def _held_of(row: Mapping[str, Any]) -> Held:
    about = row["metadata"]
    blob = Blob(row["_id"], int(row["length"]), about["sha1"], about["sha256"])
    return Held(blob, about.get("owner", ""), about["mark"], about.get("tries", 0), about.get("detail", ""))
