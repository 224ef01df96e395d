"""The chain turned into AuditEvents that can be searched, by a task that works when nobody else does.

How far it has come is a number that only grows. Ids and contents follow from the batch, and what is there already
stays; so it does no harm when the work is done twice, after a crash or by two processes at once. A lease keeps them
from doing it twice for nothing.

Whoever searches AuditEvents calls `caught_up` first, and sees all that the chain holds at that moment.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import Gauge

from fhir_server.audit.chain import Link, link_of
from fhir_server.audit.resource import MOST_SHARED, TYPE, Made, Maker, Shared
from fhir_server.audit.retention import expire
from fhir_server.audit.trail import POSITION, Trail, behind
from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError
from fhir_server.search.index import Indexer
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

_log = logging.getLogger("healthsphere.audit")

#: What is left to do, told by the process that does it; the others tell 0.
BEHIND = Gauge(
    "healthsphere_audit_batches_behind",
    "Batches of the audit trail of which AuditEvents are not made yet",
    multiprocess_mode="livemax",
)

#: The lease of who makes them.
LEASE = "materializer"
LEASE_S = 15.0

#: How often a process looks whether another has written, or given up the lease.
LOOK_S = 1.0

#: Batches read at a time, and events of which AuditEvents are made before it is remembered how far that came.
BATCHES = 20
EVENTS = 500

#: AuditEvents made before others get their turn on the event loop, and written at a time.
BREATH = 10
PORTION = 500

#: So many events a second, entries of Bundles among them, are a busy process: then this work takes one hundredth of its
#: time. It is by far the dearest part of the trail (an AuditEvent costs as much as half a read), and nobody misses what
#: it makes until somebody searches it, who makes the rest. What is made in a rush anyway adds to each request of it.
BUSY_PER_S = 200
BUSY_SHARE = 0.01
BUSY_LOOK_S = 0.1
LEAST_REST_S = 5.0
MOST_REST_S = 30.0

#: How often it is looked for what need not be kept longer.
EXPIRE_S = 3600.0

#: How long the end of the server waits for the work under way.
CLOSING_S = 5.0

#: How long `caught_up` may take.
PATIENCE_S = 15.0


class Materializer:
    """Makes AuditEvents of batches."""

    def __init__(self, store: Store, indexer: Indexer, trail: Trail, *, days: int = 0, key: bytes = b"") -> None:
        """
        Args:
            days: how long the trail is kept; 0: for ever
            key: seals the anchor of what was removed
        """
        self._days, self._key = days, key
        self._expired = 0.0
        self._renew_at = 0.0
        self._closing = False
        self._store = store
        self._batches = store.batches
        self._indexer = indexer
        self._trail = trail
        self.maker = Maker()
        self._entries: dict[int, tuple[Shared, dict[str, Any]]] = {}
        self._holder = secrets.token_hex(8)
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._position = 0
        self._task: asyncio.Task[None] | None = None
        self._looked = (0.0, 0)
        trail.written = self._wake.set

    async def start(self) -> None:
        """Begin in the background; the database must be open."""
        self._task = asyncio.create_task(self._run(), name="audit events")

    async def close(self) -> None:
        if self._task is not None:
            # It ends by itself: a command that is cut off may still take the lease after it was given up.
            self._closing = True
            self._wake.set()
            _, late = await asyncio.wait({self._task}, timeout=CLOSING_S)
            await ended(late)
            self._task = None
            try:
                async with asyncio.timeout(CLOSING_S):
                    await self._batches.let_go(LEASE, self._holder)
            except (FhirError, TimeoutError):
                _log.info("the lease of the audit events ends by itself")

    async def caught_up(self) -> None:
        """Return when every event that the chain holds now, and all that this process was told, can be found.

        Raises:
            UnavailableError: 503; there is more than can be made in the time.
        """
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._trail.flush()
                head = await self._batches.last()
                if head is not None and head["_id"] > self._position:
                    await self._advance(head["_id"])
        except TimeoutError:
            raise behind("The AuditEvents of the last requests are not all made yet") from None

    async def _run(self) -> None:
        worked_s = 0.0
        while not self._closing:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._give_way(worked_s)
            began = time.perf_counter()
            try:
                if await self._holds_lease():
                    await self._advance(None)
                    head = await self._batches.last()
                    BEHIND.set(max(head["_id"] - self._position, 0) if head is not None else 0)
                    await self._expire()
                else:
                    BEHIND.set(0)
            except FhirError as error:
                _log.warning("audit events cannot be made at the moment (%s)", type(error).__name__)
            except Exception:
                _log.exception("audit events could not be made; it is tried again")
            worked_s = time.perf_counter() - began

    async def _holds_lease(self) -> bool:
        now = time.monotonic()
        if now > self._renew_at:
            if not await self._batches.hold(LEASE, self._holder, LEASE_S):
                return False
            self._renew_at = now + LEASE_S / 3
        return True

    async def _expire(self) -> None:
        if self._days and time.monotonic() - self._expired > EXPIRE_S:
            self._expired = time.monotonic()
            await expire(self._store, self._trail, self._days, self._key)

    async def _advance(self, until: int | None) -> None:
        """Make the AuditEvents of the batches that follow: up to `until`, or of those that are there now."""
        while until is None or self._position < until:
            async with self._turn:
                row = await self._batches.state(POSITION)
                self._position = max(self._position, row["n"] if row else 0)
                rows = await self._batches.after(self._position, BATCHES)
                if rows and (until is None or self._position < until):
                    made = portion_of(rows)
                    await self._make([link_of(row) for row in made])
                    await self._batches.advance(POSITION, made[-1]["_id"])
                    self._position = made[-1]["_id"]
                    if len(made) < len(rows):
                        self._wake.set()
            if until is None:
                return
            if not rows:
                await asyncio.sleep(0.01)  # it is there, but no majority has it yet

    async def _give_way(self, worked_s: float) -> None:
        """Leave the processor to requests while there are many; whoever waits for AuditEvents makes them meanwhile."""
        # Also before the first piece of work in a rush: it may be over soon.
        rest_until = time.monotonic() + min(max(worked_s / BUSY_SHARE, LEAST_REST_S), MOST_REST_S)
        self._is_busy()
        await asyncio.sleep(BUSY_LOOK_S)
        while not self._closing and self._is_busy() and time.monotonic() < rest_until:
            await asyncio.sleep(BUSY_LOOK_S)

    def _is_busy(self) -> bool:
        """Whether many events have come in since it was asked before."""
        now, noted = time.monotonic(), self._trail.noted
        since, before = self._looked
        self._looked = (now, noted)
        return noted - before > BUSY_PER_S * (now - since)

    async def _make(self, links: Sequence[Link]) -> None:
        await self._store.ensure(TYPE)
        portion: list[Version] = []
        for number, version in enumerate(version for link in links for version in self.versions_of(link)):
            portion.append(version)
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
            if len(portion) == PORTION:
                await self._batches.add_resources(TYPE, portion)
                portion = []
        if portion:
            await self._batches.add_resources(TYPE, portion)

    def versions_of(self, link: Link) -> Iterator[Version]:
        """The AuditEvents of a batch, as they are stored."""
        try:
            for made in self.maker.made_of(link):
                entries = self._entries_of(made)
                yield Version(TYPE, made.id, 1, link.moment_us, "POST", made.body, b"audit", entries)
        except ValueError:
            # Somebody has changed the batch: nothing can be made of it. `healthsphere audit verify` names it.
            _log.error("batch %d of the audit trail cannot be read", link.number)

    def _entries_of(self, made: Made) -> dict[str, Any]:
        """The index entries: those of what is shared are made once."""
        known = self._entries.get(id(made.shared))
        if known is None or known[0] is not made.shared:
            if len(self._entries) >= MOST_SHARED:
                self._entries.clear()
            found = self._indexer.entries_of({"resourceType": TYPE, **made.shared.indexed})
            known = self._entries[id(made.shared)] = (made.shared, found)
        shared = known[1]
        own = self._indexer.entries_of({"resourceType": TYPE, **made.indexed})
        entries = {**shared, **own}
        for name in shared.keys() & own.keys():
            if type(own[name]) is list:
                entries[name] = list(dict.fromkeys([*shared[name], *own[name]]))
        return entries


def portion_of(rows: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The first batches that have no more than `EVENTS` together, one at least."""
    total = 0
    for number, row in enumerate(rows):
        total += row["c"]
        if total > EVENTS and number:
            return rows[:number]
    return rows
