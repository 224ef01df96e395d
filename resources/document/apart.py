"""Has the worker look into documents, in a process apart that can break without anybody noticing."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from fhir_server.model.errors import UnprocessableError

#: A worker that takes longer, in seconds, is ended.
PATIENCE_S: Final = 40.0

#: Workers at work at once for one event loop, which is a process of the server.
AT_ONCE: Final = 2
_ROOM: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()

#: Run as a file, so that it loads nothing of the server.
WORKER: Final = Path(__file__).with_name("worker.py")


async def inspected(path: Path) -> str:
    """What a PDF does by itself, in words; empty where it does nothing. What breaks the worker is not let go."""
    status, out = await _run("inspect", str(path))
    if status != 0:
        return "It cannot be looked into: it breaks what reads it."
    found = json.loads(out)
    return ("It was looked into: " + "; ".join(found) + ".") if found else ""


async def previewed(path: Path, content_type: str, out: Path) -> bytes:
    """A picture of a document, as PNG.

    Raises:
        UnprocessableError: 422; there can be none of it.
    """
    status, _ = await _run("preview", str(path), content_type, str(out))
    if status != 0 or not out.exists():
        raise UnprocessableError(
            "There is no preview of this document: it cannot be read as what it is said to be.",
            code="not-supported",
            key="HS-DOCUMENT-PREVIEW",
        )
    return await asyncio.to_thread(out.read_bytes)


async def _run(*arguments: str) -> tuple[int, bytes]:
    """Run the worker with nothing of this process's environment: there are secrets in that."""
    async with _ROOM.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(AT_ONCE)):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(WORKER),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.defpath},
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await process.communicate()
        except TimeoutError:
            return -1, b""
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        return process.returncode or 0, out
