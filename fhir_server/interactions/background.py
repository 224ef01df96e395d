"""The kinds of jobs, and the work of each: what goes on after its request was answered.

`app` registers them; whichever process has a job's lease begins it, or goes on with it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fhir_server.interactions import purge, reindex
from fhir_server.interactions.context import Context
from fhir_server.interactions.terms import building
from fhir_server.jobs.run import Run

WORKS: dict[str, Callable[[Context, Run], Coroutine[Any, Any, bytes | None]]] = {
    reindex.KIND: reindex.carry_on,
    purge.KIND: purge.carry_on,
    building.KIND: building.carry_on,
}
