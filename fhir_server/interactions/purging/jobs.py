"""Purges as jobs: one row each, carried out under a lease, so that another server goes on where one has crashed.

Spec: https://hl7.org/fhir/R5/async-bundle.html
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from fhir_server.model import codec
from fhir_server.model.clock import new_id, now_us
from fhir_server.model.errors import FhirError, Issue, outcome_of
from fhir_server.storage.store import Store

Json = dict[str, Any]
JOBS = "_purges"
KIND = "purge"

#: A worker that says nothing for so long is taken for dead.
LEASE_US = 60_000_000
RENEW_S = 20.0

#: Tells what is being done, and what else a server that goes on with the job has to know.
Step = Callable[[str, Json | None], Awaitable[None]]
Work = Callable[[Json, Step], Awaitable[Json]]
log = structlog.get_logger("purge")
_running: set[asyncio.Task[None]] = set()


async def begin(store: Store, wanted: Json) -> str:
    """Make a job; `run` carries it out."""
    job_id = new_id()
    row = {"kind": KIND, "state": "waiting", "wanted": wanted, "made": now_us(), "lease": 0, "step": "waiting"}
    await store.rows(JOBS).put(job_id, row)
    return job_id


async def job_of(store: Store, job_id: str) -> Json | None:
    row = await store.rows(JOBS).get(job_id)
    return row if row is not None and row.get("kind") == KIND else None


def start(store: Store, job_id: str, work: Work) -> None:
    """Carry out a job in the background, unless somebody else does."""
    task = asyncio.ensure_future(run(store, job_id, work))
    _running.add(task)
    task.add_done_callback(_finished)


def _finished(task: asyncio.Task[None]) -> None:
    _running.discard(task)
    if not task.cancelled() and (fault := task.exception()) is not None:
        log.error("a removal failed", exc_info=fault)


async def run(store: Store, job_id: str, work: Work) -> None:
    """Carry out a job under a lease; what came of it stands in its row. Of several callers one does it."""
    token = secrets.token_hex(8)
    free = {"state": {"$in": ["waiting", "running"]}, "lease": {"$lt": now_us()}}
    row = await store.claim_row(JOBS, job_id, free, {"state": "running", "worker": token, "lease": now_us() + LEASE_US})
    if row is None:
        return
    ours = {"worker": token}

    async def step(text: str, found: Json | None) -> None:
        kept = {} if found is None else {"found": found}
        await store.claim_row(JOBS, job_id, ours, {"step": text, "lease": now_us() + LEASE_US, **kept})

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await store.claim_row(JOBS, job_id, ours, {"lease": now_us() + LEASE_US})

    renewing = asyncio.ensure_future(renew())
    try:
        result = await work({**row["wanted"], **({"found": row["found"]} if row.get("found") else {})}, step)
        done: Json = {"state": "done", "result": codec.encode(result)}
    except FhirError as error:
        done = {"state": "failed", "status": error.status, "result": codec.encode(error.outcome())}
    except Exception:
        issue = Issue("exception", f"The job {job_id} failed; the log tells why.", key="HS-INTERNAL", severity="fatal")
        await ended(store, job_id, row["wanted"], ours, {"state": "failed", "status": 500, "result": told([issue])})
        raise
    finally:
        renewing.cancel()
    await ended(store, job_id, row["wanted"], ours, done)


async def ended(store: Store, job_id: str, wanted: Json, ours: Json, done: Json) -> None:
    """Keep what came of a job; the row stays as the proof, and names nobody any more."""
    digest = hashlib.sha256(codec.encode(wanted)).hexdigest()
    rest = {"wanted": {"sha256": digest}, "found": None, "ended": now_us(), "step": "ended"}
    await store.claim_row(JOBS, job_id, ours, {**done, **rest})


def told(issues: list[Issue]) -> bytes:
    return codec.encode(outcome_of(issues))
