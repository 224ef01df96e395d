"""What each server process runs: the application, made from the environment that `serve` has prepared."""

from __future__ import annotations

import multiprocessing
import signal

from starlette.types import ASGIApp

from fhir_server.app import create_app
from fhir_server.logging import configure_logging
from fhir_server.settings import Settings
from fhir_server.storage.leash import tie_to_parent


def application() -> ASGIApp:
    """The application of this process; a worker process ends when the process that started it does."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        tie_to_parent(parent.pid, signal.SIGKILL)  # a worker that lives on would keep the port
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    return create_app(settings)
