"""What is told when the machine, the folder or the MongoDB cannot carry the server."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhir_server.storage import binary
from fhir_server.storage.binary import find_mongod, why_it_failed
from fhir_server.storage.check import check_mongodb, host_of
from fhir_server.storage.folder import FolderLock, prepare_folder
from fhir_server.storage.setup import SetupError


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libcurl.so.4", "libcurl4"),
        ("libssl.so.3", "libssl3"),
        ("libcrypto.so.3", "libssl3"),
        ("liblzma.so.5", "liblzma5"),
    ],
)
def test_a_missing_library_names_the_debian_package(library: str, package: str) -> None:
    output = f"mongod: error while loading shared libraries: {library}: cannot open shared object file: No such file"
    assert f"apt-get install {package}`" in why_it_failed(127, output, "")


@pytest.mark.parametrize(
    ("returncode", "output", "log", "said"),
    [
        (127, "error while loading shared libraries: libodd.so.1: cannot open shared object file", "", "libodd.so.1"),
        (1, "mongod: /lib/libc.so.6: version `GLIBC_2.34' not found (required by mongod)", "", "GLIBC_2.34"),
        (126, "OSError: [Errno 8] Exec format error: 'mongod'", "", "not built for this processor"),
        (-signal.SIGILL, "", "", "AVX"),
        (-signal.SIGKILL, "", "", "HEALTHSPHERE_MONGODB_CACHE_MB"),
        (14, "", '{"s":"E","msg":"No space left on device"}', "disk of the data folder is full"),
        (62, "", "Wrong featureCompatibilityVersion, please UPGRADE", "another MongoDB version"),
    ],
)
def test_each_known_cause_is_one_line_that_says_what_to_do(returncode: int, output: str, log: str, said: str) -> None:
    text = why_it_failed(returncode, output, log)
    assert said in text
    assert text.endswith(".")
    assert "\n" not in text


def test_a_platform_without_a_mongod_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(binary.shutil, "which", lambda _: None)
    with pytest.raises(SetupError, match=r"`mongod` is on the PATH, or set MONGODB_URI"):
        find_mongod()


def test_a_mongod_on_the_path_is_taken_when_the_package_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(binary.shutil, "which", lambda _: "/opt/mongod")
    assert find_mongod() == Path("/opt/mongod")


def test_a_data_folder_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match=r"^The data folder .* cannot be used \(.*\): choose [^\n]*$"):
        prepare_folder(tmp_path / "file" / "data")


def test_a_full_disk_is_told_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"^Only \d+ MiB are free .* and \d+ MiB are needed: free some space"):
        prepare_folder(tmp_path, min_free_bytes=2**62)


def test_a_new_data_folder_is_closed_to_other_users(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o077 == 0
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_folder_is_held_by_one_until_it_lets_go(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(SetupError, match="Another server"):
        FolderLock(tmp_path)
    FolderLock(tmp_path).release()


def test_a_mongodb_that_is_not_there_is_told_without_the_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(SetupError) as told:
            check_mongodb(f"mongodb://me:sesame@127.0.0.1:{port}/", timeout_s=0.3)
    assert f"127.0.0.1:{port} does not answer within 0.3 s (connection refused)" in str(told.value)
    assert "sesame" not in str(told.value)


@pytest.mark.parametrize("uri", ["http://example.org", "mongodb://", "mongodb://h:port/"])
def test_a_uri_that_is_none_is_told_with_an_example(uri: str) -> None:
    with pytest.raises(SetupError, match=r"it looks like mongodb://"):
        check_mongodb(uri, timeout_s=0.3)


def test_hosts_are_shown_without_credentials() -> None:
    assert host_of("mongodb://u:p%40ss@one:1,two:2/db?x=y") == "one:1,two:2"


@pytest.fixture(params=["stand-alone", "never initiated"])
def unready_mongod(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    command = [str(find_mongod()), "--dbpath", str(tmp_path), "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--logpath", str(tmp_path / "log")]
    if request.param == "never initiated":
        command += ["--replSet", "rs0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield f"mongodb://127.0.0.1:{port}/"
    process.terminate()
    process.wait(30)


@pytest.mark.server
@pytest.mark.parametrize("options", ["", "?directConnection=true"])
def test_a_mongodb_without_replica_set_is_told_how_to_become_one(unready_mongod: str, options: str) -> None:
    with pytest.raises(SetupError, match=r"run `rs\.initiate\(\)` in mongosh"):
        check_mongodb(unready_mongod + options, timeout_s=1)
