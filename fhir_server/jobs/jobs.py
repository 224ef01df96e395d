"""Jobs: started by a request, carried on in the background by whichever process is there, until they have ended.

A job is a row. A process carries it out under a lease, which is part of the row, and keeps in it how far it is. When
the process dies, the lease runs out and another one, or the same after a restart, goes on from there; when it is
stopped in good order it lets go of the job, which the next one takes at once. Nobody has to ask for that: every process
looks for jobs when it starts and then all the time.

Each kind of job is registered when the server is put together, with the work that begins or goes on with it. The work
is given a `Run`. What it raises ends the job as failed, but for a database that does not answer: then it is tried
again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from fhir_server.jobs.job import INNER, UNFINISHED, Job, first_row, job_of
from fhir_server.jobs.lease import FREE, LASTS_S, Lease, LeaseLostError
from fhir_server.jobs.run import PAGES, Run, pages_of
from fhir_server.model import codec
from fhir_server.model.clock import new_id, now_us
from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError, Issue, UnavailableError
from fhir_server.storage.rows import Row, Rows
from fhir_server.storage.unit import Unit

JOBS = "_jobs"

#: Jobs that one process carries out at once; further ones wait.
AT_ONCE = 4

#: How often a job is begun, or gone on with, without getting on; then it has failed: it may be what kills processes.
MOST_TRIES = 10

#: Until a job whose database did not answer is tried again; twice as long each time.
PAUSE_S = 5.0

#: For letting go of a job when the server stops.
LETTING_GO_S = 5.0

KEPT_DAYS = 30

#: Begins a job, or goes on with it; what it returns is the job's result.
Work = Callable[[Run], Coroutine[Any, Any, bytes | None]]

_log = logging.getLogger("healthsphere.jobs")


class Jobs:
    """Starts jobs, carries them out, and tells of them.

    Args:
        rows_of: a collection of the server's own by its name
        lease_s: how long a process may be silent before its jobs are taken over
        kept_days: how long the rows of jobs stay that have ended
    """

    def __init__(
        self,
        rows_of: Callable[[str], Rows],
        *,
        lease_s: float = LASTS_S,
        kept_days: float = KEPT_DAYS,
        at_once: int = AT_ONCE,
    ) -> None:
        self._rows = rows_of(JOBS)
        self._pages = rows_of(PAGES)
        self._lease_s = lease_s
        self._kept = timedelta(days=kept_days)
        self._at_once = at_once
        self._works: dict[str, Work] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._closing = False

    def register(self, kind: str, work: Work) -> None:
        """Say how jobs of a kind are carried out; before `open`."""
        self._works[kind] = work

    async def open(self, *, watching: bool = True) -> None:
        """Take up the jobs that nobody carries out, now and then all the time until `close`."""
        await self._rows.index("state", "made")
        await self._rows.index("kind", "made")
        await self._rows.forget_after("gone")
        if watching:
            self._watching = asyncio.create_task(self._watch(), name="jobs")

    async def close(self) -> None:
        """Stop what is running, for another process to go on with."""
        self._closing = True
        self._room.set()
        if self._watching is not None:
            await self._watching
        await ended(self._running)

    async def start(self, kind: str, subject: str, wanted: Mapping[str, Any]) -> Job:
        """Begin a job, or have it wait where this process has no room, and return.

        Args:
            subject: what it is about, in a word that may be shown
            wanted: all that the work has to know, in JSON's types
        """
        job_id = await self._made(kind, subject, wanted)
        if self._has_room():
            await self._begun(job_id)
        return await self._there(job_id)

    async def start_within(self, unit: Unit, kind: str, subject: str, wanted: Mapping[str, Any]) -> str:
        """Have a job begun if a transaction is committed, and by whichever process is there; its id."""
        job_id = new_id()
        await unit.unguarded.rows(JOBS).add([{"_id": job_id, **first_row(kind, subject, dict(wanted), now_us())}])
        unit.unguarded.committed.append(self._room.set)
        return job_id

    async def carry_out(self, kind: str, subject: str, wanted: Mapping[str, Any]) -> Job:
        """Begin a job at once, and wait for its end: for what may be answered in one go."""
        job_id = await self._made(kind, subject, wanted)
        if (task := await self._begun(job_id)) is not None:
            await asyncio.wait({task})
        return await self._there(job_id)

    async def get(self, job_id: str) -> Job | None:
        row = await self._rows.get(job_id)
        return job_of(row) if row is not None and "state" in row else None

    async def of(self, kind: str, subject: str | None = None) -> list[Job]:
        """The newest jobs of a kind, or those about a subject; without their results."""
        about = {} if subject is None else {"subject": subject}
        wanted = {"kind": kind, "state": {"$exists": True}, **about}
        return [job_of(row) for row in await self._rows.all(wanted, newest_by="made", limit=20, hidden=INNER)]

    async def _watch(self) -> None:
        """Take up jobs that nobody carries out, whenever there is room for them."""
        while not self._closing:
            self._room.clear()
            try:
                while self._has_room() and (row := await self._rows.oldest({**self._ours(), **FREE}, "made")):
                    await self._begun(row["_id"])
            except FhirError as error:
                _log.warning("no jobs could be looked for: %s", error)
            except Exception:
                _log.exception("no jobs could be looked for")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), min(5.0, self._lease_s / 3))

    def _has_room(self) -> bool:
        return len(self._running) < self._at_once and not self._closing

    def _ours(self) -> Row:
        """Selects the jobs that this process can carry out."""
        return {"state": {"$in": list(UNFINISHED)}, "kind": {"$in": list(self._works)}}

    async def _made(self, kind: str, subject: str, wanted: Mapping[str, Any]) -> str:
        job_id = new_id()
        await self._rows.make(job_id, first_row(kind, subject, dict(wanted), now_us()))
        return job_id

    async def _there(self, job_id: str) -> Job:
        job = await self.get(job_id)
        assert job is not None, "rows of jobs go long after their end"
        return job

    async def _begun(self, job_id: str) -> asyncio.Task[None] | None:
        """Take a job and begin it, or go on with it, in the background; None when another process has it."""
        lease = Lease(self._rows, job_id, lasts_s=self._lease_s)
        row = await lease.take(self._ours(), {"state": "active"})
        if row is None:
            return None
        task = asyncio.create_task(self._carried_out(lease, row), name=f"job {job_id}")
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._room.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            # The row could not be written: its lease runs out, and somebody takes it up again.
            _log.error("%s was left: %s", task.get_name(), type(fault).__name__)

    async def _carried_out(self, lease: Lease, row: Row) -> None:
        run = Run(lease, row, self._pages)
        tries = row["lease"]["term"] - row.get("proved", 0)
        try:
            if row.get("ending"):
                ending = row["ending"]
            elif tries > MOST_TRIES:
                ending = _failed(_internal(f"The job was begun {MOST_TRIES} times and did not get on: it is given up."))
            else:
                if "started" not in row:
                    await lease.put({"started": now_us()})
                ending = await lease.during(self._ending_of(run, self._works[row["kind"]]))
            await self._end(lease, run, ending)
        except LeaseLostError:
            _log.warning("job %s lost its lease; whoever has it next goes on with it", lease.name)
        except UnavailableError:
            _log.warning("job %s waits for the database", lease.name)
            await lease.release({"state": "waiting"}, pause_s=PAUSE_S * 2 ** max(0, tries - 1))
        except asyncio.CancelledError:
            with suppress(LeaseLostError, FhirError, TimeoutError):
                async with asyncio.timeout(LETTING_GO_S):
                    await run.flush()
                    await lease.release({"state": "waiting", "proved": row["lease"]["term"]})
            raise

    async def _ending_of(self, run: Run, work: Work) -> Row:
        """Carry out the work; how the job ends."""
        try:
            result = await work(run)
        except (UnavailableError, LeaseLostError):
            raise
        except FhirError as error:
            return _failed(error)
        except Exception:
            _log.exception("job %s failed", run.job_id)
            return _failed(_internal(f"The job {run.job_id} failed; the log tells why."))
        return {"state": "completed", "status": 200, "result": result}

    async def _end(self, lease: Lease, run: Run, ending: Row) -> None:
        """Keep what came of a job; what it was about goes, so that its row names nobody any more."""
        await run.flush()
        if run.paged:
            await lease.put({"ending": ending})  # without its pages it can only be ended
            await self._pages.remove_all(pages_of(lease.name))
        moment_us = now_us()
        told = {"told": moment_us, "ended": moment_us, "gone": datetime.now(UTC) + self._kept}
        await lease.release({**ending, **told, "wanted": None, "kept": None, "ending": None})


def _failed(error: FhirError) -> Row:
    return {
        "state": "failed",
        "status": error.status,
        "message": str(error),
        "result": codec.encode(error.outcome()),
    }


def _internal(text: str) -> FhirError:
    return FhirError([Issue("exception", text, key="HS-INTERNAL", severity="fatal")])
