"""The data folder: made, proved usable, and held by one server at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from fhir_server.storage.setup import SetupError

LOCK_NAME = "healthsphere.lock"
MIN_FREE_BYTES = 512 * 2**20


def prepare_folder(folder: Path, *, min_free_bytes: int = 0) -> None:
    """Make the data folder (readable by its owner alone) and prove that files can be written there.

    Raises:
        SetupError: it cannot be used; the text says why.
    """
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SetupError(
            f"The data folder {folder} cannot be used ({reason}): "
            "choose a folder that you may write to with --data-dir or HEALTHSPHERE_DATA_DIR."
        ) from error
    if free < min_free_bytes:
        raise SetupError(
            f"Only {free // 2**20} MiB are free where the data folder {folder} is, and {min_free_bytes // 2**20} MiB "
            "are needed: free some space, or choose another folder with --data-dir."
        )


class FolderLock:
    """Holds a data folder for this process; the kernel lets go of it when the process ends, `kill -9` included."""

    def __init__(self, folder: Path) -> None:
        """Take the folder.

        Raises:
            SetupError: another server holds it, or it cannot be written.
        """
        self._path = folder / LOCK_NAME
        try:
            self._file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise SetupError(
                f"The data folder {folder} cannot be used ({(error.strerror or str(error)).lower()}): "
                "choose a folder that you may write to with --data-dir or HEALTHSPHERE_DATA_DIR."
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip()
            self._file.close()
            by = f" (process {holder})" if holder else ""
            raise SetupError(
                f"Another server{by} uses the data folder {folder}: stop it, or choose another folder with --data-dir."
            ) from None
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let go of the folder; may be called twice."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()
