"""Reading a request's body: never more than the limit, compressed or not."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from fhir_server.model.errors import InvalidError, TooLargeError, UnsupportedMediaTypeError

Receive = Callable[[], Awaitable[Any]]


class ClientGoneError(Exception):
    """The client closed the connection before its request was whole; there is nobody to answer."""


async def body_of(receive: Receive, headers: dict[str, str], limit_bytes: int) -> bytes:
    """The whole body, unpacked.

    Raises:
        TooLargeError: 413; it is, or unpacks to, more than `limit_bytes`.
        UnsupportedMediaTypeError: 415; it is compressed in another way than gzip or deflate.
        ClientGoneError: the client went away.
    """
    announced = headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > limit_bytes):
        raise too_large(limit_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = [body]
        size = len(body)
        while message.get("more_body"):
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit_bytes:
                raise too_large(limit_bytes)
        body = b"".join(parts)
    if len(body) > limit_bytes:
        raise too_large(limit_bytes)
    encoding = headers.get("content-encoding", "identity").strip().lower()
    return body if encoding == "identity" else unpacked(body, encoding, limit_bytes)


def unpacked(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise UnsupportedMediaTypeError(
            f"The body is compressed by {encoding[:40]!r}; this server unpacks gzip and deflate.",
            key="HS-HTTP-ENCODING",
        )
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip and zlib are told apart by their first bytes
    try:
        data = unpacker.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InvalidError(f"The body is no {encoding}: {error}.", code="structure", key="HS-HTTP-ENCODING") from None
    if len(data) > limit_bytes:
        raise too_large(limit_bytes)
    if not unpacker.eof:
        raise InvalidError(f"The {encoding} body ends too early.", code="structure", key="HS-HTTP-ENCODING")
    return data


def too_large(limit_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"The body is larger than the {limit_bytes:,} bytes that this server reads.", key="HS-HTTP-BODY-SIZE"
    )
