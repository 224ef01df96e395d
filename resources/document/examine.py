"""Examining what lies in quarantine: active content, viruses; and what follows from what was found.

Rows of blobs are the queue (`storage.quarantine`). A process takes one for itself for some minutes; what follows from
the finding is done before the finding is noted, and can be done again, so a crash in between loses nothing and lets
nothing go. A scanner that does not answer is asked again, later each time: nothing is let go meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from fhir_server.access.attachments import addresses_of
from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError, NotFoundError, UnavailableError
from fhir_server.repository.repository import Change
from fhir_server.storage.document import Blob, Version, version_of
from fhir_server.storage.quarantine import Held, Mark
from resources.document.apart import inspected
from resources.document.states import SCAN_BY
from resources.document.words import (
    NOTICE,
    QUARANTINED,
    REVIEW,
    TASK,
    TYPE,
    decision_on,
    notice_of,
    with_mark,
)
from resources.notification import tell_all

Json = dict[str, Any]

#: How often it is looked for contents that wait, in seconds; until the scanner is asked again, at first and at most.
EVERY_S: Final = 2.0
PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 600.0

#: As long as an upload waits for its examination, and contents that are examined so, in bytes.
SOON_S: Final = 5.0
GLANCE_S: Final = 0.02
SOON_BYTES: Final = 8 * 2**20

#: PDFs up to this size are looked into; larger ones count as not to be looked at.
MOST_INSPECTED_BYTES: Final = 256 * 2**20

_log = logging.getLogger("healthsphere.documents")


@asynccontextmanager
async def examining(context: Context) -> AsyncIterator[None]:
    """Examine what waits, while the server runs."""
    task = asyncio.create_task(_examine_always(context), name="examination of documents")
    try:
        yield
    finally:
        await ended([task])


async def _examine_always(context: Context) -> None:
    while True:
        try:
            await examine_due(context)
        except FhirError as error:
            _log.warning("no documents could be examined: %s", type(error).__name__)
        except Exception:
            _log.exception("no documents could be examined")
        await asyncio.sleep(EVERY_S)


async def examine_due(context: Context) -> int:
    """Examine all that is due now; how many these were."""
    done = 0
    while (held := await context.repository.store.unguarded.blobs.quarantine.take_due()) is not None:
        await examine(context, held)
        done += 1
    while (held := await context.repository.store.unguarded.blobs.quarantine.to_retell()) is not None:
        await followed(context, held, held.mark, held.detail)
        await context.repository.store.unguarded.blobs.quarantine.retold(held.blob)
    return done


async def examined_soon(context: Context, blobs: Sequence[Blob]) -> None:
    """Examine contents that were just uploaded, where that is quick; others are examined in the background."""
    quarantine = context.repository.store.blobs.quarantine
    with suppress(TimeoutError, FhirError):
        async with asyncio.timeout(SOON_S):
            for blob in blobs:
                if blob.size > SOON_BYTES:
                    continue
                if (held := await quarantine.take(blob)) is not None:
                    await examine(context, held)
                while (now := await quarantine.held(blob)) is not None and now.mark == "waiting" and not now.tries:
                    await asyncio.sleep(GLANCE_S)  # another process, or the background, was first


async def examine(context: Context, held: Held) -> None:
    """Examine one content, do what follows, and note what was found."""
    quarantine = context.repository.store.blobs.quarantine
    try:
        mark, detail = await finding_on(context, held)
        await followed(context, held, mark, detail)
    except UnavailableError as error:
        pause = min(PAUSE_S * 2**held.tries, LONGEST_PAUSE_S)
        _log.warning("a document stays in quarantine, and is examined again in %.0f s: %s", pause, error)
        await quarantine.postpone(held.blob, timedelta(seconds=pause), str(error))
        return
    except asyncio.CancelledError:
        await quarantine.postpone(held.blob, timedelta(), "The server was stopped.")
        raise
    await quarantine.judge(held.blob, mark, detail)


async def finding_on(context: Context, held: Held) -> tuple[Mark, str]:
    """What a content is found to be.

    Raises:
        UnavailableError: the scanner does not answer.
    """
    blobs = context.repository.store.blobs
    binary = await context.repository.current("Binary", held.owner)
    said = codec.decode(binary.body or b"{}").get("contentType", "") if binary is not None else ""
    if context.scanner is not None:
        verdict = await context.scanner.scan(blobs.read(held.blob, withheld=True))
        if verdict.found != "clean":
            return verdict.found, verdict.detail
    if str(said).partition(";")[0].strip().lower() == "application/pdf":
        active = await active_in(context, held)
        if active:
            return "active-content", active
    return ("clean" if context.scanner is not None else "not-scanned"), ""


async def active_in(context: Context, held: Held) -> str:
    """What a PDF does by itself, in words; empty where it does nothing."""
    if held.blob.size > MOST_INSPECTED_BYTES:
        return f"It has more than the {MOST_INSPECTED_BYTES:,} bytes that are looked into."
    with tempfile.TemporaryDirectory(prefix="healthsphere-") as folder:
        path = Path(folder) / "content"
        await spooled(context, held.blob, path, withheld=True)
        return await inspected(path)


async def spooled(context: Context, blob: Blob, path: Path, *, withheld: bool = False) -> None:
    """Write a content to a file, piece by piece."""
    with path.open("wb") as file:
        async for piece in context.repository.store.blobs.read(blob, withheld=withheld):
            await asyncio.to_thread(file.write, piece)


# --- what follows ---------------------------------------------------------------------------------------------------


async def followed(context: Context, held: Held, mark: Mark, detail: str) -> None:
    """Have the documents that point to a content say what was found; of what is withheld somebody hears."""
    for version in await documents_of(context, held.owner):
        document = await remarked(context, version, mark)
        if mark in ("infected", "active-content", "unscannable"):
            await told(context, version.id, document, mark, detail)


async def documents_of(context: Context, binary_id: str) -> list[Version]:
    """The documents that point to a Binary of this server."""
    store = context.repository.store
    places = addresses_of(binary_id, context.repository.indexer.base_url)
    rows = await store.find(TYPE, {"x.location": {"$in": places}, "d": None}, sort=[("_id", 1)], limit=100)
    return [version_of(TYPE, row) for row in rows]


async def remarked(context: Context, version: Version, mark: Mark) -> Json:
    """The document with the mark, as it is now: a new version where that changes it."""

    def alter(resource: Json) -> Json:
        altered = with_mark(resource, mark)
        if mark == "infected":
            altered = {**altered, "status": "entered-in-error"}
        return altered

    current: Json = codec.decode(version.body or b"{}")
    if alter(current) == current:
        return current
    try:
        outcome = await context.repository.amend(partial(context.repository.read, TYPE, version.id), alter, by=SCAN_BY)
    except NotFoundError:
        return current
    altered: Json = codec.decode(outcome.version.body or b"{}")
    return altered


async def told(context: Context, document_id: str, document: Json, mark: Mark, detail: str) -> None:
    """Have somebody decide, and who sent it know; each once. A review waits for nothing any more."""
    tasks = await tasks_about(context, document_id)
    codes = {code_of(task) for task in tasks}
    if QUARANTINED not in codes:
        await create(context, decision_on(document, document_id, mark, detail))
    author = next((a.get("reference") for a in document.get("author", []) if a.get("reference")), None)
    if NOTICE not in codes and author and author.partition("/")[0] in OWNERS:
        focus = f"{TYPE}/{document_id}"
        await tell_all(context, [author], "document-refused", focus, key=f"{focus}/{mark}")
        await create(context, notice_of(document, document_id, author, mark))
    if mark != "infected":
        return
    for task in tasks:
        if code_of(task) == REVIEW and task["status"] in ("requested", "accepted", "in-progress", "ready", "received"):
            ended = {**task, "status": "cancelled", "statusReason": {"text": "The document is infected."}}
            change = Change("PUT", "Task", task["id"], ended, by=SCAN_BY)
            await context.repository.commit(change)


#: What can own a task.
OWNERS: Final = frozenset({"Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Organization"})


async def tasks_about(context: Context, document_id: str) -> list[Json]:
    """The tasks of this part whose focus is a document."""
    store = context.repository.store
    rows = await store.find("Task", {"x.focus": f"{TYPE}/{document_id}", "d": None}, sort=[("_id", 1)], limit=100)
    found: list[Json] = [codec.decode(row["r"]) for row in rows]
    return [task for task in found if code_of(task)]


def code_of(task: Json) -> str:
    codings = task.get("code", {}).get("coding", [])
    return next((str(c.get("code")) for c in codings if c.get("system") == TASK), "")


async def create(context: Context, resource: Json) -> str:
    change = Change("POST", resource["resourceType"], new_id(), resource, fresh=True, by=SCAN_BY)
    return (await context.repository.commit(change)).version.id
