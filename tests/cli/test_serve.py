"""`healthsphere serve` as a process of its own, and every way in which it cannot start."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.server

Serve = Callable[..., "Process"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A running `healthsphere serve` in a session of its own; its output goes to a file."""

    def __init__(self, folder: Path, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        self.data_dir = folder / "data"
        self._log = folder / f"output-{self.port}"
        clean = {name: value for name, value in os.environ.items() if name != "MONGODB_URI"}
        command = [sys.executable, "-m", "fhir_server.cli", "serve", "--port", str(self.port)]
        command += ["--data-dir", str(self.data_dir), *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**clean, **environment},
                cwd=Path(__file__).parents[2],
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def get(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait_until_ready(self) -> Process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                if self.get("/health/ready")[0] == 200:
                    return self
            time.sleep(0.05)
        raise AssertionError(self.output)

    def kill_all(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def refusal(self) -> tuple[int, str]:
        """The exit status and the one line of a server that cannot start."""
        status = self.process.wait(60)
        (line,) = self.output.strip().splitlines()
        return status, line


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    started: list[Process] = []

    def start(*arguments: str, port: int | None = None, **environment: str) -> Process:
        started.append(Process(tmp_path, *arguments, port=port, **environment))
        return started[-1]

    yield start
    for process in started:
        process.kill_all()


def left_of_group(group: int, within_s: float = 10) -> list[int]:
    """The processes of a group that are still there after a while; none as soon as there are none."""
    deadline = time.monotonic() + within_s
    while (left := processes_of_group(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def processes_of_group(group: int) -> list[int]:
    members = []
    for entry in Path("/proc").iterdir():
        with suppress(ValueError, OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                members.append(int(entry.name))
    return members


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_greets_answers_and_stops_in_good_order(serve: Serve, workers: str) -> None:
    server = serve("--auth", "off", "--workers", workers).wait_until_ready()
    assert server.get("/fhir/metadata")[0] == 200
    assert server.get("/metrics")[0] == 200
    deadline = time.monotonic() + 10
    while "Ctrl-C" not in server.output and time.monotonic() < deadline:
        time.sleep(0.05)
    assert f"curl http://127.0.0.1:{server.port}/fhir/metadata" in server.output
    assert "Access control is OFF" in server.output
    group = server.process.pid
    assert server.stop() == 0
    assert left_of_group(group) == []
    assert "Traceback" not in server.output


def test_ctrl_c_reaches_the_whole_group_and_is_no_fault(serve: Serve) -> None:
    server = serve("--auth", "off").wait_until_ready()
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.process.wait(60) == 0
    assert "Error:" not in server.output
    assert "Traceback" not in server.output
    assert left_of_group(server.process.pid) == []


def test_with_access_control_only_the_capabilities_are_open(serve: Serve) -> None:
    server = serve().wait_until_ready()
    token = (server.data_dir / "access-token").read_text().strip()
    assert server.get("/fhir/metadata")[0] == 200
    assert server.get("/fhir/Patient")[0] == 401
    assert server.get("/fhir/Patient", Authorization="Bearer wrong")[0] == 401
    assert server.get("/fhir/Patient", Authorization=f"Bearer {token}")[0] == 200


def test_after_a_kill_of_everything_the_next_start_on_the_same_port_and_folder_works(serve: Serve) -> None:
    first = serve("--auth", "off", "--workers", "2").wait_until_ready()
    first.kill_all()
    serve("--auth", "off", port=first.port).wait_until_ready()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_when_the_server_alone_is_killed_nothing_of_it_stays(serve: Serve) -> None:
    server = serve("--auth", "off", "--workers", "2").wait_until_ready()
    server.process.kill()
    server.process.wait()
    assert left_of_group(server.process.pid) == []


def test_it_stops_with_one_line_when_its_mongodb_is_gone(serve: Serve) -> None:
    server = serve("--auth", "off").wait_until_ready()
    os.kill(int((server.data_dir / "mongodb.pid").read_text()), signal.SIGKILL)
    assert server.process.wait(60) == 1
    assert "Error: The embedded MongoDB ended (exit code -9), so the server stops: see mongodb.log." in server.output


def test_a_taken_port_is_told_before_a_database_is_started(serve: Serve) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = serve("--auth", "off", port=port)
        status, line = server.refusal()
    assert status == 1
    assert line.startswith(f"Error: Port {port} of 127.0.0.1 is taken by another program: ")
    assert not server.data_dir.exists()


def test_a_folder_that_another_server_uses_is_told_and_that_server_goes_on(serve: Serve) -> None:
    first = serve("--auth", "off").wait_until_ready()
    status, line = serve("--auth", "off").refusal()
    assert status == 1
    assert line.startswith(f"Error: Another server (process {first.process.pid}) uses the data folder ")
    assert first.get("/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "said"),
    [
        (["--data-dir", "/proc/healthsphere"], {}, 1, "Error: The data folder /proc/healthsphere cannot be used"),
        (["--host", "192.0.2.1"], {"HEALTHSPHERE_PLAIN_HTTP": "allow"}, 1, "is not on this machine: correct --host"),
        (["--auth", "off", "--host", "0.0.0.0"], {}, 2, "Error: auth=off is possible on a loopback address only"),
        ([], {"MONGODB_URI": "mongodb://me:sesame@127.0.0.1:1/"}, 1, "Error: MongoDB at 127.0.0.1:1 does not answer"),
        ([], {"MONGODB_URI": "https://example.org"}, 1, "Error: MONGODB_URI is no connection string"),
    ],
)
def test_what_stops_a_start_is_one_line_that_says_what_to_do(
    serve: Serve, arguments: list[str], environment: dict[str, str], status: int, said: str
) -> None:
    found, line = serve(*arguments, **environment).refusal()
    assert found == status
    assert said in line
    assert "sesame" not in line


def test_with_mongodb_uri_no_embedded_engine_is_started(serve: Serve, mongodb_uri: str, mongodb_database: str) -> None:
    server = serve(
        "--auth", "off", MONGODB_URI=mongodb_uri, HEALTHSPHERE_MONGODB_DATABASE=mongodb_database
    ).wait_until_ready()
    assert {path.name for path in server.data_dir.iterdir()} <= {"audit-key", "audit-head"}
    assert server.stop() == 0
