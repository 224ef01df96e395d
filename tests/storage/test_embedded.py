"""The embedded MongoDB, for real: its own process, its own folder, every way of ending it."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from fhir_server.storage import embedded, unix_socket
from fhir_server.storage.check import check_mongodb
from fhir_server.storage.embedded import EmbeddedMongo, uri_of
from fhir_server.storage.setup import SetupError

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedMongo]:
    with EmbeddedMongo.start(tmp_path_factory.mktemp("data"), cache_mb=256) as mongo:
        yield mongo


def arguments_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def folder_of(mongo: EmbeddedMongo) -> Path:
    arguments = arguments_of(mongo.pid)
    return Path(arguments[arguments.index("--dbpath") + 1]).parent


def server_process(folder: Path) -> subprocess.Popen[str]:
    """A process that starts MongoDB on `folder`, counts its own visit, says how many there were, and waits."""
    program = f"""
        import sys
        from pathlib import Path
        from pymongo import MongoClient
        from fhir_server.storage.embedded import EmbeddedMongo

        mongo = EmbeddedMongo.start(Path({str(folder)!r}), cache_mb=256)
        visits = MongoClient(mongo.uri).t.get_collection("visits")
        visits.insert_one({{}})
        print(visits.count_documents({{}}), mongo.pid, flush=True)
        sys.stdin.read()
        """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def visits_and_pid(process: subprocess.Popen[str]) -> tuple[int, int]:
    assert process.stdout is not None
    visits, pid = process.stdout.readline().split()
    return int(visits), int(pid)


def close(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_it_is_a_replica_set_with_transactions_and_change_streams(running: EmbeddedMongo) -> None:
    check_mongodb(running.uri)
    with MongoClient[dict[str, Any]](running.uri) as client:
        collection = client.t.rows
        with collection.watch() as changes:
            with client.start_session() as session, session.start_transaction():
                collection.insert_one({"_id": 1}, session=session)
            assert next(changes)["operationType"] == "insert"


def test_the_server_reaches_it_by_a_socket_that_its_user_alone_can_open_and_tools_by_loopback(
    running: EmbeddedMongo,
) -> None:
    assert running.socket == folder_of(running) / f"mongodb-{running.port}.sock"
    assert stat.S_IMODE(running.socket.stat().st_mode) == 0o600
    assert str(running.port) in running.uri
    assert ".sock/" in running.uri
    key = (folder_of(running) / "mongodb.key").read_text()
    check_mongodb(uri_of(running.port, key))


def test_it_listens_on_loopback_only_and_lives_in_the_process_group_of_the_server(running: EmbeddedMongo) -> None:
    arguments = arguments_of(running.pid)
    assert arguments[arguments.index("--bind_ip") + 1] == "127.0.0.1"
    assert os.getpgid(running.pid) == os.getpgid(0)


def test_another_user_of_the_machine_can_neither_read_nor_make_an_account(running: EmbeddedMongo) -> None:
    with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{running.port}/?directConnection=true") as stranger:
        with pytest.raises(OperationFailure, match="requires authentication"):
            stranger.t.rows.find_one()
        with pytest.raises(OperationFailure, match="requires authentication"):
            stranger.admin.command("createUser", "x", pwd="y", roles=["root"])


def test_the_key_is_readable_by_its_owner_alone(running: EmbeddedMongo) -> None:
    assert stat.S_IMODE((folder_of(running) / "mongodb.key").stat().st_mode) == 0o600


def test_a_second_server_on_the_same_folder_is_told_so_in_one_line(running: EmbeddedMongo) -> None:
    with pytest.raises(SetupError, match=rf"^Another server \(process {os.getpid()}\) uses the data folder [^\n]*$"):
        EmbeddedMongo.start(folder_of(running), cache_mb=256)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_it_ends_with_a_server_that_is_killed_and_the_next_start_has_the_data(tmp_path: Path) -> None:
    first = server_process(tmp_path)
    visits, pid = visits_and_pid(first)
    assert visits == 1
    first.kill()
    second = server_process(tmp_path)  # at once, while the first MongoDB may still be writing its last pages
    assert visits_and_pid(second)[0] == 2
    assert gone_within(pid, 1)
    close(first)
    close(second)


def test_after_a_kill_of_server_and_mongodb_the_next_start_just_works(tmp_path: Path) -> None:
    for visit in (1, 2, 3):
        process = server_process(tmp_path)
        visits, pid = visits_and_pid(process)
        assert visits == visit
        os.kill(pid, signal.SIGKILL)
        close(process)


def test_the_socket_that_a_killed_mongodb_leaves_is_removed_by_the_next_start(tmp_path: Path) -> None:
    process = server_process(tmp_path)
    os.kill(visits_and_pid(process)[1], signal.SIGKILL)
    close(process)
    (left,) = tmp_path.glob("mongodb-*.sock")
    with EmbeddedMongo.start(tmp_path, cache_mb=256) as mongo:
        assert [*tmp_path.glob("mongodb-*.sock")] == [mongo.socket]
    assert not left.exists()
    assert [*tmp_path.glob("*.sock")] == []


def test_a_mongodb_that_outlived_its_server_is_ended_by_the_next_start(tmp_path: Path) -> None:
    process = server_process(tmp_path)
    _, pid = visits_and_pid(process)
    os.kill(pid, signal.SIGSTOP)  # it cannot obey the kernel's signal now
    close(process)
    assert not gone_within(pid, 0.3)
    os.kill(pid, signal.SIGCONT)
    with EmbeddedMongo.start(tmp_path, cache_mb=256) as mongo:
        assert mongo.pid != pid
        assert gone_within(pid, 1)


def test_an_end_that_nobody_asked_for_is_reported(tmp_path: Path) -> None:
    ended: list[int] = []
    with EmbeddedMongo.start(tmp_path, cache_mb=256) as mongo:
        mongo.on_exit(ended.append)
        os.kill(mongo.pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not ended and time.monotonic() < deadline:
            time.sleep(0.01)
    assert ended == [-signal.SIGKILL]


def test_a_damaged_database_is_told_in_one_line_that_names_the_log(tmp_path: Path) -> None:
    EmbeddedMongo.start(tmp_path, cache_mb=256).stop()
    for file in (tmp_path / "mongodb").glob("WiredTiger*"):
        file.write_bytes(b"damaged")
    with pytest.raises(SetupError, match=r"^The embedded MongoDB stopped while it started [^\n]*mongodb\.log\.$"):
        EmbeddedMongo.start(tmp_path, cache_mb=256)


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Put a shell script in the place of mongod."""
    program = tmp_path / "mongod"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(embedded, "find_mongod", lambda: program)


def test_a_missing_system_library_is_told_with_the_package_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loader = "mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file"
    pretend(monkeypatch, tmp_path, f'echo "{loader}" >&2; exit 127')
    with pytest.raises(SetupError, match=r"libcurl\.so\.4, which is missing: run `sudo apt-get install libcurl4`"):
        EmbeddedMongo.start(tmp_path / "data")


def test_another_port_is_tried_when_somebody_was_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, tries = embedded.find_mongod(), tmp_path / "tries"
    pretend(monkeypatch, tmp_path, f'echo >> {tries}; [ $(wc -l < {tries}) = 1 ] && exit 48; exec {real} "$@"')
    with EmbeddedMongo.start(tmp_path / "data", cache_mb=256) as mongo:
        check_mongodb(mongo.uri)
    assert len(tries.read_text().splitlines()) == 2


def test_a_folder_that_is_too_deep_for_a_socket_has_it_among_the_temporary_files(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with EmbeddedMongo.start(tmp_path / ("deep" * 30), cache_mb=256) as mongo:
        assert mongo.socket is not None
        assert mongo.socket.parent.parent == temporary
        assert stat.S_IMODE(mongo.socket.parent.stat().st_mode) == 0o700
        check_mongodb(mongo.uri)
    assert [*temporary.iterdir()] == []


def test_without_a_place_for_a_socket_it_is_reached_by_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_socket, "socket_folder", lambda _: None)
    with EmbeddedMongo.start(tmp_path, cache_mb=256) as mongo:
        assert mongo.socket is None
        assert f"@127.0.0.1:{mongo.port}/" in mongo.uri
        check_mongodb(mongo.uri)


def test_a_mongodb_that_cannot_make_its_socket_is_started_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, log = embedded.find_mongod(), tmp_path / "data" / "mongodb.log"
    line = '{"s":"E","c":"NETWORK","msg":"Failed to unlink socket file","attr":{"path":"/x/mongodb-1.sock"}}'
    refused = f"case \"$*\" in *unixSocketPrefix*) echo '{line}' >> {log}; exit 14;; esac"
    pretend(monkeypatch, tmp_path, f'{refused}; exec {real} "$@"')
    with EmbeddedMongo.start(tmp_path / "data", cache_mb=256) as mongo:
        assert mongo.socket is None
        check_mongodb(mongo.uri)


def test_a_mongodb_that_never_takes_writes_is_given_up_and_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend(monkeypatch, tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(SetupError, match="does not take writes in time"):
        EmbeddedMongo.start(tmp_path / "data", timeout_s=1)
    assert gone_within(int((tmp_path / "pid").read_text()), 1)


def test_the_folder_is_free_again_after_a_start_that_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        pretend(patch, tmp_path, "exit 1")
        with pytest.raises(SetupError, match="stopped while it started"):
            EmbeddedMongo.start(tmp_path / "data")
    EmbeddedMongo.start(tmp_path / "data", cache_mb=256).stop()
