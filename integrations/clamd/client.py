"""A client of clamd's INSTREAM: a content streams from the store to the scanner, never whole in memory.

clamd answers before the end of the stream when it is longer than its `StreamMaxLength`, and closes the connection. That
is no verdict: the content was not looked at (Archivematica issue 875, ClamAV issue 942). The answer is therefore read
while pieces are still sent, and a broken connection without an answer is a scanner that is not there.

Spec: clamd(8), INSTREAM: `zINSTREAM\\0`, then pieces as a length of four bytes in network order and that many bytes,
then a length of 0; the answer ends with a zero byte.
"""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from urllib.parse import urlsplit

from fhir_server.interactions.ports import Verdict
from fhir_server.model.errors import UnavailableError

#: Without a sign of life for so long, in seconds, the scanner is not there.
PATIENCE_S = 120.0

#: The longest answer that makes sense.
ANSWER_BYTES = 4096

_FOUND = re.compile(r"^[^:]+: (?P<name>.+) FOUND$")
_LIMIT = "size limit exceeded"


class Clamd:
    """A clamd at a network address, or at a socket in the file system.

    Args:
        host, port: where it listens; `host` is a path where `port` is None
    """

    def __init__(self, host: str, port: int | None, *, patience_s: float = PATIENCE_S) -> None:
        self._host = host
        self._port = port
        self._patience_s = patience_s

    async def scan(self, pieces: AsyncIterator[bytes]) -> Verdict:
        """Look through a content; raises as `Scanner.scan`."""
        try:
            async with asyncio.timeout(self._patience_s):
                reader, writer = await self._connected()
        except (OSError, TimeoutError) as error:
            raise self._silent(error) from error
        answer = asyncio.ensure_future(reader.read(ANSWER_BYTES))
        try:
            try:
                await self._sent(writer, pieces, answer)
            except OSError as error:
                # Closed while we were sending: it may have said why.
                if not answer.done():
                    with suppress(TimeoutError, OSError):
                        await asyncio.wait_for(asyncio.shield(answer), 1.0)
                if not answer.done():
                    raise self._silent(error) from error
            try:
                async with asyncio.timeout(self._patience_s):
                    text = await answer
            except (OSError, TimeoutError) as error:
                raise self._silent(error) from error
        finally:
            answer.cancel()
            writer.close()
            with suppress(OSError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 1.0)
        return self._verdict(text.rstrip(b"\0\n").decode("utf-8", "replace"))

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._port is None:
            return await asyncio.open_unix_connection(self._host)
        return await asyncio.open_connection(self._host, self._port)

    async def _sent(
        self, writer: asyncio.StreamWriter, pieces: AsyncIterator[bytes], answer: asyncio.Future[bytes]
    ) -> None:
        """Send all pieces, or those until it answers."""
        writer.write(b"zINSTREAM\0")
        async for piece in pieces:
            if answer.done():
                return
            writer.write(struct.pack("!L", len(piece)))
            writer.write(piece)
            async with asyncio.timeout(self._patience_s):
                await writer.drain()
        writer.write(struct.pack("!L", 0))
        await writer.drain()

    def _verdict(self, text: str) -> Verdict:
        """What an answer means; an unknown one is no verdict, and never a clean one.

        Raises:
            UnavailableError: it says nothing, or that the scanner failed.
        """
        if text.endswith(": OK"):
            return Verdict("clean")
        if (found := _FOUND.match(text)) is not None:
            return Verdict("infected", found["name"])
        if _LIMIT in text:
            return Verdict("unscannable", "It is larger than the scanner's StreamMaxLength.")
        raise self._silent(text or "it closed the connection")

    def _silent(self, why: object) -> UnavailableError:
        where = self._host if self._port is None else f"{self._host}:{self._port}"
        told = type(why).__name__ if isinstance(why, BaseException) else str(why)[:200]
        return UnavailableError(f"The virus scanner at {where} does not answer: {told}.", key="HS-DOCUMENT-SCANNER")


def clamd_of(address: str) -> Clamd | None:
    """The clamd of an address such as `tcp://127.0.0.1:3310` or `unix:///run/clamav/clamd.ctl`; None of an empty one.

    Raises:
        ValueError: it is no such address.
    """
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path:
        return Clamd(parts.path, None)
    if parts.scheme == "tcp" and parts.hostname:
        return Clamd(parts.hostname, parts.port or 3310)
    raise ValueError(f"{address!r} is no address of clamd: tcp://host:port or unix:///path was expected")
