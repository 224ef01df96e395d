"""Runs the server processes: one in this process, several below a supervisor that replaces those that die."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from fhir_server.cli.certificate import tls_of
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
            ws="websockets-sansio",
            ws_max_size=4096,  # clients say nothing but who they are
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


def _obeyed(_: int, __: FrameType | None) -> None:
    """A stop is under way already."""
