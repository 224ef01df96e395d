"""What a load is asked to do, and what it tells at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

#: Where `make run` serves.
DEFAULT_BASE_URL = "http://127.0.0.1:8000/fhir"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """One call of `healthsphere load`.

    `paths` are files, folders or `-` (standard input). `jobs` requests are under way at once; a large Bundle counts
    as several. `rejects` is where refused resources are noted (default: `healthsphere-rejects-<time>.ndjson` in the
    current folder, made only when there is one). `state_dir` holds the journals by which an interrupted load
    continues (default: `healthsphere/load` in the user's state folder). `patience_s`: how long a server that stopped
    answering is waited for.
    """

    paths: tuple[str, ...]
    base_url: str = DEFAULT_BASE_URL
    jobs: int = 4
    token: str | None = None
    rejects: Path | None = None
    resume: bool = True
    state_dir: Path | None = None
    batch_entries: int = 100
    timeout_s: float = 600.0
    patience_s: float = 60.0


@dataclass(slots=True)
class LoadReport:
    """The counts of a load; all but `files`, `seconds` count resources."""

    files: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    rejected: int = 0
    already_loaded: int = 0
    seconds: float = 0.0
    rejects_file: Path | None = None
    interrupted: bool = False
    failure: str | None = None

    @property
    def accepted(self) -> int:
        """Resources that the server has taken, found unchanged, or deleted as the Bundle asked."""
        return self.created + self.updated + self.unchanged + self.deleted

    @property
    def resources_per_s(self) -> float:
        return self.accepted / self.seconds if self.seconds > 0 else 0.0

    @property
    def exit_code(self) -> int:
        """0 when all of it is loaded; 1 when something was rejected or the load could not be finished."""
        return 1 if self.rejected or self.failure or self.interrupted else 0
