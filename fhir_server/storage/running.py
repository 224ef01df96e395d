"""Finds the embedded mongod of a server that is running, for commands that work beside it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from fhir_server.storage.embedded import reachable_socket, uri_of
from fhir_server.storage.folder import FolderLock
from fhir_server.storage.leftover import arguments_of, pid_of
from fhir_server.storage.setup import SetupError


def running_uri(data_dir: Path) -> str | None:
    """The address of the MongoDB that a running server has in this data folder; None when no server holds the folder.

    The key is in a file that only the owner of the folder can read, so nobody else gets in this way.
    """
    if not (data_dir / "mongodb").is_dir() or not _is_held(data_dir):
        return None
    pid = pid_of(data_dir)
    arguments = arguments_of(pid) if pid is not None else []
    named = dict(pairwise(arguments))
    try:
        port = int(named["--port"])
        key = (data_dir / "mongodb.key").read_text("ascii").strip()
    except (ValueError, KeyError, OSError):
        return None
    folder = named.get("--unixSocketPrefix")
    return uri_of(port, key, reachable_socket(Path(folder) if folder else None, port))


def _is_held(data_dir: Path) -> bool:
    try:
        FolderLock(data_dir).release()
    except SetupError:
        return True
    return False
