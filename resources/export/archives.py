"""Archives: what was made for whom, where it lies, and when it goes.

An archive is for who asked for it alone, and for some days. Its row tells of it; a timer ends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.jobs.timers import Timer
from fhir_server.model.access import Identity
from fhir_server.storage.document import Blob, blob_of, blob_row
from fhir_server.storage.rows import Rows

Json = dict[str, Any]

ARCHIVES: Final = "_archives"
KIND: Final = "export"
ENDS: Final = "archive-ends"

#: Days for which an archive can be fetched.
DAYS: Final = 7
DAY_US: Final = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was asked for.

    Attributes:
        id: that of the job that makes it
        patient: whose data, `Patient/1`
        subject: the account that asked for it
        blob: where it lies; None while it is being made
        until_us: when it goes
    """

    id: str
    patient: str
    subject: str
    blob: Blob | None = None
    until_us: int = 0


def rows_of(context: Context) -> Rows:
    return context.repository.store.unguarded.rows(ARCHIVES)


async def noted(context: Context, archive: Archive) -> None:
    """Remember what was asked for, or made."""
    fields: Json = {"patient": archive.patient, "subject": archive.subject, "until": archive.until_us}
    if archive.blob is not None:
        fields["b"] = blob_row(archive.blob)
    await rows_of(context).put(archive.id, fields)


async def found(context: Context, archive_id: str, identity: Identity, patient: str) -> Archive | None:
    """An archive of this caller about this patient; that of anybody else is not there."""
    row = await rows_of(context).get(archive_id)
    if row is None or row["subject"] != identity.subject or row["patient"] != patient:
        return None
    return _archive_of(row)


async def ended(context: Context, timer: Timer) -> int | None:
    """The time of an archive is over."""
    row = await rows_of(context).get(timer.key)
    if row is not None:
        await _remove(context, _archive_of(row))
    return None


async def forget(context: Context, patient: str) -> int:
    """Remove all archives about a patient; how many these were."""
    removed = 0
    for row in await rows_of(context).all({"patient": patient}, newest_by="until", limit=10_000):
        await _remove(context, _archive_of(row))
        await context.timers.cancel(ENDS, row["_id"])
        removed += 1
    return removed


async def _remove(context: Context, archive: Archive) -> None:
    if archive.blob is not None:
        await context.repository.store.unguarded.blobs.discard(archive.blob)
    await rows_of(context).remove(archive.id)


def _archive_of(row: Json) -> Archive:
    return Archive(row["_id"], row["patient"], row["subject"], blob_of(row), row["until"])
