"""Runs the server processes: one in this process, several below a supervisor that replaces those that die."""

from __future__ import annotations

import errno
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError

BACKLOG = 2048
HEALTHCHECK_S = 30  # a worker that decodes a very large Bundle does not answer for a while, and is not hung


class Workers:
    """The server processes on one listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        config = uvicorn.Config(
            "fhir_server.cli.worker:application",
            factory=True,
            host=settings.host,
            port=settings.port,
            workers=settings.workers,
            loop="uvloop" if sys.platform != "win32" else "asyncio",
            http="fhir_server.cli.protocol:BoundedProtocol" if sys.platform != "win32" else "h11",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,  # the application judges them: `trusted_proxies`
            ssl_context_factory=partial(tls_of, settings) if settings.tls_cert_file != Path() else None,
            backlog=BACKLOG,
            timeout_graceful_shutdown=settings.shutdown_grace_s,
            timeout_worker_healthcheck=HEALTHCHECK_S,
        )
        self._single = uvicorn.Server(config) if settings.workers == 1 else None
        self._several = None if self._single else Multiprocess(config, [listener])
        # uvicorn takes these signals while it runs, and repeats them to us afterwards: by then they are obeyed.
        for number in (signal.SIGINT, signal.SIGTERM):
            if self._single:
                signal.signal(number, _obeyed)

    @property
    def stopping(self) -> bool:
        """Whether the processes were told to stop."""
        if self._single:
            return self._single.should_exit
        return self._several is not None and self._several.should_exit.is_set()

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then let running requests finish.

        Raises:
            SetupError: another program took the port in the last moment.
        """
        try:
            if self._single:
                self._single.run(sockets=[self._listener])
            elif self._several:
                self._several.run()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            where = f"Port {self._settings.port} of {self._settings.host}"
            raise SetupError(f"{where} was taken by another program: choose another with --port.") from error


def tls_of(settings: Settings, _: uvicorn.Config, __: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """What uvicorn calls in each process; a function of a module, so that it can be sent there."""
    return tls_context_of(settings)


def tls_context_of(settings: Settings) -> ssl.SSLContext:
    """TLS 1.2 or later with the server's certificate; the suites of 1.2 are those with forward secrecy and AEAD.

    Spec: RFC 9325 (BCP 195), https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html

    Raises:
        OSError: certificate or key cannot be read, do not fit, or are none.
    """
    password = settings.tls_key_password.get_secret_value() if settings.tls_key_password else ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_RENEGOTIATION
    key = settings.tls_key_file if settings.tls_key_file != Path() else None
    # Always a password, if an empty one: OpenSSL would ask for one at the terminal.
    context.load_cert_chain(settings.tls_cert_file, key, lambda: password)
    return context


def _obeyed(_: int, __: FrameType | None) -> None:
    """A stop is under way already."""
