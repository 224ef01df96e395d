"""Timers: durable things to do at a moment, once due done by whichever process is there, at least once.

A timer is a row, named by its kind and a key, so that setting it again moves it. Each process looks for due ones every
second, and at once when one is set in it. Who handles one holds its lease; when that process dies, the lease runs out,
and another one handles it. What fails is tried again, later each time, and is set aside when it goes on failing.

A timer may be set within a transaction: then it exists if the transaction does. That is also how to do something after
a commit, surely and once at least: set a timer that is due at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from fhir_server.jobs import counts
from fhir_server.jobs.ending import ended_soon
from fhir_server.jobs.fault import fault_of
from fhir_server.jobs.lease import FREE, LASTS_S, Lease, LeaseLostError
from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError, UnavailableError
from fhir_server.storage.rows import NOW, WATCH, Row, Rows, plain
from fhir_server.storage.unit import Unit

TIMERS = "_timers"

#: How often due timers are looked for.
EVERY_S = 1.0
SOON_US = round(EVERY_S * 1e6)

#: Timers that one process handles at once; further ones wait.
AT_ONCE = 16

#: How often a timer is tried before it is set aside, and until it is tried again: twice as long each time.
MOST_TRIES = 8
PAUSE_S = 2.0
LONGEST_PAUSE_S = 600.0

#: For handlers that are at work when the server stops.
LETTING_GO_S = 5.0

#: For saying that a lease is let go of.
RELEASE_S = 5.0

_log = logging.getLogger("healthsphere.timers")


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that is due.

    Attributes:
        kind, key: its name
        due_us: the moment it was set to, microseconds since 1970 UTC
        data: what it was set with
        tries: how often it has failed before
    """

    kind: str
    key: str
    due_us: int
    data: dict[str, Any]
    tries: int


@dataclass(frozen=True, slots=True)
class DeadTimer:
    """A timer that was set aside.

    Attributes:
        error: what failed last, and where
        at_us: when
    """

    timer: Timer
    error: str
    at_us: int


#: Does what a timer is for. What it returns is the moment at which the same timer is due again; None ends it.
Handle = Callable[[Timer], Awaitable[int | None]]


class Timers:
    """Sets timers and does what they are for.

    Args:
        rows_of: a collection of the server's own by its name
        now: the moment, in microseconds since 1970 UTC
        lease_s: how long a process may be silent before its timers are taken over
    """

    def __init__(
        self,
        rows_of: Callable[[str], Rows],
        *,
        now: Callable[[], int] = now_us,
        lease_s: float = LASTS_S,
        most_tries: int = MOST_TRIES,
        pause_s: float = PAUSE_S,
        at_once: int = AT_ONCE,
    ) -> None:
        self._rows = rows_of(TIMERS)
        self._now = now
        self._lease_s = lease_s
        self._most_tries = most_tries
        self._pause_s = pause_s
        self._at_once = at_once
        self._handles: dict[str, Handle] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._taking = asyncio.Lock()
        self._woken = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._opened = False
        self._closing = False

    @property
    def now_us(self) -> int:
        """The moment by which timers are due; handlers reckon from it when the next one is."""
        return self._now()

    def register(self, kind: str, handle: Handle) -> None:
        """Say what timers of a kind do; before `open`."""
        if self._opened or kind in self._handles:
            raise RuntimeError(f"the handler of timers of {kind} comes too late, or is there already")
        self._handles[kind] = handle

    async def open(self, *, looking: bool = True) -> None:
        """Do what is due, all the time until `close`; without `looking`, only `run_due` does."""
        self._opened = True
        await self._rows.index("kind", "due")
        if looking and self._handles:
            self._looking = asyncio.create_task(self._look(), name="timers")

    async def close(self) -> None:
        """Stop; what is being handled may end, for a moment, and is otherwise another's to do."""
        self._closing = True
        self._woken.set()
        if self._looking is not None:
            await ended_soon({self._looking}, LETTING_GO_S)  # first: it may be about to start one more
        await ended_soon(set(self._running), LETTING_GO_S)

    def now(self) -> int:
        """The moment by which timers are due, in microseconds since 1970 UTC."""
        return self._now()

    # --- setting ----------------------------------------------------------------------------------------------------

    async def set(self, kind: str, key: str, due_us: int, data: Mapping[str, Any] | None = None) -> None:
        """Set a timer, or move the one of that name.

        Args:
            data: what its handler has to know, in JSON's types: ids, not what they name
        """
        await self._rows.put(_id(kind, key), self._row(kind, key, due_us, data))
        self._wake(due_us)

    async def cancel(self, kind: str, key: str) -> None:
        """Forget a timer; one that is being handled is handled to its end."""
        await self._rows.remove(_id(kind, key))

    async def set_within(
        self, unit: Unit, kind: str, key: str, due_us: int, data: Mapping[str, Any] | None = None
    ) -> None:
        """Set a timer if a transaction is committed."""
        await unit.unguarded.put_row(TIMERS, _id(kind, key), self._row(kind, key, due_us, data))
        unit.unguarded.committed.append(partial(self._wake, due_us))

    async def cancel_within(self, unit: Unit, kind: str, key: str) -> None:
        """Forget a timer if a transaction is committed."""
        await unit.unguarded.remove_row(TIMERS, _id(kind, key))

    async def get(self, kind: str, key: str) -> Timer | None:
        """A timer that is set, or was set aside; None when there is none of that name."""
        row = await self._rows.get(_id(kind, key))
        return _timer_of(row) if row is not None else None

    def _wake(self, due_us: int) -> None:
        if due_us <= self._now() + SOON_US:
            self._woken.set()

    def _row(self, kind: str, key: str, due_us: int, data: Mapping[str, Any] | None) -> Row:
        # The revision tells whoever handles it now that it was set anew meanwhile: then it stays.
        fresh = {"revision": secrets.token_hex(8), "tries": 0, "again": 0, "dead": None}
        return {"kind": kind, "key": key, "due": due_us, "data": dict(data or {}), **fresh}

    # --- what was set aside -----------------------------------------------------------------------------------------

    async def dead(self, kind: str | None = None, limit: int = 100) -> Sequence[DeadTimer]:
        """The timers that were set aside, those that failed last first."""
        about = {} if kind is None else {"kind": kind}
        rows = await self._rows.all({**about, "dead": {"$ne": None}}, newest_by="dead.at", limit=limit)
        return [DeadTimer(_timer_of(row), row["dead"]["error"], row["dead"]["at"]) for row in rows]

    async def replay(self, kind: str, key: str) -> bool:
        """Try a timer that was set aside again; False when there is none of that name."""
        due = {"due": "$dead.due", **plain({"tries": 0, "again": 0, "dead": None})}
        row = await self._rows.change(_id(kind, key), {"dead": {"$ne": None}}, due)
        self._woken.set()
        return row is not None

    async def replay_all(self, kind: str | None = None) -> int:
        """Try all timers that were set aside again, or those of a kind; how many there are."""
        replayed = 0
        while rows := await self.dead(kind):
            replayed += sum([await self.replay(row.timer.kind, row.timer.key) for row in rows])
        return replayed

    # --- doing ------------------------------------------------------------------------------------------------------

    async def run_due(self) -> int:
        """Do all that is due now, and return when it is done or has failed; how many were handled here. For tests."""
        done = 0
        while True:
            done += len(await self._start_due(self._now(), 1000))
            if not self._running:
                return done
            await asyncio.wait(set(self._running))

    async def _look(self) -> None:
        while not self._closing:
            self._woken.clear()
            wait_s = EVERY_S
            try:
                wait_s = await self._looked()
            except FhirError as error:
                _log.warning("no timers could be looked for: %s", type(error).__name__)
            except Exception:
                _log.exception("no timers could be looked for")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait_s)

    async def _looked(self) -> float:
        """Start what is due, where there is room for it; the seconds until it makes sense to look again."""
        room = self._at_once - len(self._running)
        if room <= 0:
            return EVERY_S  # what ends wakes
        if len(await self._start_due(self._now(), room)) == room:
            return EVERY_S if len(self._running) >= self._at_once else 0.0
        soon = await self._rows.first(self._due_by(self._now() + SOON_US), "due", 1)
        if not soon:
            return EVERY_S
        next_us: int = max(soon[0]["due"], soon[0]["again"])
        return max(0.001, min(EVERY_S, (next_us - self._now()) / 1e6))

    def _due_by(self, moment_us: int) -> Row:
        kinds = {"kind": {"$in": sorted(self._handles)}}
        return {**kinds, "due": {"$lte": moment_us}, "again": {"$lte": moment_us}, **FREE}

    async def _start_due(self, moment_us: int, most: int) -> list[asyncio.Task[None]]:
        started: list[asyncio.Task[None]] = []
        async with self._taking:  # so that `run_due` sees what `_look` is just about to start
            for row in await self._rows.first(self._due_by(moment_us), "due", most):
                lease = Lease(self._rows, row["_id"], lasts_s=self._lease_s)
                still = {"revision": row["revision"], "due": row["due"], "again": {"$lte": moment_us}}
                taken = await lease.take(still)
                if taken is not None:
                    task = asyncio.create_task(self._handled(lease, taken), name=f"timer of {taken['kind']}")
                    self._running.add(task)
                    task.add_done_callback(self._finished)
                    started.append(task)
        return started

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._woken.set()
        if not task.cancelled() and (fault := task.exception()) is not None:
            # The row could not be written: its lease runs out, and somebody handles it again.
            _log.error("a %s was left: %s", task.get_name(), type(fault).__name__)

    async def _handled(self, lease: Lease, row: Row) -> None:
        kind, mine = row["kind"], {"_id": row["_id"], "revision": row["revision"]}
        try:
            due_us = await lease.during(_awaited(self._handles[kind](_timer_of(row))))
        except LeaseLostError:
            _log.warning("a timer of %s lost its lease; whoever has it next handles it", kind)
        except asyncio.CancelledError:
            with suppress(LeaseLostError, FhirError, TimeoutError):
                async with asyncio.timeout(RELEASE_S):
                    await lease.release()
            raise
        except Exception as error:
            await self._failed(lease, row, error)
        else:
            counts.TIMERS.labels(kind).inc()
            if due_us is not None:
                await self._end(lease, row, plain({"due": due_us, "tries": 0, "again": 0}))
            elif not await self._rows.remove_all(mine, comment=WATCH):
                await self._let_go(lease)

    async def _failed(self, lease: Lease, row: Row, error: Exception) -> None:
        kind, fault = row["kind"], fault_of(error)
        tries = row["tries"] + (0 if isinstance(error, UnavailableError) else 1)
        counts.TIMERS_FAILED.labels(kind).inc()
        if tries < self._most_tries:
            pause_s = min(self._pause_s * 2 ** max(0, tries - 1), LONGEST_PAUSE_S)
            _log.warning("a timer of %s failed, and is tried again in %.1f s: %s", kind, pause_s, fault)
            await self._end(lease, row, plain({"tries": tries, "again": self._now() + round(pause_s * 1e6)}))
        else:
            counts.TIMERS_DEAD.labels(kind).inc()
            _log.error("a timer of %s failed %d times and is set aside: %s", kind, tries, fault)
            dead = {"due": row["due"], "error": fault, "at": self._now()}
            await self._end(lease, row, {"due": "$$REMOVE", **plain({"tries": tries, "dead": dead})})

    async def _end(self, lease: Lease, row: Row, fields: Row) -> None:
        """Keep what came of it and let go, unless the timer was set anew meanwhile."""
        free = {"lease.holder": {"$literal": ""}, "lease.until": {"$subtract": [NOW, 1]}}
        still = {"revision": row["revision"]}
        if await self._rows.change(row["_id"], still, {**fields, **free}, comment=WATCH, shown=()) is None:
            await self._let_go(lease)

    async def _let_go(self, lease: Lease) -> None:
        """What was set anew may be handled; what was cancelled, or is another's, is none of ours."""
        with suppress(LeaseLostError):
            await lease.release(pause_s=-0.001)  # free in this very millisecond


async def _awaited(handling: Awaitable[int | None]) -> int | None:
    return await handling


def _id(kind: str, key: str) -> str:
    return f"{kind}/{key}"


def _timer_of(row: Row) -> Timer:
    due_us = row["due"] if "due" in row else row["dead"]["due"]
    return Timer(row["kind"], row["key"], due_us, row["data"], row["tries"])
