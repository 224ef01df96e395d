"""What goes on beside the server: wait until it answers, greet the person at the terminal, load the examples."""

from __future__ import annotations

import http.client
import os
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from fhir_server.cli.banner import banner_of
from fhir_server.cli.examples import examples_loaded
from fhir_server.cli.say import err, out, say_warning
from fhir_server.settings import Settings
from fhir_server.storage import leash
from fhir_server.storage.embedded import EmbeddedMongo

POLL_S = 0.1


class Companion:
    """A thread beside the server for as long as the `with` block lasts."""

    def __init__(self, settings: Settings, embedded: EmbeddedMongo | None, examples: int) -> None:
        self._settings = settings
        self._embedded = embedded
        self._examples = examples
        self._stop = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="companion", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._answers():
            if self._stop.wait(POLL_S):
                return
        out.print(banner_of(self._settings, self._embedded), soft_wrap=True, highlight=False)
        if self._examples and not examples_loaded(self._settings, self._examples):
            self._load_examples()

    def _answers(self) -> bool:
        target = urlsplit(self._settings.local_url)
        host = target.hostname or "127.0.0.1"
        if target.scheme == "https":
            # Whether this process answers is asked, by its address, which its certificate need not name.
            anybody = ssl.create_default_context()
            anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, target.port, timeout=5, context=anybody
            )
        else:
            connection = http.client.HTTPConnection(host, target.port, timeout=5)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    @property
    def _base_url(self) -> str:
        """Where the examples go: with TLS, to the name that the certificate is for."""
        settings = self._settings
        return settings.base_url if settings.tls_cert_file != Path() else f"{settings.local_url}/fhir"

    def _load_examples(self) -> None:
        """In a process of its own: generating takes a processor for seconds that the server needs."""
        command = [
            *(sys.executable, "-m", "fhir_server.cli", "examples", "--count", str(self._examples)),
            *("--base-url", self._base_url, "--data-dir", str(self._settings.data_dir)),
        ]
        self._child = subprocess.Popen([sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command])
        status = self._child.wait()
        if self._stop.is_set():
            return
        if status == 0:
            err.print("[bold green]Ready:[/] the example patients are loaded.", highlight=False)
        else:
            say_warning("Not all example patients were loaded (the reasons are above); the next start goes on.")
