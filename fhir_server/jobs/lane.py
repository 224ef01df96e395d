"""A lane: one part of one follower, handled in order by one process at a time.

The lane's row is its lease, and holds how far it is: the position in the stream of what was handled last, or, while the
collections are read because the stream's history was lost, the last version that was. That is kept after the handler
has returned, never before, so that what a crash interrupts comes again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from fhir_server.jobs import counts
from fhir_server.jobs.fault import fault_of
from fhir_server.jobs.follower import Changed, Follower, changed_of, itself
from fhir_server.jobs.trunk import Branch, Trunk
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError, UnavailableError
from fhir_server.storage.changes_stream import ChangesStream, Entry, HistoryLostError, Key, Position
from fhir_server.storage.document import Version
from fhir_server.storage.rows import Row

#: What a handler gets at once.
MOST_AT_ONCE = 200

#: Versions that are read from the collections at once.
PAGE = 200

#: How often the position is kept at most, under load, and at least, while nothing is to be handled.
KEEP_EVERY_S = 0.25
IDLE_KEEP_S = 10.0

#: What was handled last may be so much older than what was written before it: transactions take their moments before
#: they are committed, and clocks differ.
OVERLAP_US = 300 * 1_000_000

LONGEST_PAUSE_S = 30.0

Keep = Callable[[Mapping[str, Any]], Awaitable[None]]
Named = tuple[str, str, int]

_log = logging.getLogger("healthsphere.feed")


class Grave(Protocol):
    """Where changes go that cannot be handled."""

    async def bury(self, follower: str, changed: Named, error: str, tries: int) -> None: ...
    async def forget(self, follower: str, changed: Named) -> None: ...


class StoppedError(Exception):
    """The lane is to be let go of, in the midst of something."""


async def scan_from(stream: ChangesStream, since_us: int) -> Row:
    """The fields of a row that begins with what the collections have since a moment, and then goes on."""
    # In this order: what is written from now on is in the stream behind the position, and in the collections or not.
    mark, position = await stream.marked(), await stream.now()
    scan = {"after": list(Key(since_us, "", "", 0)), "until": now_us() + OVERLAP_US, "mark": mark}
    return {"position": list(position), "through": since_us, "scan": scan}


class Lane:
    """One tenure of a lane: from where its row says until it is stopped."""

    def __init__(
        self,
        follower: Follower,
        part: int,
        stream: ChangesStream,
        trunk: Trunk,
        grave: Grave,
        *,
        most_tries: int,
        pause_s: float,
    ) -> None:
        self.follower = follower
        self.part = part
        self._stream = stream
        self._trunk = trunk
        self._grave = grave
        self._most_tries = most_tries
        self._pause_s = pause_s
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._asked: list[Named] = []
        self._unkept: Row = {}
        self._kept_at = 0.0
        self._through_us = 0
        self._waiting_us: int | None = None

    @property
    def lag_s(self) -> float:
        """The age of the oldest change that was read and is not handled."""
        return max(0.0, (now_us() - self._waiting_us) / 1e6) if self._waiting_us is not None else 0.0

    def stop(self) -> None:
        """Let go of the lane when what is being handled now is done."""
        self._stop.set()
        self._wake.set()

    def ask(self, changes: Sequence[Named]) -> None:
        """Have changes handled once more that were set aside."""
        if not self._asked:
            self._asked = list(changes)
            self._wake.set()

    async def follow(self, row: Row, keep: Keep) -> None:
        """Hand over what changes, from where a row says, until stopped; `keep` sets fields of the row.

        Raises:
            UnavailableError: the database does not answer.
        """
        self._through_us = row["through"]
        try:
            if row.get("scan"):
                row = await self._scan(row, keep)
            while not self._stop.is_set():
                try:
                    await self._follow(Position(*row["position"]), keep)
                except HistoryLostError as error:
                    row = await self._scan(await self._lost(error, keep), keep)
                    await self._pause(self._pause_s)
        except StoppedError:
            pass  # what was not handled comes again, to whoever has the lane next
        finally:
            self._waiting_us = None
        await self._keep_now(keep)

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _follow(self, position: Position, keep: Keep) -> None:
        branch = Branch(self.follower.types, position)
        reading = asyncio.create_task(self._trunk.feed(branch), name=f"reads for {self.follower.name}")
        try:
            while not self._stop.is_set():
                await self._take(await self._next(branch.ahead, reading))
                await self._keep_if_due(keep)
                if self._asked:
                    await self._handle_asked()
        finally:
            await ended([reading])

    async def _next(self, ahead: asyncio.Queue[Entry], reading: asyncio.Task[None]) -> list[Entry]:
        """What was read meanwhile; waits for an entry, unless the lane is woken or something is to be kept."""
        entries: list[Entry] = []
        if ahead.empty() and not self._wake.is_set():
            arriving, waking = asyncio.create_task(ahead.get()), asyncio.create_task(self._wake.wait())
            wait_s = KEEP_EVERY_S if self._unkept else None
            try:
                await asyncio.wait({arriving, waking, reading}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
                if arriving.done():
                    entries.append(arriving.result())
            finally:
                arriving.cancel()
                waking.cancel()
        self._wake.clear()
        while not ahead.empty() and len(entries) < MOST_AT_ONCE:
            entries.append(ahead.get_nowait())
        if not entries and reading.done():
            reading.result()  # it ends by an error alone
        return entries

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Hand over what entries tell, and remember that they are done."""
        if not entries:
            return
        changes = await self._ours([entry.version for entry in entries if entry.version is not None])
        await self._hand_over(changes)
        # By the stream's own time: while it is far behind, what was handled last may be long past.
        self._through_us = entries[-1].position.moment_us
        if marks := [entry.mark for entry in entries if entry.mark is not None]:
            self._unkept["mark"] = marks[-1]
        if changes or self._unkept or time.monotonic() - self._kept_at >= IDLE_KEEP_S:
            self._unkept |= {"position": list(entries[-1].position), "through": self._through_us}

    async def _keep_if_due(self, keep: Keep) -> None:
        if "mark" in self._unkept or time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            await self._keep_now(keep)

    async def _keep_now(self, keep: Keep) -> None:
        if self._unkept:
            fields, self._unkept = self._unkept, {}
            await keep(fields)
            self._kept_at = time.monotonic()

    async def _ours(self, versions: Sequence[Version]) -> list[Changed]:
        """The changes that these versions are, as far as they are of this part."""
        wanted = [(v.type, v.id, v.version - 1) for v in versions if v.version > 1]
        if not self.follower.before:
            gone = {(v.type, v.id, v.version - 1) for v in versions if v.deleted}
            wanted = [key for key in wanted if key in gone]
        before = await self._stream.versions(wanted) if wanted else {}
        changes = (changed_of(v, before.get((v.type, v.id, v.version - 1))) for v in versions)
        return [changed for changed in changes if self._part_of(changed) == self.part]

    def _part_of(self, changed: Changed) -> int:
        try:
            return self.follower.part_of(changed)
        except Exception as error:
            _log.warning("%s cannot tell what a change is about: %s", self.follower.name, fault_of(error))
            return self.follower.part_of(changed, itself)

    # --- the collections --------------------------------------------------------------------------------------------

    async def _lost(self, error: Exception, keep: Keep) -> Row:
        """Begin to read the collections, from what was handled last; the row as it is then."""
        name, since_us = self.follower.name, max(0, self._through_us - OVERLAP_US)
        counts.RECOVERED.labels(name).inc()
        _log.warning(
            "the change stream cannot go on for %s (%s): what changed since %s is read from the collections",
            name,
            error,
            instant_of(since_us),
        )
        row = await scan_from(self._stream, since_us)
        self._unkept = {}
        await keep(row)
        return row

    async def _scan(self, row: Row, keep: Keep) -> Row:
        """Hand over what the collections have, then be where the stream goes on; the row as it is then."""
        scan = row["scan"]
        after = Key(*scan["after"])
        while keys := await self._stream.since(self.follower.types, after, PAGE):
            if keys[0].moment_us > scan["until"]:
                break  # that is in the stream
            found = await self._stream.versions([(key.type, key.id, key.version) for key in keys])
            await self._hand_over(await self._ours(list(found.values())))
            after = keys[-1]
            self._through_us = after.moment_us
            await keep({"scan": {**scan, "after": list(after)}, "through": after.moment_us})
            if self._stop.is_set():
                raise StoppedError
        self._through_us = Position(*row["position"]).moment_us
        ended: Row = {"scan": None, "position": row["position"], "through": self._through_us, "mark": scan["mark"]}
        await keep(ended)
        _log.info("%s has caught up with the change stream", self.follower.name)
        return ended

    # --- the handler ------------------------------------------------------------------------------------------------

    async def _hand_over(self, changes: Sequence[Changed]) -> None:
        """Have changes handled, together or, when that fails, one after the other.

        Raises:
            StoppedError: they are not all handled.
        """
        if not changes:
            return
        self._waiting_us = changes[0].at_us
        if len(changes) == 1 or not await self._handled_together(changes):
            for changed in changes:
                self._waiting_us = changed.at_us
                await self._handled(changed)
        self._waiting_us = None
        counts.HANDLED.labels(self.follower.name).inc(len(changes))

    async def _handled_together(self, changes: Sequence[Changed]) -> bool:
        try:
            await self.follower.handle(changes)
        except Exception as error:
            counts.FAILED.labels(self.follower.name).inc()
            what = f"{len(changes)} changes, which are handled one by one now"
            _log.warning("%s failed with %s: %s", self.follower.name, what, fault_of(error))
            return False
        return True

    async def _handled(self, changed: Changed) -> bool:
        """Have a change handled, again and again; set it aside when that goes on failing, which is False."""
        name, tries, pause_s = self.follower.name, 0, self._pause_s
        while True:
            try:
                await self.follower.handle([changed])
            except Exception as error:
                counts.FAILED.labels(name).inc()
                fault = fault_of(error)
                # A database that does not answer is not the change's fault.
                tries += 0 if isinstance(error, UnavailableError) else 1
                if tries >= self._most_tries:
                    _log.error("%s failed %d times with a change, which is set aside: %s", name, tries, fault)
                    counts.DEAD.labels(name).inc()
                    await self._grave.bury(name, (changed.type, changed.id, changed.version), fault, tries)
                    return False
                _log.warning("%s failed with a change, and tries again in %.1f s: %s", name, pause_s, fault)
            else:
                return True
            await self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            StoppedError: the lane is to be let go of meanwhile.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)
            raise StoppedError

    async def _handle_asked(self) -> None:
        """Handle what was set aside and is asked for; what cannot be handled is set aside again."""
        try:
            found = await self._stream.versions(self._asked)
            ours = {(c.type, c.id, c.version): c for c in await self._ours(list(found.values()))}
            for key in self._asked:
                # What was erased meanwhile is forgotten.
                if key not in found or (key in ours and await self._handled(ours[key])):
                    await self._grave.forget(self.follower.name, key)
        except FhirError as error:
            _log.warning("what %s set aside waits: %s", self.follower.name, type(error).__name__)
        finally:
            self._asked = []
