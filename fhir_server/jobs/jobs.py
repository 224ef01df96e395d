"""Jobs: started by a request, carried on in the background, their progress kept where every process sees it.

A job runs in the process that took the request. One that has said nothing for half a minute went down with its process
and is shown as interrupted; start it again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError
from fhir_server.storage.rows import Rows

JOBS = "_jobs"

Status = Literal["active", "completed", "failed", "interrupted"]

_SILENCE_US = 30_000_000
_TELL_EVERY_US = 250_000

_log = logging.getLogger("healthsphere.jobs")

#: Tells how far a job is: done, total, and what it is at.
Tell = Callable[[int, int, str], Awaitable[None]]
Work = Callable[[Tell], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands; moments in microseconds since 1970 UTC."""

    id: str
    kind: str
    subject: str
    status: Status
    started_us: int
    told_us: int
    done: int
    total: int
    message: str


class Jobs:
    """Starts jobs and tells of them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, job_id: str, kind: str, subject: str, work: Work) -> Job:
        """Begin a job and return; `subject` says what it is about."""
        began = now_us()
        first = {"kind": kind, "subject": subject, "status": "active", "s": began, "t": began, "n": 0, "of": 0, "m": ""}
        await self._rows.put(job_id, first)
        task = asyncio.create_task(self._run(job_id, work), name=f"job {job_id}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return _job_of({"_id": job_id, **first})

    async def get(self, job_id: str) -> Job | None:
        row = await self._rows.get(job_id)
        return _job_of(row) if row else None

    async def of(self, kind: str, subject: str | None = None) -> list[Job]:
        """The newest jobs of a kind, or those about a subject."""
        wanted = {"kind": kind} if subject is None else {"kind": kind, "subject": subject}
        return [_job_of(row) for row in await self._rows.all(wanted, newest_by="s", limit=20)]

    async def close(self) -> None:
        """Stop what is running; it is shown as interrupted."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, job_id: str, work: Work) -> None:
        told = 0

        async def tell(done: int, total: int, message: str) -> None:
            nonlocal told
            if now_us() - told >= _TELL_EVERY_US or done == total:
                told = now_us()
                await self._rows.put(job_id, {"n": done, "of": total, "m": message, "t": told})

        try:
            await work(tell)
        except asyncio.CancelledError:
            await self._rows.put(job_id, {"status": "interrupted", "m": "The server was stopped.", "t": now_us()})
            raise
        except FhirError as error:
            await self._rows.put(job_id, {"status": "failed", "m": str(error), "t": now_us()})
        except Exception:
            _log.exception("job %s failed", job_id)
            await self._rows.put(job_id, {"status": "failed", "m": "An internal error, see the log.", "t": now_us()})
        else:
            await self._rows.put(job_id, {"status": "completed", "t": now_us()})


def _job_of(row: dict[str, Any]) -> Job:
    silent = row["status"] == "active" and now_us() - row["t"] > _SILENCE_US
    status: Status = "interrupted" if silent else row["status"]
    return Job(row["_id"], row["kind"], row["subject"], status, row["s"], row["t"], row["n"], row["of"], row["m"])
