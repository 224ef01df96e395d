"""Binary: contents that are sent and fetched as they are, whatever their size.

A small content stands in the resource, as base64; a large one lies beside it as a blob, and streams from and to the
client. Either way the Binary is a resource like any other: with versions, history, deletion, and as JSON or XML with
its `data` when a client asks for a FHIR format.

Spec: https://hl7.org/fhir/R4/binary.html
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from typing import Any

from fhir_server.interactions.answers import about, selected, written
from fhir_server.interactions.conditional import conditional_create
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import etag_version, if_match
from fhir_server.interactions.provenance import commit, source_in
from fhir_server.model import codec
from fhir_server.model.clock import moment_of_http_date, new_id
from fhir_server.model.errors import RangeNotSatisfiableError, TooLargeError
from fhir_server.model.exchange import MARK, Answer, Content, Request
from fhir_server.repository.contents import INLINE_BYTES, kept
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.blobs import Blobs
from fhir_server.storage.document import Blob, Version
from fhir_server.storage.quarantine import WITHHELD

#: Media types by which a client asks for the resource; the general ones only where the content is not of that type.
FHIR_TYPES = frozenset({"application/fhir+json", "application/fhir+xml"})
GENERAL_TYPES = frozenset({"application/json", "text/json", "application/xml", "text/xml"})

#: Parameters that mean a resource, not its content.
RESOURCE_PARAMETERS = ("_format=", "_pretty=", "_summary=", "_elements=")

#: The largest content that a Bundle has in place of a Binary's data.
MOST_NESTED_BYTES = 8 * 2**20

#: What is known of a content that is downloaded: of most, that nobody looked for viruses in it.
SCAN_HEADER = "X-Content-Scan"
UNSEEN = "not-scanned"

RANGE = re.compile(r"bytes=(\d*)-(\d*)")


async def create_content(context: Context, request: Request) -> Answer:
    """POST [base]/Binary with a content: 201; with `If-None-Exist` as for every create."""
    binary_id = new_id()
    resource, blob = await taken(context, request, binary_id)
    change = Change("POST", "Binary", binary_id, resource, fresh=True, blob=blob)
    criteria = request.headers.get("if-none-exist")
    blobs = context.repository.store.blobs
    if criteria is None:
        async with kept(blobs, blob):
            committed = await commit(context, request, change)
    else:
        committed = await conditionally_created(context, request, change, criteria)
    return written(request, committed, "was created" if committed.created else "exists already; nothing was created")


async def conditionally_created(context: Context, request: Request, change: Change, criteria: str) -> Committed:
    """A conditional create; the content that was sent goes where a match exists."""
    blobs = context.repository.store.blobs
    try:
        source = await source_in(context, request)
        committed = await conditional_create(context, change, criteria, source)
    except BaseException:
        if change.blob is not None:
            await blobs.discard(change.blob)
        raise
    if change.blob is not None:
        await (blobs.settle(change.blob) if committed.created else blobs.discard(change.blob))
    return committed


async def update_content(context: Context, request: Request) -> Answer:
    """PUT [base]/Binary/[id] with a content: 200, or 201 where nothing was."""
    expected = if_match(request)
    resource, blob = await taken(context, request, request.path[1])
    change = Change(
        "PUT",
        "Binary",
        request.path[1],
        {**resource, "id": request.path[1]},
        if_match=expected,
        if_absent=request.headers.get("if-none-match", "").strip() == "*",
        blob=blob,
    )
    async with kept(context.repository.store.blobs, blob):
        committed = await commit(context, request, change)
    return written(request, committed, "was created" if committed.created else "was updated")


async def taken(context: Context, request: Request, owner: str) -> tuple[dict[str, Any], Blob | None]:
    """The Binary that a content becomes, and the blob that has it where it is large or is to be examined."""
    assert request.content is not None
    resource: dict[str, Any] = {"resourceType": "Binary", "contentType": request.content_type}
    if reference := request.headers.get("x-security-context", "").strip():
        resource["securityContext"] = {"reference": reference}
    # Wrong headers are told before a large content is read.
    context.repository.check(Change("POST", "Binary", "0", resource))
    blobs = context.repository.store.blobs
    if blobs.quarantine.everything:
        return resource, await blobs.put(request.content, owner=owner)
    head = bytearray()
    async for piece in request.content:
        head += piece
        if len(head) > INLINE_BYTES:
            return resource, await blobs.put(_joined(bytes(head), request.content), owner=owner)
    if head:
        resource["data"] = b64encode(head).decode()
    return resource, None


async def _joined(head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield head
    async for piece in rest:
        yield piece


async def shown(context: Context, request: Request, version: Version) -> Answer:
    """The answer to a read: the content as it is, or the resource, as the client asks.

    Raises:
        ForbiddenError: 403; the content is in quarantine.
        RangeNotSatisfiableError: 416; `Range` begins behind the end.
        TooLargeError: 413; the content is too large for the Bundle that it is to stand in.
    """
    assert version.body is not None
    blobs = context.repository.store.blobs
    if version.blob is None and wants_resource(request, ""):
        return about(200, selected(request, version.body) if request.query else version.body, version)
    resource = codec.decode(version.body)
    if wants_resource(request, resource["contentType"]):
        return await as_resource(request, version, blobs)
    mark = None if version.blob is None else await blobs.quarantine.require_free(version.blob)
    answer = as_content(request, version, resource, blobs)
    answer.headers[SCAN_HEADER] = mark or UNSEEN
    return answer


def wants_resource(request: Request, content_type: str) -> bool:
    """Whether the answer is the resource: in a Bundle, and where the client likes a FHIR format best."""
    if request.nested or any(name in request.query for name in RESOURCE_PARAMETERS):
        return True
    if request.preferred & FHIR_TYPES:
        return True
    own = content_type.partition(";")[0].strip().lower()
    return bool(content_type) and bool(request.preferred & GENERAL_TYPES) and own not in request.preferred


async def as_resource(request: Request, version: Version, blobs: Blobs) -> Answer:
    """The resource, its data from the blob, unless only a part of it is asked for."""
    assert version.body is not None
    body = selected(request, version.body) if request.query else version.body
    if version.blob is None or body is not version.body:
        return about(200, body, version)
    await blobs.quarantine.require_free(version.blob)
    if not request.nested:
        return with_data(about(200, body, version), version.blob, blobs)
    if version.blob.size > MOST_NESTED_BYTES:
        raise TooLargeError(
            f"The content of Binary/{version.id} has {version.blob.size:,} bytes; in a Bundle it may have "
            f"{MOST_NESTED_BYTES:,}. Read it by itself.",
            key="HS-BINARY-NESTED",
        )
    data = b"".join([piece async for piece in base64_of(blobs.read(version.blob))])
    return about(200, with_mark(body).replace(MARK, data, 1), version)


def with_data(answer: Answer, blob: Blob, blobs: Blobs) -> Answer:
    """An answer whose body is a Binary without data, with the data from its blob."""
    assert answer.body is not None
    answer.body = with_mark(answer.body)
    answer.content = Content(base64_of(blobs.read(blob)), (blob.size + 2) // 3 * 4)
    return answer


async def completed(context: Context, request: Request, answer: Answer, committed: Committed) -> Answer:
    """The answer to a write, with the data that was moved out of the resource when that is what is answered, and
    anybody may have it."""
    version = committed.version
    if version.blob is None or request.nested or answer.body is None or answer.body is not version.body:
        return answer
    blobs = context.repository.store.blobs
    if await blobs.quarantine.mark_of(version.blob) in WITHHELD:
        return answer
    return with_data(answer, version.blob, blobs)


def with_mark(body: bytes) -> bytes:
    return body[:-1] + b',"data":"' + MARK + b'"}'


async def base64_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in pieces:
        data = rest + piece
        whole = len(data) // 3 * 3
        rest = data[whole:]
        yield b64encode(data[:whole])
    if rest:
        yield b64encode(rest)


def as_content(request: Request, version: Version, resource: dict[str, Any], blobs: Blobs) -> Answer:
    """The bytes of a Binary, or the one range of them that is asked for."""
    blob = version.blob
    data = b"" if blob is not None else b64decode(resource.get("data", ""))
    size = len(data) if blob is None else blob.size
    span = range_of(request, version, size)
    start, end = span or (0, size)
    pieces = _single(data[start:end]) if blob is None else blobs.read(blob, start, end)
    answer = about(200 if span is None else 206, None, version)
    answer.content = Content(pieces, end - start, resource["contentType"])
    answer.headers["Accept-Ranges"] = "bytes"
    if span is not None:
        answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if blob is not None:
        digest = b64encode(bytes.fromhex(blob.sha256)).decode()
        answer.headers["Repr-Digest"] = f"sha-256=:{digest}:"
    context = resource.get("securityContext", {}).get("reference")
    if type(context) is str and context.isprintable():
        answer.headers["X-Security-Context"] = context
    return answer


async def _single(data: bytes) -> AsyncIterator[bytes]:
    if data:
        yield data


def range_of(request: Request, version: Version, size: int) -> tuple[int, int] | None:
    """The bytes that `Range` asks for, from the first up to, not including, the last; None for all of them.

    What is no single range of bytes is ignored, as RFC 9110 allows; so is a range of another version (`If-Range`).

    Raises:
        RangeNotSatisfiableError: 416; it begins behind the end.
    """
    header = request.headers.get("range", "").replace(" ", "")
    found = RANGE.fullmatch(header)
    if found is None or request.head or found[0] == "bytes=-" or not is_same(request, version):
        return None
    first, last = found[1][:18], found[2][:18]
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= size or start >= end:
        raise RangeNotSatisfiableError(
            f"Range is {header[:60]!r}; Binary/{version.id} has {size:,} bytes.",
            key="HS-HTTP-RANGE",
            headers={"Content-Range": f"bytes */{size}", "Accept-Ranges": "bytes"},
        )
    return start, end


def is_same(request: Request, version: Version) -> bool:
    """Whether `If-Range`, where it is sent, names this version: by its strong tag or by its very moment."""
    text = request.headers.get("if-range", "").strip()
    if not text:
        return True
    if text.startswith('"'):
        return etag_version(text, "If-Range") == version.version
    moment = None if text.startswith("W/") else moment_of_http_date(text)
    return moment is not None and moment == version.moment_us // 1_000_000 * 1_000_000
