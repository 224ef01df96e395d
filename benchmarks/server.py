"""The server under test: the real command in its own process group, with an embedded mongod and a folder of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType

from fhir_server.secret_files import variable_of
from fhir_server.storage import leash
from fhir_server.storage.running import running_uri

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running `healthsphere serve`; use it as a context manager. `settings` are by name (`job_days`)."""

    def __init__(self, data_dir: Path, *, workers: int = 1, auth: str = "off", **settings: object) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/fhir"
        self._workers = workers
        self._auth = auth
        self._settings = {variable_of(name): str(value) for name, value in settings.items()}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """Where the server's output goes."""
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

    def start(self) -> None:
        """Start and wait until it is ready; call it from the main thread, whose end would end the server.

        Raises:
            RuntimeError: it ends, or is not ready in time; the message has the end of its log.
        """
        tied = [sys.executable, "-I", "-S", leash.__file__, str(os.getpid())]  # it must not outlive us, even killed
        command = [*tied, sys.executable, "-m", "fhir_server.cli", "serve", "--auth", self._auth]
        command += ["--port", str(self.port), "--workers", str(self._workers), "--data-dir", str(self.data_dir)]
        environment = {k: v for k, v in os.environ.items() if k != "MONGODB_URI" and not k.startswith("HEALTHSPHERE_")}
        environment |= self._settings
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"The server did not start:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End the server in good order, and its mongod with it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """`kill -9` of the server and everything that it has started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of them may have ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def token(self, *arguments: str) -> str:
        """An access token of this server, as `healthsphere token` makes it."""
        command = [sys.executable, "-m", "fhir_server.cli", "token", *arguments]
        command += ["--data-dir", str(self.data_dir), "--base-url", self.base_url, "--minutes", "600"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]

    def processor_s(self) -> float:
        """The processor time that the server and its mongod have used so far, in seconds."""
        assert self._process is not None
        ticks = 0
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended meanwhile
            if int(fields[2]) == self._process.pid:  # the process group
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def mongodb_uri(self) -> str:
        """The address of its embedded mongod, as the server has it, with the key of its data folder.

        Raises:
            RuntimeError: it does not run.
        """
        uri = running_uri(self.data_dir)
        if uri is None:
            raise RuntimeError(f"No server runs on {self.data_dir}.")
        return uri
