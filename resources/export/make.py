"""Making an archive: FHIR as NDJSON, the documents themselves, and pages for people, into one ZIP that streams.

Nothing of it is whole in memory: a portion of resources, a piece of a document. A process that dies leaves a blob that
nothing names, which is swept; the next one begins anew.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import parameters_of
from fhir_server.jobs.run import Run
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ForbiddenError
from fhir_server.storage.document import Version
from resources.document.content import contents_of
from resources.document.preview import pieces_of
from resources.export.archives import DAY_US, DAYS, ENDS, Archive, noted
from resources.export.pages import Page, index_page, type_page
from resources.notification import tell_all

Json = dict[str, Any]

#: Resources that are read at a time.
PORTION: Final = 200

#: Endings of file names; others are told by their subtype.
ENDINGS: Final = {"text/plain": "txt", "image/jpeg": "jpg", "application/dicom": "dcm", "text/csv": "csv"}

_UNSAFE: Final = re.compile(r"[^\w.\- ]+|\.{2,}")


class Sink:
    """What a ZIP is written to; its bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


@dataclass
class Progress:
    run: Run
    total: int
    done: int = 0

    async def add(self, number: int, what: str) -> None:
        self.done += number
        await self.run.tell(self.done, self.total, what)


@dataclass
class Manifest:
    """What the archive holds, told in `manifest.json`."""

    patient: str
    made: str
    counts: Counter[str] = field(default_factory=Counter)
    documents: list[Json] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)

    def as_json(self) -> Json:
        return {
            "patient": self.patient,
            "made": self.made,
            "resources": dict(sorted(self.counts.items())),
            "documents": self.documents,
            "withheld": self.withheld,
        }


async def carry_on(context: Context, run: Run) -> bytes:
    """The work of a job."""
    wanted = run.wanted
    patient = f"Patient/{wanted['patient']}"
    total = sum(map(len, wanted["ids"].values()))
    progress = Progress(run, 2 * total)
    blobs = context.repository.store.blobs
    blob = await blobs.put(archive_of(context, patient, wanted["ids"], progress), examined=False)
    until_us = now_us() + DAYS * DAY_US
    await context.timers.set(ENDS, run.job_id, until_us)
    await noted(context, Archive(run.job_id, patient, wanted["subject"], blob, until_us))
    await blobs.settle(blob)
    await tell_all(context, [wanted.get("who")], "export-ready", patient, key=run.job_id)
    return codec.encode(parameters_of({"name": "size", "valueDecimal": blob.size}))


async def archive_of(
    context: Context, patient: str, ids: dict[str, list[str]], progress: Progress
) -> AsyncIterator[bytes]:
    """The ZIP, piece by piece."""
    sink = Sink()
    manifest = Manifest(patient, instant_of(now_us()))
    moment = datetime.now(UTC).timetuple()[:6]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name, found in sorted(ids.items()):
            with archive.open(entry(f"fhir/{name}.ndjson", moment), "w", force_zip64=True) as file:
                async for version in versions_of(context, name, found):
                    assert version.body is not None
                    file.write(version.body + b"\n")
                    manifest.counts[name] += 1
                    await progress.add(1, name)
                    yield sink.take()
        pages: list[Page] = []
        for name, found in sorted(ids.items()):
            page = Page(name, len(found))
            with archive.open(entry(page.path, moment), "w", force_zip64=True) as file:
                async for text in type_page(page, resources_of(context, name, found)):
                    file.write(text.encode())
                    await progress.add(0, f"pages: {name}")
                    yield sink.take()
            progress.done += len(found)
            pages.append(page)
        async for _ in documents_into(context, archive, ids.get("DocumentReference", []), manifest, moment):
            yield sink.take()
        archive.writestr(entry("manifest.json", moment), codec.encode(manifest.as_json()))
        archive.writestr(entry("index.html", moment), index_page(manifest.as_json(), pages))
        yield sink.take()
    yield sink.take()


def entry(path: str, moment: Any, *, stored: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, moment)
    info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


async def versions_of(context: Context, name: str, ids: list[str]) -> AsyncIterator[Version]:
    """The current versions of some resources; those that went meanwhile are left out."""
    for start in range(0, len(ids), PORTION):
        for resource_id in ids[start : start + PORTION]:
            version = await context.repository.current(name, resource_id)
            if version is not None and not version.deleted:
                yield version


async def resources_of(context: Context, name: str, ids: list[str]) -> AsyncIterator[Json]:
    async for version in versions_of(context, name, ids):
        yield codec.decode(version.body or b"{}")


async def documents_into(
    context: Context, archive: zipfile.ZipFile, ids: list[str], manifest: Manifest, moment: Any
) -> AsyncIterator[None]:
    """Put in the contents of documents; what is in quarantine is named, and not put in."""
    number = 0
    async for version in versions_of(context, "DocumentReference", ids):
        document = codec.decode(version.body or b"{}")
        titles = [row.get("attachment", {}).get("title") for row in document.get("content", [])]
        for place, binary in enumerate(await contents_of(context, document)):
            number += 1
            kind = str(codec.decode(binary.body or b"{}").get("contentType", "")).partition(";")[0].strip()
            title = titles[place] if place < len(titles) else None
            path = f"documents/{number:04}-{safe(title or document.get('description') or 'document', kind)}"
            if binary.blob is not None:
                try:
                    await context.repository.store.blobs.quarantine.require_free(binary.blob)
                except ForbiddenError:
                    manifest.withheld.append(f"DocumentReference/{version.id}")
                    continue
            size = 0
            with archive.open(entry(path, moment, stored=True), "w", force_zip64=True) as file:
                async for piece in pieces_of(context, binary, 2**62):
                    file.write(piece)
                    size += len(piece)
                    yield
            row: Json = {"path": path, "document": f"DocumentReference/{version.id}", "type": kind, "size": size}
            manifest.documents.append(row | ({"sha256": binary.blob.sha256} if binary.blob is not None else {}))


def safe(title: str, kind: str) -> str:
    """A file name of a title, with the ending of its type, that means nothing to any file system."""
    ending = ENDINGS.get(kind) or _UNSAFE.sub("", kind.partition("/")[2]) or "bin"
    plain = _UNSAFE.sub("_", title).strip(". _")[:60] or "document"
    with suppress(ValueError):
        plain = plain[: plain.lower().rindex(f".{ending}")]
    return f"{plain}.{ending}"
