"""The README's first steps with access control, typed as they stand there into a shell beside a running server."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PASSWORD = "tangerine gravel kazoo"


def section() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    return text.partition("## First steps with access control\n")[2].partition("\n## ")[0]


@pytest.fixture
def place(tmp_path: Path, mongodb_uri: str, mongodb_database: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The port of a server with access control, and the environment of a shell beside it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **os.environ,
        "MONGODB_URI": mongodb_uri,
        "HEALTHSPHERE_MONGODB_DATABASE": mongodb_database,
        "HEALTHSPHERE_PORT": str(port),
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "fhir_server.cli", "serve", "--auth", "on"]
    with (tmp_path / "output").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=environment, cwd=ROOT)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready").close()
                break
            time.sleep(0.05)
        else:
            raise AssertionError((tmp_path / "output").read_text())
        yield port, environment
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(30)


@pytest.mark.server
@pytest.mark.slow
def test_the_first_steps_with_access_control_work_as_the_readme_says(
    place: tuple[int, dict[str, str]], tmp_path: Path
) -> None:
    port, environment = place
    start, *blocks = re.findall(r"```sh\n(.*?)```", section(), re.DOTALL)
    assert start == "make run AUTH=on\n"
    healthsphere = f"{sys.executable} -m fhir_server.cli"
    script = "".join(blocks).replace(".venv/bin/healthsphere", healthsphere).replace(":8000/", f":{port}/")
    # What is typed at the prompt for a password comes from standard input, which only that command reads.
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        input=f"{PASSWORD}\n",
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "rosa@example.org can sign in now as administrator." in done.stdout
    assert '"client_id": "my-app"' in done.stdout
    assert '"client_secret": "' in done.stdout
    assert '"resourceType":"Bundle"' in done.stdout
    assert done.stdout.endswith("401\n403\n")


def test_the_makefile_starts_the_server_with_or_without_access_control() -> None:
    for given, wanted in ([], "--auth off "), (["AUTH=on"], "--auth on "):
        done = subprocess.run(
            ["make", "--dry-run", "run", *given], cwd=ROOT, text=True, capture_output=True, timeout=60, check=False
        )
        assert wanted in done.stdout, done.stderr
