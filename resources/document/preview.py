"""`DocumentReference/[id]/$preview`: a picture of the first page, or the first lines of a text; never the thing itself.

A picture is drawn anew from what the document shows, by a process apart, so nothing of what a document could do by
itself is left in it. It is kept with the content that it was made of, and goes with it.
"""

from __future__ import annotations

import tempfile
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from fhir_server.interactions.answers import about
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import NotFoundError, TooLargeError, UnprocessableError
from fhir_server.model.exchange import Answer, Content, Request
from fhir_server.storage.document import Version
from resources.document.apart import previewed
from resources.document.content import contents_of
from resources.document.examine import spooled
from resources.document.words import TYPE

Json = dict[str, Any]

#: What there are pictures of; larger contents are not opened.
DRAWN: Final = frozenset(
    {"application/pdf", "image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/tiff"}
)
MOST_BYTES: Final = 64 * 2**20

#: So much of a text is shown.
TEXT_BYTES: Final = 16 * 1024


async def preview(context: Context, request: Request) -> Answer:
    """A picture (PNG) of a document's first page, or its first lines.

    Raises:
        NotFoundError: 404; there is no such document, or its content is not here.
        ForbiddenError: 403; the content is in quarantine.
        UnprocessableError: 422; there is no preview of such a document.
    """
    Inputs.of(request).only()
    version = await context.repository.read(TYPE, request.path[1])
    contents = await contents_of(context, codec.decode(version.body or b"{}"))
    if not contents:
        raise NotFoundError(
            f"{TYPE}/{version.id} has no content on this server.",
            key="HS-DOCUMENT-CONTENT",
            expression=f"{TYPE}.content",
        )
    binary = contents[0]
    said = str(codec.decode(binary.body or b"{}")["contentType"])
    kind = said.partition(";")[0].strip().lower()
    if binary.blob is not None:
        await context.repository.store.blobs.quarantine.require_free(binary.blob)
    if kind.startswith("text/"):
        return shown(version, await first_lines(context, binary), "text/plain;charset=utf-8")
    if kind not in DRAWN:
        raise UnprocessableError(
            f"There are no previews of the type {kind[:80]!r}.", code="not-supported", key="HS-DOCUMENT-PREVIEW"
        )
    return shown(version, await picture(context, binary, kind), "image/png")


def shown(version: Version, data: bytes, media_type: str) -> Answer:
    async def pieces() -> AsyncIterator[bytes]:
        yield data

    answer = about(200, None, version)
    answer.content = Content(pieces(), len(data), media_type)
    return answer


async def first_lines(context: Context, binary: Version) -> bytes:
    """The beginning of a text, whatever its bytes are: a browser gets text, and nothing that steers a terminal."""
    data = b""
    async for piece in pieces_of(context, binary, TEXT_BYTES):
        data += piece
    text = data[:TEXT_BYTES].decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text).encode()


async def picture(context: Context, binary: Version, kind: str) -> bytes:
    """The picture, made once for each content."""
    blobs = context.repository.store.blobs
    if binary.blob is not None and (known := await blobs.quarantine.preview_of(binary.blob)) is not None:
        return known
    size = binary.blob.size if binary.blob is not None else 0
    if size > MOST_BYTES:
        raise TooLargeError(
            f"There are previews of documents of up to {MOST_BYTES:,} bytes.", key="HS-DOCUMENT-PREVIEW"
        )
    with tempfile.TemporaryDirectory(prefix="healthsphere-") as folder:
        path = Path(folder) / "content"
        if binary.blob is not None:
            await spooled(context, binary.blob, path)
        else:
            path.write_bytes(inline_of(binary))
        made = await previewed(path, kind, Path(folder) / "preview.png")
    if binary.blob is not None:
        await blobs.quarantine.keep_preview(binary.blob, made)
    return made


async def pieces_of(context: Context, binary: Version, most: int) -> AsyncIterator[bytes]:
    """The first bytes of a Binary."""
    if binary.blob is None:
        yield inline_of(binary)[:most]
        return
    async for piece in context.repository.store.blobs.read(binary.blob, 0, min(most, binary.blob.size)):
        yield piece


def inline_of(binary: Version) -> bytes:
    return b64decode(codec.decode(binary.body or b"{}").get("data", ""))
