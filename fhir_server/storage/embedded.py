"""A mongod of our own: a one-node replica set on loopback, living and dying with the server.

It listens on a Unix socket, for the server, and on a free port of 127.0.0.1, for tools and where no socket can be had.
It asks for a key that only this data folder holds (other users of the machine cannot read the records), and is tied to
the server by the kernel (see `leash`). What may still be left of an earlier one, after a `kill -9` of everything, is
recognised by its data path and ended first.

See https://www.mongodb.com/docs/manual/reference/program/mongod/
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.errors import ConnectionFailure, OperationFailure

from fhir_server.storage import leash, unix_socket
from fhir_server.storage.binary import find_mongod, why_it_failed
from fhir_server.storage.folder import MIN_FREE_BYTES, FolderLock, prepare_folder
from fhir_server.storage.leftover import end_leftover
from fhir_server.storage.setup import SetupError

#: Percent of the cache that changed data may take before it is written out (target) and before writers wait (trigger).
#: Files that were not used for a while are closed: there is one for each collection and index, thousands in all, and
#: the limit of open files may be as low as a few thousand.
ENGINE = {
    "eviction_dirty_target": "40",
    "eviction_dirty_trigger": "75",
    "eviction_updates_target": "40",
    "eviction_updates_trigger": "75",
    "file_manager": "(close_idle_time=30,close_scan_interval=10,close_handle_minimum=500)",
}

REPLICA_SET = "rs0"
PORT_TAKEN = 48  # mongod's exit code
PORT_TRIES = 5
LOG_KEPT_BYTES = 16 * 2**20
STOP_TIMEOUT_S = 30.0

Progress = Callable[[str], None]


def _silent(_: str) -> None:
    """Progress for nobody."""


class EmbeddedMongo:
    """A running mongod; made by `start`, ended by `stop`.

    Attributes:
        port: of 127.0.0.1, on which it listens
        socket: the Unix socket on which it listens, too; None where there is none
        uri: its address, by the socket if there is one
    """

    def __init__(
        self, process: subprocess.Popen[bytes], port: int, key: str, lock: FolderLock, folder: Path | None
    ) -> None:
        self._process = process
        self._lock = lock
        self._folder = folder
        self._stopping = False
        self.port = port
        self.socket = reachable_socket(folder, port)
        self.uri = uri_of(port, key, self.socket)

    @classmethod
    def start(
        cls, data_dir: Path, *, cache_mb: int = 1024, progress: Progress = _silent, timeout_s: float = 120.0
    ) -> Self:
        """Start mongod on `data_dir` and wait until it takes writes.

        Call it from the main thread: the kernel ends mongod when the thread that started it ends.

        Args:
            data_dir: folder of the server; the database is in `mongodb` below it, its log in `mongodb.log`.
            cache_mb: memory for its cache, in MiB.
            progress: is told what is being waited for.
            timeout_s: longest wait; a recovery after `kill -9` of a large database may take a while.

        Raises:
            SetupError: the machine or the folder does not allow it.
        """
        binary = find_mongod()
        prepare_folder(data_dir, min_free_bytes=MIN_FREE_BYTES)
        lock = FolderLock(data_dir)
        try:
            end_leftover(data_dir, progress)
            key = _key(data_dir / "mongodb.key")
            process, port, folder = _launch(binary, data_dir, key, cache_mb, progress, time.monotonic() + timeout_s)
        except BaseException:
            lock.release()
            raise
        return cls(process, port, key, lock, folder)

    @property
    def pid(self) -> int:
        return self._process.pid

    def on_exit(self, callback: Callable[[int], None]) -> None:
        """Have `callback` called, in a thread, with the exit code when mongod ends without `stop`."""

        def wait() -> None:
            code = self._process.wait()
            if not self._stopping:
                callback(code)

        threading.Thread(target=wait, name="mongod-watch", daemon=True).start()

    def stop(self) -> None:
        """End mongod in good order and let go of the folder; may be called twice."""
        self._stopping = True
        _end(self._process)
        if self._folder is not None:
            unix_socket.leave(self._folder)
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def uri_of(port: int, key: str, path: Path | None = None) -> str:
    """The address of an embedded MongoDB, with the key that opens it; `path` is that of its Unix socket."""
    host = quote(str(path), safe="") if path is not None else f"127.0.0.1:{port}"
    return f"mongodb://__system:{key}@{host}/?authSource=local&directConnection=true"


def reachable_socket(folder: Path | None, port: int) -> Path | None:
    """The socket of a running mongod, if it has one that takes connections."""
    if folder is None:
        return None
    path = unix_socket.socket_path(folder, port)
    return path if unix_socket.accepts_connections(path) else None


def _launch(
    binary: Path, data_dir: Path, key: str, cache_mb: int, progress: Progress, deadline: float
) -> tuple[subprocess.Popen[bytes], int, Path | None]:
    """A mongod that takes writes, its port, and the folder of its socket.

    Another port is taken when somebody was faster to take the first, and no socket when it cannot make one.
    """
    folder, log = unix_socket.socket_folder(data_dir), data_dir / "mongodb.log"
    for _ in range(PORT_TRIES):
        if folder is not None:
            unix_socket.sweep(folder)
        port = _free_port()
        logged_bytes = log.stat().st_size if log.exists() else 0
        with tempfile.TemporaryFile() as output:
            process = _spawn(binary, data_dir, port, folder, cache_mb, output)
            try:
                _wait_for_primary(process, port, key, progress, deadline)
            except _EndedError:
                if process.returncode == PORT_TAKEN:
                    continue
                if folder is not None and _fell_over_socket(log, logged_bytes):
                    folder = None
                    continue
                output.seek(0)
                raise _failure(process.returncode, output.read().decode(errors="replace"), data_dir) from None
            except BaseException:
                _end(process)
                raise
            return process, port, folder
    raise SetupError("No free TCP port was found on 127.0.0.1 for the embedded MongoDB: end some programs, then retry.")


def _fell_over_socket(log: Path, logged_bytes: int) -> bool:
    """Whether what mongod has logged since tells of an error with its socket."""
    if not log.exists():
        return False
    with log.open("rb") as file:
        file.seek(logged_bytes if log.stat().st_size >= logged_bytes else 0)
        return any(b".sock" in line and re.search(rb'"s":"[EF]"', line) for line in file)


def _spawn(
    binary: Path, data_dir: Path, port: int, folder: Path | None, cache_mb: int, output: IO[bytes]
) -> subprocess.Popen[bytes]:
    database, log = data_dir / "mongodb", data_dir / "mongodb.log"
    database.mkdir(mode=0o700, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".log.1"))
    parameters = {
        "diagnosticDataCollectionEnabled": "false",  # samples every second for MongoDB's support staff
        "enableLocalhostAuthBypass": "0",  # else the first local caller could make itself an administrator
        "shutdownTimeoutMillisForSignaledShutdown": "100",  # there is no other node to hand over to
    }
    command = [
        *(str(binary), "--dbpath", str(database), "--logpath", str(log), "--logappend"),
        *("--bind_ip", "127.0.0.1", "--port", str(port)),
        *(("--unixSocketPrefix", str(folder), "--filePermissions", "0600") if folder else ("--nounixsocket",)),
        *("--replSet", REPLICA_SET, "--oplogSize", "2048", "--keyFile", str(data_dir / "mongodb.key")),
        *("--wiredTigerCacheSizeGB", f"{cache_mb / 1024:.3f}"),
        # One large transaction may fill most of the cache before it is written out; by default a fifth is the limit.
        *("--wiredTigerEngineConfigString", ",".join(f"{name}={value}" for name, value in ENGINE.items())),
        *("--slowms", "3600000"),  # a slow query's log line would hold health data
        *("--quiet", "--pidfilepath", str(data_dir / "mongodb.pid")),
        *(part for name, value in parameters.items() for part in ("--setParameter", f"{name}={value}")),
    ]
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    except OSError as error:
        raise SetupError(f"The embedded MongoDB cannot be started ({error.strerror}): set MONGODB_URI.") from error


class _EndedError(Exception):
    """mongod ended while it was waited for."""


def _wait_for_primary(
    process: subprocess.Popen[bytes], port: int, key: str, progress: Progress, deadline: float
) -> None:
    progress("Starting the embedded MongoDB")
    while not _accepts_connections(port):
        _still_running(process, deadline)
    with MongoClient[dict[str, Any]](uri_of(port, key), serverSelectionTimeoutMS=2000) as client:
        configured = False
        while True:
            try:
                configured = configured or _configure_replica_set(client, f"127.0.0.1:{port}")
                if client.admin.command("hello").get("isWritablePrimary"):
                    return
                progress("Waiting for the embedded MongoDB to take writes")
            except (ConnectionFailure, OperationFailure) as error:
                # Until it has read its own configuration it refuses this and that; `deadline` ends the wait.
                progress(f"Waiting for the embedded MongoDB ({type(error).__name__})")
            _still_running(process, deadline)


def _still_running(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Let a moment pass; raise when mongod ended or the time is over."""
    try:
        process.wait(0.03)
    except subprocess.TimeoutExpired:
        if time.monotonic() > deadline:
            raise SetupError(
                "The embedded MongoDB does not take writes in time: look at mongodb.log in the data folder."
            ) from None
    else:
        raise _EndedError


def _configure_replica_set(client: MongoClient[dict[str, Any]], address: str) -> bool:
    """Make the set the first time; later tell it its new address, by which it recognises itself."""
    current = client.local["system.replset"].find_one()
    if current is None:
        client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [{"_id": 0, "host": address}]})
    elif [member["host"] for member in current["members"]] != [address]:
        current["members"] = [{**current["members"][0], "host": address}]
        current["version"] += 1
        client.admin.command("replSetReconfig", current, force=True)
    return True


def _failure(returncode: int, output: str, data_dir: Path) -> SetupError:
    log = data_dir / "mongodb.log"
    tail = log.read_bytes()[-20_000:].decode(errors="replace") if log.exists() else ""
    text = why_it_failed(returncode, output, tail)
    return SetupError(text if text.endswith(".") else f"{text}: {_last_error(tail)}see {log}.")


def _last_error(log_tail: str) -> str:
    """The message of the last error or fatal line of mongod's log, which is JSON lines."""
    for line in reversed(log_tail.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("s") in {"E", "F"} and (message := entry.get("attr", {}).get("error") or entry.get("msg")):
            return f"{str(message)[:200]}; "
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts_connections(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _key(path: Path) -> str:
    """The key of this folder's MongoDB, made the first time; mongod insists that nobody else may read the file."""
    try:
        key = path.read_text("ascii").strip()
    except FileNotFoundError:
        key = ""
    if not key:
        key = secrets.token_hex(48)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(key)
    path.chmod(0o600)
    return key


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
