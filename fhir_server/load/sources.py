"""The files of a load: found in folders, opened (also gzipped), and looked at to know which must go first."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

STANDARD_INPUT = "-"
SUFFIXES = (".json", ".ndjson", ".jsonl")
PEEK_BYTES = 65536
GZIP_MAGIC = b"\x1f\x8b"

#: Types that others refer to by criteria (`Practitioner?identifier=…`) and that refer to patients never.
FOUNDATION_TYPES = frozenset(
    {
        b"Organization",
        b"Practitioner",
        b"PractitionerRole",
        b"Location",
        b"HealthcareService",
        b"Endpoint",
        b"Medication",
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to load. `size_bytes` and `modified_ns` tell whether it is still the one that a journal speaks of."""

    path: str
    size_bytes: int = 0
    modified_ns: int = 0

    @property
    def is_stream(self) -> bool:
        return self.path == STANDARD_INPUT

    @property
    def name(self) -> str:
        return "standard input" if self.is_stream else self.path

    @property
    def suffix(self) -> str:
        """`.json`, `.ndjson` …, that of the unpacked file."""
        return Path(self.path.lower().removesuffix(".gz")).suffix


def sources_of(paths: Iterable[str]) -> list[Source]:
    """All files named or contained, in the order of the arguments, those of a folder sorted by path.

    Hidden files and folders and files of other kinds are left out of folders; a file that is named is always taken.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    found: dict[str, Source] = {}
    for text in paths:
        if text == STANDARD_INPUT:
            found.setdefault(text, Source(text))
            continue
        root = Path(text)
        if not root.exists():
            raise FileNotFoundError(f"{text} does not exist")
        for path in _files_below(root) if root.is_dir() else [root]:
            status = path.stat()
            source = Source(str(path.resolve()), status.st_size, status.st_mtime_ns)
            found.setdefault(source.path, source)
    return list(found.values())


def _files_below(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if not hidden and path.name.lower().removesuffix(".gz").endswith(SUFFIXES) and path.is_file():
            yield path


@dataclass(slots=True)
class Opened:
    """A source being read: `reader` gives the unpacked bytes, `file` knows how far in the file it is."""

    reader: io.BufferedReader[io.FileIO] | gzip.GzipFile
    file: io.BufferedReader[io.FileIO]

    def position_bytes(self) -> int:
        """How much of the file on disk has been read; 0 where that cannot be told."""
        return self.file.tell() if self.file.seekable() else 0

    def close(self) -> None:
        self.reader.close()
        self.file.close()


def opened(source: Source) -> Opened:
    """Open a source for reading; what begins like gzip is unpacked, whatever its name.

    Raises:
        OSError: it cannot be read.
    """
    standard_input = 0
    file = io.BufferedReader(io.FileIO(standard_input, closefd=False) if source.is_stream else io.FileIO(source.path))
    if file.peek(2)[:2] == GZIP_MAGIC:
        return Opened(gzip.GzipFile(fileobj=file, mode="rb"), file)
    return Opened(file, file)


_TYPE = re.compile(rb'"resourceType"\s*:\s*"([A-Za-z]+)"')
_EXECUTED = re.compile(rb'"type"\s*:\s*"(?:batch|transaction)"')


def is_foundation(source: Source) -> bool:
    """Whether a file looks like one that others refer to by criteria, so that it must be loaded before them.

    It does when the beginning shows a batch or transaction of conditional creates only, or of organizations,
    practitioners and the like only. Only the beginning is read: what is judged wrongly here is mended by the second
    round of a load.
    """
    if source.is_stream or source.suffix != ".json":
        return False
    try:
        file = opened(source)
        try:
            beginning = file.reader.read(PEEK_BYTES)
        finally:
            file.close()
    except (OSError, EOFError):
        return False  # reading it in earnest will report the fault
    if not _EXECUTED.search(beginning):
        return False
    types = set(_TYPE.findall(beginning)) - {b"Bundle"}
    if types and types <= FOUNDATION_TYPES:
        return True
    conditional, requests = beginning.count(b'"ifNoneExist"'), beginning.count(b'"method"')
    cut_off = 1 if len(beginning) == PEEK_BYTES else 0
    return conditional > 0 and requests - conditional <= cut_off
