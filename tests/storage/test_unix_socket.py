"""Where a Unix socket can be: not in every folder."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from fhir_server.storage.unix_socket import accepts_connections, leave, socket_folder, socket_path, sweep


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, one of the test's own."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    return folder


def test_the_data_folder_has_it_when_it_can_and_nothing_is_left_of_the_trial(data_dir: Path) -> None:
    assert socket_folder(data_dir) == data_dir
    assert [*data_dir.iterdir()] == []


@pytest.mark.parametrize("name", ["x" * 90, "a,b", "ä", "a@b", "a:b", "a%2Fb", "a?b", "a+b"])
def test_a_name_that_is_too_long_or_that_a_connection_string_cannot_carry_has_it_elsewhere(
    data_dir: Path, temporary: Path, name: str
) -> None:
    (data_dir / name).mkdir(mode=0o700)
    folder = socket_folder(data_dir / name)
    assert folder is not None
    assert folder.parent == temporary
    assert socket_folder(data_dir / name) == folder  # each time the same, so that nothing piles up
    leave(folder)
    assert [*temporary.iterdir()] == []


def test_a_folder_that_others_may_write_to_is_not_used(data_dir: Path, temporary: Path) -> None:
    data_dir.chmod(0o777)
    folder = socket_folder(data_dir)
    assert folder is not None
    assert folder.parent == temporary
    folder.chmod(0o777)
    assert socket_folder(data_dir) is None
    folder.rmdir()
    folder.symlink_to(data_dir)
    assert socket_folder(data_dir) is None


@pytest.mark.skipif(os.getuid() != 0, reason="only the superuser can give a folder away")
def test_a_folder_of_another_user_is_not_used(data_dir: Path, temporary: Path) -> None:
    data_dir.chmod(0o777)
    folder = socket_folder(data_dir)
    assert folder is not None
    os.chown(folder, 12345, 12345)
    assert socket_folder(data_dir) is None


def test_a_file_system_without_sockets_has_none(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("Operation not supported")

    monkeypatch.setattr(socket, "socket", type("Refusing", (socket.socket,), {"bind": refused}))
    assert socket_folder(data_dir) is None


def test_sockets_are_swept_and_nothing_else(data_dir: Path) -> None:
    for name in ("mongodb-1.sock", "mongodb-65535.sock", "mongodb.log", "other.sock"):
        (data_dir / name).touch()
    sweep(data_dir)
    assert {path.name for path in data_dir.iterdir()} == {"mongodb.log", "other.sock"}
    leave(data_dir)
    assert data_dir.exists()


def test_a_socket_takes_connections_while_somebody_listens(data_dir: Path) -> None:
    path = socket_path(data_dir, 7)
    assert not accepts_connections(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert accepts_connections(path)
    assert not accepts_connections(path)
