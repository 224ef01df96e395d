"""Contents of Binaries, sent and fetched as they are: which requests carry one, and how it streams through.

Spec: https://hl7.org/fhir/R4/binary.html#rest
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.types import Receive as AsgiReceive
from starlette.types import Send

from fhir_server.http.body import ClientGoneError, Receive, too_large
from fhir_server.http.negotiate import FHIR_JSON, FHIR_XML, JSON_TYPES, XML_TYPES, ranges_of
from fhir_server.model.errors import InvalidError, UnsupportedMediaTypeError
from fhir_server.model.exchange import MARK, Content

#: Where documents are sent as they are, and the resources that can be sent there too.
UPLOAD = ("DocumentReference", "$upload")
UPLOADED = frozenset({b"DocumentReference", b"Parameters"})

#: What tells a Binary resource from a content that is JSON or XML stands within this many bytes.
HEAD_BYTES = 4096

#: Bytes that are unpacked at a time.
SLICE = 256 * 1024

_JSON_TYPE = re.compile(rb'"resourceType"\s*:\s*"(\w+)"')
_XML_PROLOG = re.compile(rb"\A(?:\xef\xbb\xbf)?(?:\s+|<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*>)*", re.DOTALL)
_XML_ROOT = re.compile(rb"<(?:[\w.-]+:)?([\w.-]+)([^>]*)>")
_FHIR_NAMESPACE = b"http://hl7.org/fhir"


def carries_content(method: str, path: tuple[str, ...]) -> bool:
    """Whether a body sent there may be a content instead of a resource: that of a Binary, or of a document."""
    if path == UPLOAD:
        return method == "POST"
    if path[:1] != ("Binary",):
        return False
    return (method == "POST" and len(path) == 1) or (method == "PUT" and len(path) == 2)


def gives_content(method: str, path: tuple[str, ...]) -> bool:
    """Whether the answer may be the content of a Binary: a read or vread of one."""
    if path[:1] != ("Binary",) or method not in ("GET", "HEAD"):
        return False
    return (len(path) == 2 and path[1][:1] not in ("$", "_")) or (len(path) == 4 and path[2] == "_history")


def preferred(accept: str) -> frozenset[str]:
    """The media ranges that a client likes best."""
    ranges = ranges_of(accept)
    best = max((quality for _, quality in ranges), default=0.0)
    return frozenset(name for name, quality in ranges if quality == best)


class Peeked:
    """The messages of a request; the first ones can be looked at before they are read."""

    def __init__(self, receive: Receive, headers: dict[str, str]) -> None:
        self._receive = receive
        self._headers = headers
        self._seen: list[Any] = []

    async def __call__(self) -> Any:
        return self._seen.pop(0) if self._seen else await self._receive()

    async def is_content(self, resources: frozenset[bytes] = frozenset({b"Binary"})) -> bool:
        """Whether the body is something else than a resource of one of some types.

        JSON or XML that is another resource, or no resource, is a content like any other; what its type calls FHIR
        and is no resource at all is left to be refused.
        """
        name = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        if name not in JSON_TYPES | XML_TYPES:
            return name != ""
        head = await self._head()
        if name in JSON_TYPES:
            found = _JSON_TYPE.search(head)
            return name != FHIR_JSON if found is None else found[1] not in resources
        root = _XML_ROOT.match(head, _end_of_prolog(head))
        if root is None or not (root[1] in resources and _FHIR_NAMESPACE in root[2]):
            return name != FHIR_XML or (root is not None and root[1] not in resources)
        return False

    async def _head(self) -> bytes:
        raw = b""
        while len(raw) < HEAD_BYTES:
            message = await self._receive()
            self._seen.append(message)
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        if self._headers.get("content-encoding", "identity").strip().lower() in ("gzip", "deflate"):
            try:
                return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(raw, HEAD_BYTES)
            except zlib.error:
                return b""
        return raw


def _end_of_prolog(head: bytes) -> int:
    prolog = _XML_PROLOG.match(head)
    return prolog.end() if prolog else 0


async def content_of(receive: Receive, headers: dict[str, str], limit_bytes: int) -> AsyncIterator[bytes]:
    """A body in pieces, unpacked.

    Raises:
        TooLargeError: 413; it is, or unpacks to, more than `limit_bytes`.
        UnsupportedMediaTypeError: 415; it is compressed in another way than gzip or deflate.
        ClientGoneError: the client went away.
    """
    announced = headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit_bytes:
        raise too_large(limit_bytes)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    pieces = _pieces(receive)
    if encoding in ("gzip", "deflate"):
        pieces = _unpacked(pieces, encoding)
    elif encoding != "identity":
        raise UnsupportedMediaTypeError(
            f"The body is compressed by {encoding[:40]!r}; this server unpacks gzip and deflate.",
            key="HS-HTTP-ENCODING",
        )
    size = 0
    async for piece in pieces:
        size += len(piece)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        yield piece


async def _pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        more = message.get("more_body", False)
        if body := message.get("body", b""):
            yield body


async def _unpacked(pieces: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        async for piece in pieces:
            data = piece
            while data:
                if out := unpacker.decompress(data, SLICE):
                    yield out
                data = unpacker.unconsumed_tail
        while out := unpacker.decompress(b"", SLICE):
            yield out
    except zlib.error as error:
        raise InvalidError(f"The body is no {encoding}: {error}.", code="structure", key="HS-HTTP-ENCODING") from None
    if not unpacker.eof:
        raise InvalidError(f"The {encoding} body ends too early.", code="structure", key="HS-HTTP-ENCODING")


def content_headers(content: Content) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is a content: what it is, and that browsers save it instead of showing it."""
    return [
        (b"content-type", (content.media_type or "application/octet-stream").encode("latin-1", "replace")),
        (b"content-disposition", b"attachment"),
        (b"vary", b"accept"),
        (b"cache-control", b"private, no-cache"),
    ]


def parts_of(content: Content, body: bytes | None) -> tuple[bytes, bytes]:
    """What is sent before and after a content: the text around its mark, or nothing."""
    if body is None:
        return b"", b""
    before, mark, after = body.partition(MARK)
    return (before, after) if mark else (body, b"")


async def send_content(receive: AsgiReceive, send: Send, content: Content, before: bytes, after: bytes) -> None:
    """Send the body of an answer piece by piece; a client that goes away ends it."""
    gone = asyncio.ensure_future(receive())
    try:
        if before:
            await send({"type": "http.response.body", "body": before, "more_body": True})
        async for piece in content.pieces:
            if gone.done() and gone.result()["type"] == "http.disconnect":
                return
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": after})
    finally:
        gone.cancel()
