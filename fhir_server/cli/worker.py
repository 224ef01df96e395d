"""What each server process runs: the application, made from the environment that `serve` has prepared."""

from __future__ import annotations

import gc
import multiprocessing
import signal

from starlette.types import ASGIApp

from fhir_server.app import create_app
from fhir_server.logging import configure_logging
from fhir_server.settings import Settings
from fhir_server.storage.leash import tie_to_parent

#: Objects that come to be, less those that go, before cyclic garbage is looked for. Python's own 700 is a few requests:
#: each look would go through all that waits for the audit trail.
GARBAGE_AFTER = 20_000


def application() -> ASGIApp:
    """The application of this process; a worker process ends when the process that started it does."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        tie_to_parent(parent.pid, signal.SIGKILL)  # a worker that lives on would keep the port
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format)
    made = create_app(settings)
    # Definitions are a million objects that live as long as the process: no look for garbage need go through them.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)
    return made
