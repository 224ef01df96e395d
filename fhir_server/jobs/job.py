"""A job as it stands: what its row tells to everybody who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.storage.rows import Row

#: `waiting`: for a process that has room. `active`: a process holds its lease, or has just died with it.
State = Literal["waiting", "active", "completed", "failed"]

UNFINISHED: tuple[State, ...] = ("waiting", "active")

#: What a job needs to go on, and what is large: of no use to those who list jobs.
INNER = ("wanted", "kept", "ending", "result")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands; moments in microseconds since 1970 UTC.

    Attributes:
        subject: what it is about, in a word that may be shown
        started_us: when a process first took it; None while it waits
        told_us: when it last told how far it is
        ended_us: when it was completed or had failed; None before
        done, total: how far it is
        message: what it is at, or why it failed
        takes: how many processes have begun or gone on with it
        status: of an answer that tells its end, as in HTTP
        result: what came of it, an outcome where it failed
    """

    id: str
    kind: str
    subject: str
    state: State
    made_us: int
    started_us: int | None
    told_us: int
    ended_us: int | None
    done: int
    total: int
    message: str
    takes: int
    status: int
    result: bytes | None

    @property
    def ended(self) -> bool:
        return self.state not in UNFINISHED


def first_row(kind: str, subject: str, wanted: dict[str, Any], now_us: int) -> Row:
    """The row of a job that nobody has begun yet."""
    told = {"told": now_us, "done": 0, "total": 0, "message": ""}
    return {"kind": kind, "subject": subject, "state": "waiting", "wanted": wanted, "kept": {}, "made": now_us, **told}


def job_of(row: Row) -> Job:
    return Job(
        id=row["_id"],
        kind=row["kind"],
        subject=row["subject"],
        state=row["state"],
        made_us=row["made"],
        started_us=row.get("started"),
        told_us=row["told"],
        ended_us=row.get("ended"),
        done=row["done"],
        total=row["total"],
        message=row["message"],
        takes=row.get("lease", {}).get("term", 0),
        status=row.get("status", 200),
        result=row.get("result"),
    )
