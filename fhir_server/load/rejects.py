"""The rejects file: one JSON line for each refused request or entry, with the server's reasons."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec

from fhir_server.load.shapes import Issue
from fhir_server.load.sources import Source
from fhir_server.load.verdict import Refusal


class Reject(msgspec.Struct, omit_defaults=True):
    """A line of the rejects file: no `status` when there was no answer; `resources` counts all that went with it."""

    file: str
    place: str = ""
    type: str = ""
    status: int = 0
    resources: int = 1
    issues: list[Issue] = []


class Rejects:
    """Collects refusals; the file is made with the first one."""

    def __init__(self, path: Path | None) -> None:
        self._path = path or Path(f"healthsphere-rejects-{datetime.now():%Y%m%d-%H%M%S}.ndjson").absolute()
        self._file: IO[bytes] | None = None

    @property
    def path(self) -> Path | None:
        """The file; None while nothing was refused."""
        return self._path if self._file is not None else None

    def add(self, source: Source, refusal: Refusal) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        row = Reject(source.name, refusal.place, refusal.type, refusal.status, refusal.resources, refusal.issues)
        self._file.write(msgspec.json.encode(row) + b"\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
