"""Ends a mongod that outlived its server, so that the next start on the same folder just works.

Where the kernel ties child to parent (Linux) one is left for a moment at most, while it writes its last pages.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from fhir_server.storage.setup import SetupError

PATIENCE_S = 20.0


def end_leftover(data_dir: Path, progress: Callable[[str], None]) -> None:
    """End the mongod that still has `<data_dir>/mongodb` open, if there is one. Hold the folder's lock when calling.

    Raises:
        SetupError: it does not end, or belongs to another user.
    """
    pid = pid_of(data_dir)
    if pid is None:
        return
    progress("Ending the MongoDB that an earlier server left behind")
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise SetupError(
                f"A MongoDB of another user (process {pid}) uses the data folder {data_dir}: "
                "have it ended, or choose another folder with --data-dir."
            ) from None
        if _gone_within(PATIENCE_S, data_dir):
            return
    raise SetupError(f"The MongoDB that an earlier server left behind (process {pid}) does not end: end it by hand.")


def _gone_within(seconds: float, data_dir: Path) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pid_of(data_dir) is None:
            return True
        time.sleep(0.05)
    return False


def pid_of(data_dir: Path) -> int | None:
    """The process that runs on this folder: named by mongod's pid file, or by the lock file inside its data path.

    A process id is used again after a while, so the process must have our data path among its arguments.
    """
    database = str(data_dir / "mongodb")
    for file in (data_dir / "mongodb.pid", data_dir / "mongodb" / "mongod.lock"):
        try:
            pid = int(file.read_text("ascii").strip() or 0)
        except (FileNotFoundError, ValueError):
            continue
        if pid > 0 and database in arguments_of(pid):
            return pid
    return None


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; empty when there is none, or when it has ended and nobody has reaped it yet."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            return []
    found = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()
