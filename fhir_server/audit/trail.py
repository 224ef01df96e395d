"""The trail as a process sees it: `note` what was read, `record` what was changed; both end in the chain.

**Reads are never slowed.** A note is appended to a list in memory; what it means is worked out when it is written, by a
task of its own, at the latest a fifth of a second later, many events in one batch.

**Nothing that was acknowledged is lost.** `record` returns when its batch is durable (majority, journal). Callers who
wait at the same time share one batch, and notes ride along.

**Nothing goes unaudited.** When the database does not take batches, they are kept and tried again. When so many wait
that memory would run out, `admit` keeps new requests waiting, and then refuses them: better no answer than one that
nobody can account for.

**One chain for all processes.** A batch is inserted under the number behind the last one. Of two processes that want
the same number one loses, reads the other's batch, and links its own behind it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fhir_server.audit.chain import GENESIS, Link, link_of, linked, row_of
from fhir_server.audit.event import FAILED, Batch, Event, Eventful, happened, pack
from fhir_server.model.clock import now_us
from fhir_server.model.ending import ended
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.batches import Batches

_log = logging.getLogger("healthsphere.audit")


@dataclass(frozen=True, slots=True)
class Pace:
    """How the trail trades memory for quiet.

    Attributes:
        flush_s: how long a note waits at most
        flush_events, flush_bytes: so many notes, or so much memory that they hold, are written at once
        most_events, most_bytes: so many may wait; then requests do
        patience_s: how long a request waits for room, and a change for its record
        closing_s: how long the end of the server waits for the last batch
        between_s: how long changes wait at most for the batch under way before they are made
    """

    flush_s: float = 0.2
    flush_events: int = 500
    flush_bytes: int = 4 * 2**20
    most_events: int = 50_000
    most_bytes: int = 64 * 2**20
    patience_s: float = 10.0
    closing_s: float = 10.0
    between_s: float = 0.05


#: Events worked out before others get their turn on the event loop.
BREATH = 50

#: A batch of more events is packed beside the event loop.
LARGE = 200

#: Events of one batch; MongoDB ends at 16 MiB.
MOST_IN_BATCH = 2000
MOST_PACKED = 8 * 2**20

RETRY_S = (0.1, 0.25, 0.5, 1.0, 2.0)

#: How often the head of the chain is written beside the database.
WITNESS_S = 1.0


class Trail:
    """Takes events in, and writes them as batches of the chain."""

    def __init__(
        self,
        batches: Batches,
        base_url: str,
        *,
        key: bytes = b"",
        witness: Path | None = None,
        pace: Pace | None = None,
    ) -> None:
        """
        Args:
            base_url: the FHIR base as clients address it
            key: seals each batch; empty: batches are chained, not sealed
            witness: a file beside the database that names the head of the chain, so that nobody shortens it unseen
        """
        self.batches = batches
        self._base_url = base_url
        self._key = key
        self._witness = witness
        self._witnessed = 0.0
        self._pace = pace or Pace()
        self._waiting: list[Eventful] = []
        self._held_bytes = 0
        self._unwritten = 0
        self._recording: list[asyncio.Future[None]] = []
        self._head: Link | None = None
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._noted = 0
        self._closing = False
        #: Called after each batch that this process has written.
        self.written: Callable[[], None] | None = None

    # --- taking in --------------------------------------------------------------------------------------------------

    def note(self, event: Eventful) -> None:
        """Take an event that may be written a little later: a read, a search, a refusal."""
        waiting = self._waiting
        waiting.append(event)
        self._noted += event.parts
        self._held_bytes += event.bytes_held
        if self._is_much:
            self._wake.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pace.flush_s, self._wake.set)

    async def record(self, event: Eventful) -> None:
        """Take an event and wait until it is durable: a change, a sign-in, a token.

        Raises:
            UnavailableError: 503; the database has not confirmed it in time. It is kept, and tried again.
        """
        self.note(event)
        await self.flush()

    async def flush(self) -> None:
        """Wait until all that was taken in so far is durable; raises as `record`."""
        if not self._waiting and not self._unwritten:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._recording.append(done)
        self._wake.set()
        try:
            async with asyncio.timeout(self._pace.patience_s):
                await done
        except TimeoutError:
            raise behind("The request was carried out, but its audit record is not confirmed yet") from None

    async def between(self) -> None:
        """Return when no batch is under way, or this one takes long.

        Whoever is about to write what waits for its record gains nothing by being quicker: the record goes with the
        next batch. Meanwhile others come, and share both commands.
        """
        if not self._idle.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.between_s):
                    await self._idle.wait()

    @property
    def _is_much(self) -> bool:
        return len(self._waiting) >= self._pace.flush_events or self._held_bytes >= self._pace.flush_bytes

    @property
    def full(self) -> bool:
        """Whether so many events wait that requests must."""
        return self.pending >= self._pace.most_events or self._held_bytes >= self._pace.most_bytes

    @property
    def pending(self) -> int:
        return len(self._waiting) + self._unwritten

    @property
    def noted(self) -> int:
        """How many things that were done this process has taken in, ever: of a Bundle, each entry."""
        return self._noted

    async def admit(self) -> None:
        """Wait until there is room for what a request will bring; call it before carrying one out when `full`.

        Raises:
            UnavailableError: 503; the trail is full, and stays so.
        """
        try:
            async with asyncio.timeout(self._pace.patience_s):
                while self.full:
                    self._room.clear()
                    self._wake.set()
                    await self._room.wait()
        except TimeoutError:
            raise behind("Nothing was done: what is not audited is not answered") from None

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to write; the database must be open."""
        self._task = asyncio.create_task(self._run(), name="audit trail")

    async def close(self) -> None:
        """Write what waits, and stop."""
        if self._task is None:
            return
        self._closing = True
        self._wake.set()
        _, late = await asyncio.wait({self._task}, timeout=self._pace.closing_s)
        if late:
            await ended([self._task])
            _log.error("%d audit events could not be written before the end", self.pending)
        self._task = None
        if self._timer is not None:
            self._timer.cancel()
        await self._tell_witness(at_once=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._waiting:
                await self._write_waiting()
            # Notes that came meanwhile have their own time; a record goes on at once.
            while self._waiting and (self._recording or self._is_much or self._closing):
                await self._write_waiting()
            self._settle(self._take_recording())
            if self._closing:
                return
            if self._waiting and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(self._pace.flush_s, self._wake.set)

    def _take_recording(self) -> list[asyncio.Future[None]]:
        recording, self._recording = self._recording, []
        return recording

    @staticmethod
    def _settle(recording: list[asyncio.Future[None]]) -> None:
        for done in recording:
            if not done.done():
                done.set_result(None)

    async def _write_waiting(self) -> None:
        taken, self._waiting = self._waiting[:MOST_IN_BATCH], self._waiting[MOST_IN_BATCH:]
        # Who asked before now waits for these; when more wait than fit, for the next batch.
        recording = [] if self._waiting else self._take_recording()
        self._unwritten += len(taken)
        held = sum(item.bytes_held for item in taken)
        events: list[Event] = []
        for number, item in enumerate(taken):
            try:
                events.append(item.event())
            except Exception:
                # One that cannot be worked out must not keep back the others for ever; that it was is recorded.
                _log.exception("an audit event could not be worked out")
                events.append(unreadable())
            if number % BREATH == BREATH - 1:
                await asyncio.sleep(0)
        # Now the answers' bodies are no longer needed: only the events wait for the database.
        taken.clear()
        self._held_bytes = self._held_bytes - held if self._waiting else 0
        self._idle.clear()
        try:
            await self._append(events)
        finally:
            self._idle.set()
        self._unwritten -= len(events)
        self._settle(recording)
        await self._tell_witness()
        if not self.full:
            self._room.set()

    # --- writing ----------------------------------------------------------------------------------------------------

    async def _append(self, events: list[Event]) -> None:
        """Append events, however long it takes."""
        batch = Batch(self._base_url, events)
        packed = await asyncio.to_thread(pack, batch) if len(events) > LARGE else pack(batch)
        if len(packed) > MOST_PACKED and len(events) > 1:
            middle = len(events) // 2
            await self._append(events[:middle])
            await self._append(events[middle:])
            return
        attempt = 0
        tried: list[Link] = []
        while True:
            try:
                self._head = await self._link(len(events), packed, tried)
                break
            except Exception as error:
                self._head = None
                if attempt == 0:
                    _log.warning("the audit trail cannot be written (%s); it is tried again", type(error).__name__)
                await asyncio.sleep(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
        if attempt:
            _log.warning("the audit trail is written again, after %d attempts", attempt + 1)
        if self.written is not None:
            self.written()

    async def _link(self, count: int, packed: bytes, tried: list[Link]) -> Link:
        """Link a batch behind the last one, whoever wrote that.

        Args:
            tried: what was sent for these events before, and may have arrived although no answer came
        """
        for link in tried:
            if await self._arrived(link):
                return link
        while True:
            if self._head is None:
                row = await self.batches.last()
                self._head = link_of(row) if row else await self._anchor()
            head = self._head
            number, previous = (head.number + 1, head.digest) if head else (1, GENESIS)
            moment = max(now_us(), head.moment_us) if head else now_us()
            link = linked(number, previous, moment, count, packed, self._key)
            tried.append(link)
            if await self.batches.append(row_of(link)):
                return link
            tried.pop()
            self._head = None  # another process was first

    async def _arrived(self, link: Link) -> bool:
        """Whether a batch is there; one that no majority holds yet is waited for."""
        row = await self.batches.get(link.number)
        if row is None or row["h"] != link.digest:
            return False
        if await self.batches.get(link.number, confirmed=True) is None:
            raise behind("A batch is not confirmed yet")
        return True

    async def _anchor(self) -> Link | None:
        """Where the chain goes on when retention has removed all of it."""
        row = await self.batches.state(ANCHOR)
        return Link(row["n"], b"", row["t"], 0, b"", row["h"], b"") if row else None

    async def _tell_witness(self, *, at_once: bool = False) -> None:
        if self._witness is None or self._head is None:
            return
        now = time.monotonic()
        if at_once or now - self._witnessed >= WITNESS_S:
            self._witnessed = now
            try:
                await asyncio.to_thread(write_witness, self._witness, self._head.number, self._head.digest)
            except OSError as error:
                _log.warning("the head of the audit trail could not be written to its file: %s", error.strerror)


#: The rows that name the last batch that retention has removed, and the last that AuditEvents were made of.
ANCHOR = "anchor"
POSITION = "materialized"


def unreadable() -> Event:
    return happened("audit-fault", outcome=FAILED, detail="An event could not be worked out; see the log.")


def behind(what: str) -> UnavailableError:
    return UnavailableError(
        f"{what}: the audit trail cannot be written at the moment. Try again.",
        key="HS-AUDIT-BEHIND",
        headers={"Retry-After": "5"},
    )


def write_witness(path: Path, number: int, digest: bytes) -> None:
    """Name the head of the chain in a file, unless it names a later one already."""
    known = read_witness(path)
    if known is not None and known[0] >= number:
        return
    draft = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    draft.write_text(f"{number} {digest.hex()}\n", "ascii")
    draft.replace(path)


def read_witness(path: Path) -> tuple[int, bytes] | None:
    """The number and hash that a witness names; None where there is none yet.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        return None
    number, _, digest = text.strip().partition(" ")
    return int(number), bytes.fromhex(digest)
