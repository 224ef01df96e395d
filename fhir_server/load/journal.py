"""What an interrupted load has already done, so that the same call continues instead of beginning anew.

One journal per base URL and set of paths, a file of JSON lines in the user's state folder, written as answers arrive
and removed when a load comes to its end: it is about interruptions, not about what the server holds. A request that
must not be sent twice is noted before it is sent; if the load dies before the answer, the next one reports it instead
of repeating it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from fhir_server.load.parcels import Item
from fhir_server.load.sources import Source

if sys.platform != "win32":
    import fcntl


class Line(msgspec.Struct, omit_defaults=True):
    """A note: these items (`[first, last]` indexes) of this file are done, are about to be sent, or were refused."""

    file: str
    size: int
    mtime: int
    done: list[tuple[int, int]] = []
    sending: list[tuple[int, int]] = []
    refused: list[tuple[int, int]] = []


def state_folder() -> Path:
    """`$XDG_STATE_HOME/healthsphere/load`, by default below `~/.local/state`."""
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / "healthsphere" / "load"


class JournalInUseError(Exception):
    """Two loads of the same files would send each of them twice."""


class Journal:
    """The notes of one load, in the file `path`.

    Raises:
        JournalInUseError: when made; another process is loading the same files into the same server.
    """

    def __init__(self, folder: Path, base_url: str, paths: Iterable[str], *, resume: bool) -> None:
        names = sorted(str(Path(p).resolve()) for p in paths if p != "-")
        digest = hashlib.sha256("\n".join([base_url.rstrip("/"), *names]).encode()).hexdigest()[:24]
        self.path = folder / f"{digest}.ndjson"
        self._done: dict[tuple[str, int, int], set[int]] = {}
        self._sending: dict[tuple[str, int, int], set[int]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab")
        _lock(self._file)
        if resume:
            self._read()
        else:
            self._file.truncate(0)

    def _read(self) -> None:
        decoder = msgspec.json.Decoder(Line)
        for text in self.path.read_bytes().splitlines():
            try:
                line = decoder.decode(text)
            except msgspec.DecodeError:
                continue  # the last line of a load that was killed while writing it
            key = (line.file, line.size, line.mtime)
            self._done.setdefault(key, set()).update(_indexes(line.done))
            sending = self._sending.setdefault(key, set())
            sending.update(_indexes(line.sending))
            sending.difference_update(_indexes(line.refused))

    @property
    def continues(self) -> bool:
        """Whether an earlier load was interrupted."""
        return bool(self._done or self._sending)

    def done(self, source: Source) -> set[int]:
        """The indexes that an earlier load brought to an end; none when the file has changed since."""
        return self._done.get(_key(source), set())

    def uncertain(self, source: Source) -> set[int]:
        """The indexes that were sent, must not be sent twice, and were never answered."""
        return self._sending.get(_key(source), set()) - self.done(source)

    def note_done(self, source: Source, items: Iterable[Item]) -> None:
        """These are in the server."""
        self._write(source, items, lambda line, spans: setattr(line, "done", spans))

    def note_sending(self, source: Source, items: Iterable[Item]) -> None:
        """These are about to be sent and must not be sent twice."""
        self._write(source, items, lambda line, spans: setattr(line, "sending", spans))

    def note_refused(self, source: Source, items: Iterable[Item]) -> None:
        """These are surely not in the server: the next load may send them."""
        self._write(source, items, lambda line, spans: setattr(line, "refused", spans))

    def _write(self, source: Source, items: Iterable[Item], put: Callable[[Line, list[tuple[int, int]]], None]) -> None:
        spans = list(_spans(sorted({item.index for item in items})))
        if source.is_stream or not spans:
            return
        line = Line(source.path, source.size_bytes, source.modified_ns)
        put(line, spans)
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()

    def close(self, *, finished: bool) -> None:
        """End the notes; a load that came to its end leaves none."""
        if finished or not self._file.tell():
            self.path.unlink(missing_ok=True)
        self._file.close()


def _lock(file: IO[bytes]) -> None:
    """Keep other loads off this journal until the file is closed, or the process ends in whatever way."""
    if sys.platform == "win32":
        return  # a file there cannot be removed while another process has it open, which is lock enough
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise JournalInUseError("Another load of the same files into the same server is under way.") from None


def _key(source: Source) -> tuple[str, int, int]:
    return source.path, source.size_bytes, source.modified_ns


def _indexes(spans: Iterable[tuple[int, int]]) -> Iterator[int]:
    for first, last in spans:
        yield from range(first, last + 1)


def _spans(indexes: list[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for position, index in enumerate(indexes):
        if position + 1 == len(indexes) or indexes[position + 1] != index + 1:
            yield indexes[start], index
            start = position + 1
