"""A lane: one part of one follower, handled in order by one process at a time.

The lane's row is its lease, and holds how far it is: the token of the stream behind what was handled, or, while the
collections are read because the stream's history was lost, the last version that was. What was handled is kept after
the handler has returned, so that a crash in between makes it come again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

from fhir_server.jobs import counts
from fhir_server.jobs.fault import fault_of
from fhir_server.jobs.follower import Changed, Follower, changed_of
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.changes_stream import ChangesStream, Entry, HistoryLostError, Key
from fhir_server.storage.document import Version
from fhir_server.storage.rows import Row

#: Entries that are read ahead while a handler is at work; a handler gets at most so many at once.
AHEAD = 200

#: Versions that are read from the collections at once.
PAGE = 200

#: How often the position is kept while nothing is to be handled.
IDLE_KEEP_S = 10.0

#: What was handled last may be so much older than what was written before it: transactions take their moments before
#: they are committed, and clocks differ.
OVERLAP_US = 300 * 1_000_000

LONGEST_PAUSE_S = 30.0

Keep = Callable[[Mapping[str, Any]], Awaitable[None]]

_log = logging.getLogger("healthsphere.feed")


class Grave(Protocol):
    """Where changes go that cannot be handled."""

    async def bury(self, follower: str, changed: Changed, error: str, tries: int) -> None: ...


class StoppedError(Exception):
    """The lane is to be let go of, in the midst of something."""


async def scan_from(stream: ChangesStream, since_us: int) -> Row:
    """The fields of a row that begins with what the collections have since a moment, and then goes on."""
    # In this order: what is written from now on is in the stream behind the token, and in the collections or not.
    mark, token = await stream.marked(), await stream.now()
    scan = {"after": list(Key(since_us, "", "", 0)), "until": now_us() + OVERLAP_US, "mark": mark}
    return {"token": token, "through": since_us, "scan": scan}


class Lane:
    """One tenure of a lane: from where its row says until it is stopped."""

    def __init__(
        self, follower: Follower, part: int, stream: ChangesStream, grave: Grave, *, most_tries: int, pause_s: float
    ) -> None:
        self.follower = follower
        self.part = part
        self._stream = stream
        self._grave = grave
        self._most_tries = most_tries
        self._pause_s = pause_s
        self._stop = asyncio.Event()
        self._kept_at = time.monotonic()
        self._waiting_us: int | None = None
        self._through_us = 0

    @property
    def lag_s(self) -> float:
        """The age of the oldest change that was read and is not handled."""
        return max(0.0, (now_us() - self._waiting_us) / 1e6) if self._waiting_us is not None else 0.0

    def stop(self) -> None:
        """Let go of the lane when what is being handled now is done."""
        self._stop.set()

    async def follow(self, row: Row, keep: Keep) -> None:
        """Hand over what changes, from where a row says, until stopped; `keep` sets fields of the row.

        Raises:
            UnavailableError: the database does not answer.
        """
        try:
            self._through_us = row["through"]
            if row.get("scan"):
                row = await self._scan(row, keep)
            while True:
                try:
                    return await self._follow(row["token"], keep)
                except HistoryLostError as error:
                    row = await self._scan(await self._lost(error, keep), keep)
        except StoppedError:
            return None
        finally:
            self._waiting_us = None
            counts.LAG.labels(self.follower.name).set(0)

    # --- the stream -------------------------------------------------------------------------------------------------

    async def _follow(self, token: Row, keep: Keep) -> None:
        ahead: asyncio.Queue[Entry] = asyncio.Queue(AHEAD)
        reading = asyncio.create_task(self._read(token, ahead), name=f"reads for {self.follower.name}")
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not self._stop.is_set():
                entries = await self._next(ahead, reading, stopping)
                await self._take(entries, keep)
        finally:
            for task in (reading, stopping):
                task.cancel()
            await asyncio.gather(reading, stopping, return_exceptions=True)

    async def _read(self, token: Row, ahead: asyncio.Queue[Entry]) -> None:
        async with self._stream.follow(self.follower.types, token) as stream:
            while True:
                await ahead.put(await stream.next())

    async def _next(
        self, ahead: asyncio.Queue[Entry], reading: asyncio.Task[None], stopping: asyncio.Task[Any]
    ) -> list[Entry]:
        """What was read meanwhile, at least one entry; none when the lane is stopped."""
        if ahead.empty():
            getting = asyncio.create_task(ahead.get())
            try:
                await asyncio.wait({getting, reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                entries = [getting.result()] if getting.done() else []
            finally:
                getting.cancel()
        else:
            entries = [ahead.get_nowait()]
        if not entries and reading.done():
            reading.result()  # it ends by an error alone
        while not ahead.empty():
            entries.append(ahead.get_nowait())
        return entries

    async def _take(self, entries: Sequence[Entry], keep: Keep) -> None:
        """Hand over what entries tell, and keep that they are done."""
        if not entries:
            return
        changes = self._ours(entry.version for entry in entries if entry.version is not None)
        await self._hand_over(changes)
        marks = [entry.mark for entry in entries if entry.mark is not None]
        if changes or marks or time.monotonic() - self._kept_at >= IDLE_KEEP_S:
            self._through_us = changes[-1].at_us if changes else now_us()
            mark = {"mark": marks[-1]} if marks else {}
            await self._keep(keep, {"token": entries[-1].token, "through": self._through_us, **mark})

    async def _keep(self, keep: Keep, fields: Row) -> None:
        await keep(fields)
        self._kept_at = time.monotonic()

    def _ours(self, versions: Iterable[Version]) -> list[Changed]:
        changes = [changed_of(version) for version in versions]
        return [changed for changed in changes if self.follower.part_of(changed) == self.part]

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
        await self._keep(keep, row)
        return row

    async def _scan(self, row: Row, keep: Keep) -> Row:
        """Hand over what the collections have, then be where the stream goes on; the row as it is then."""
        scan = row["scan"]
        after = Key(*scan["after"])
        while keys := await self._stream.since(self.follower.types, after, PAGE):
            if keys[0].moment_us > scan["until"]:
                break  # that is in the stream
            found = await self._stream.versions([(key.type, key.id, key.version) for key in keys])
            await self._hand_over(self._ours(found.values()))
            after = keys[-1]
            self._through_us = after.moment_us
            await self._keep(keep, {"scan": {**scan, "after": list(after)}, "through": after.moment_us})
            if self._stop.is_set():
                raise StoppedError
        ended = {"scan": None, "token": row["token"], "mark": scan["mark"]}
        await self._keep(keep, ended)
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
        name = self.follower.name
        self._waiting_us = changes[0].at_us
        counts.LAG.labels(name).set(self.lag_s)
        if len(changes) == 1 or not await self._handled_together(changes):
            for changed in changes:
                self._waiting_us = changed.at_us
                await self._handle_one(changed)
        self._waiting_us = None
        counts.LAG.labels(name).set(0)
        counts.HANDLED.labels(name).inc(len(changes))

    async def _handled_together(self, changes: Sequence[Changed]) -> bool:
        try:
            await self.follower.handle(changes)
        except Exception as error:
            counts.FAILED.labels(self.follower.name).inc()
            _log.warning(
                "%s failed with %d changes, which are handled one by one now: %s",
                self.follower.name,
                len(changes),
                fault_of(error),
            )
            return False
        return True

    async def _handle_one(self, changed: Changed) -> None:
        """Have a change handled, again and again; set it aside when that goes on failing."""
        name, tries, pause_s = self.follower.name, 0, self._pause_s
        while True:
            try:
                return await self.follower.handle([changed])
            except Exception as error:
                counts.FAILED.labels(name).inc()
                fault = fault_of(error)
                # A database that does not answer is not the change's fault.
                tries += 0 if isinstance(error, UnavailableError) else 1
                if tries >= self._most_tries:
                    _log.error("%s failed %d times with a change, which is set aside: %s", name, tries, fault)
                    counts.DEAD.labels(name).inc()
                    await self._grave.bury(name, changed, fault, tries)
                    return None
                _log.warning("%s failed with a change, and tries again in %.1f s: %s", name, pause_s, fault)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), pause_s)
                raise StoppedError
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
