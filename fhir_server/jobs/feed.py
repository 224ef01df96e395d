"""The change feed: followers are told of each version of a resource that is made, at least once and in order.

It follows MongoDB's change stream of the database, so that writers do nothing for it. How far a follower is stands in a
row, under a lease: one process at a time handles it, and when that one dies another goes on behind the last change
whose handling had ended. A follower may be shared out in parts; each part, and each follower, is a lane that goes at
its own pace. The processes share the lanes out among them, each lane to the one that a hash of both names, so that all
agree without a word.

A change that cannot be handled is tried again, later each time, and then set aside, without its content, for somebody
to look into and have it handled again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fhir_server.jobs import counts
from fhir_server.jobs.ending import ended_soon
from fhir_server.jobs.fault import fault_of
from fhir_server.jobs.follower import Follower
from fhir_server.jobs.lane import IDLE_KEEP_S, Lane, Named, scan_from
from fhir_server.jobs.lease import LASTS_S, Lease, LeaseLostError
from fhir_server.jobs.trunk import Trunk
from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError
from fhir_server.storage.changes_stream import FEED
from fhir_server.storage.rows import NOW, WATCH, Row
from fhir_server.storage.store import Store

#: The collection of changes that were set aside.
DEAD = "_feed_dead"

#: How often a change is tried before it is set aside, and until it is tried again: twice as long each time.
MOST_TRIES = 6
PAUSE_S = 0.5

#: How often processes look who is there and which lanes are theirs.
LOOK_EVERY_S = 2.0

#: Changes that are handled again in one go.
ASKED_AT_ONCE = 200

#: For handlers that are at work when the server stops.
LETTING_GO_S = 5.0

#: For saying that a lease is let go of.
RELEASE_S = 5.0

_log = logging.getLogger("healthsphere.feed")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a lane is.

    Attributes:
        part, parts: which part of the follower
        through_us: what changed until then is handled; kept at each change, else every ten seconds
        scanning: whether it reads the collections, because the stream's history was lost
        held: whether a process has it
    """

    follower: str
    part: int
    parts: int
    through_us: int
    scanning: bool
    held: bool


@dataclass(frozen=True, slots=True)
class DeadChange:
    """A change that was set aside; its content stays where it was.

    Attributes:
        error: what failed last, and where
        at_us: when
        asked: whether it is to be handled again
    """

    follower: str
    type: str
    id: str
    version: int
    error: str
    tries: int
    at_us: int
    asked: bool


class Feed:
    """Tells followers what changes.

    Args:
        lease_s: how long a process may be silent before its lanes are taken over
        most_tries, pause_s: how often a change is tried, and how long after the first failure
    """

    def __init__(
        self, store: Store, *, lease_s: float = LASTS_S, most_tries: int = MOST_TRIES, pause_s: float = PAUSE_S
    ) -> None:
        self._stream = store.changes
        self._trunk = Trunk(self._stream)
        self._rows = store.rows(FEED)
        self._dead = store.rows(DEAD)
        self._lease_s = lease_s
        self._most_tries = most_tries
        self._pause_s = pause_s
        self._process = f"process/{secrets.token_hex(8)}"
        self._followers: dict[str, Follower] = {}
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._local: dict[str, Row] = {}
        self._watching: asyncio.Task[None] | None = None
        self._opened = False
        self._closing = asyncio.Event()

    def register(self, follower: Follower) -> None:
        """Have a follower told of changes; before `open`."""
        if self._opened or follower.name in self._followers:
            raise RuntimeError(f"the follower {follower.name} comes too late, or is there already")
        self._followers[follower.name] = follower

    async def open(self) -> None:
        """Begin: what is written after this call is told to every follower."""
        self._opened = True
        if not self._followers:
            return
        await self._rows.forget_after("until")
        await self._dead.index("follower", "at")
        await self._stream.mark()
        begin: Row = {"position": list(await self._stream.now()), "through": now_us()}
        for follower in self._followers.values():
            fields = await scan_from(self._stream, 0) if follower.from_start else begin
            if follower.everywhere:
                self._local[follower.name] = dict(fields)
            else:
                await self._make_lanes(follower, fields)
        await self._look()
        self._watching = asyncio.create_task(self._watch(), name="feed")

    async def close(self) -> None:
        """Stop: what is being handled may end, for a moment; other processes go on at once."""
        self._closing.set()
        if self._watching is None:
            return
        for lane in self._lanes.values():
            lane.stop()
        await ended_soon({self._watching, *self._tasks.values()}, LETTING_GO_S)
        with suppress(FhirError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                await self._rows.remove(self._process)

    # --- how far it is ----------------------------------------------------------------------------------------------

    async def position(self) -> list[Position]:
        """How far all lanes are, of this process and of others."""
        rows = await self._rows.all({"follower": {"$exists": True}})
        return [_position_of(row) for row in sorted(rows, key=lambda row: str(row["_id"]))]

    @property
    def lag_s(self) -> float:
        """The age of the oldest change that a lane of this process has read and not handled."""
        return max((lane.lag_s for lane in self._lanes.values()), default=0.0)

    async def caught_up(self) -> None:
        """Wait until all followers have handled what was committed before this call, and is replayed. For tests."""
        if not self._followers:
            return
        mark = await self._stream.mark()
        asked = {"asked": True, "follower": {"$in": list(self._followers)}}
        shared = [_lane_name(f, part) for f in self._followers.values() if not f.everywhere for part in range(f.parts)]
        while True:
            rows = await self._rows.all({"_id": {"$in": shared}})
            marks = [row.get("mark", 0) for row in (*rows, *self._local.values())]
            there = len(rows) == len(shared) and all(reached >= mark for reached in marks)
            if there and not await self._dead.all(asked, limit=1):
                return
            await asyncio.sleep(0.01)

    # --- what was set aside -----------------------------------------------------------------------------------------

    async def bury(self, follower: str, changed: Named, error: str, tries: int) -> None:
        """Set a change aside; one of this process alone is of no use to others, and later."""
        if self._followers[follower].everywhere:
            return
        about = dict(zip(("type", "id", "version"), changed, strict=True))
        row = {"follower": follower, **about, "error": error, "tries": tries, "at": now_us(), "asked": False}
        await self._dead.put(_dead_name(follower, changed), row)

    async def forget(self, follower: str, changed: Named) -> None:
        """Forget a change that was set aside."""
        await self._dead.remove(_dead_name(follower, changed))

    async def dead(self, follower: str | None = None, limit: int = 100) -> list[DeadChange]:
        """The changes that were set aside, those that failed last first."""
        return [_dead_of(row) for row in await self._dead.all(_about(follower), newest_by="at", limit=limit)]

    async def replay(self, follower: str | None = None) -> int:
        """Have what was set aside handled again, by whoever has the lanes, in between what changes; how many."""
        asked = await self._dead.put_all(_about(follower), {"asked": True})
        await self._ask()
        return asked

    async def _ask(self) -> None:
        """Tell the lanes of this process what is asked for."""
        rows = await self._dead.first({"asked": True}, "at", ASKED_AT_ONCE) if self._lanes else []
        for lane in self._lanes.values():
            name = lane.follower.name
            lane.ask([(row["type"], row["id"], row["version"]) for row in rows if row["follower"] == name])

    # --- the lanes --------------------------------------------------------------------------------------------------

    async def _make_lanes(self, follower: Follower, begin: Row) -> None:
        """Make the rows of lanes that are not there; with other parts than before, from the one that is least far."""
        names = [_lane_name(follower, part) for part in range(follower.parts)]
        there = await self._rows.all({"follower": follower.name})
        if not set(names) <= {row["_id"] for row in there}:
            least = min(there, key=lambda row: int(row["through"]), default=None)
            kept = ("position", "through", "scan")
            fields = begin if least is None else {name: least[name] for name in kept if name in least}
            for part, name in enumerate(names):
                about = {"follower": follower.name, "part": part, "parts": follower.parts}
                await self._rows.make(name, {**fields, **about})
        await self._rows.remove_all({"follower": follower.name, "_id": {"$nin": names}})

    async def _watch(self) -> None:
        """Have the lanes that are this process's, all the time."""
        every_s = min(LOOK_EVERY_S, self._lease_s / 3)
        while not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), every_s)
                return
            self._tell_lag()
            try:
                await self._look()
                await self._ask()
                # Lanes of which nothing changes get on by it, and do not fall off the oplog.
                await self._stream.mark(older_s=IDLE_KEEP_S)
            except FhirError as error:
                _log.warning("no lanes could be looked for: %s", type(error).__name__)
            except Exception:
                _log.exception("no lanes could be looked for")

    def _tell_lag(self) -> None:
        for name in self._followers:
            lags = [lane.lag_s for lane in self._lanes.values() if lane.follower.name == name]
            counts.LAG.labels(name).set(max(lags, default=0.0))

    async def _look(self) -> None:
        """Say that this process is there, see which others are, take up the lanes that are its own, leave the rest."""
        until = {"$add": [NOW, round(self._lease_s * 1000)]}
        names = sorted(name for name, follower in self._followers.items() if not follower.everywhere)
        here = {"until": until, "names": {"$literal": names}}
        if await self._rows.change(self._process, {}, here, comment=WATCH, shown=()) is None:
            await self._rows.make(self._process, {}, comment=WATCH)
            await self._rows.change(self._process, {}, here, comment=WATCH, shown=())
        there = await self._rows.first({"until": {"$exists": True}, "$expr": {"$gt": ["$until", NOW]}}, "_id", 1000)
        for follower in self._followers.values():
            if follower.everywhere:
                self._take_up(follower.name, follower, 0, self._followed_here)
                continue
            able = [row["_id"] for row in there if follower.name in row["names"]]
            for part in range(follower.parts):
                name = _lane_name(follower, part)
                if max(able, key=lambda process: _hash(process, name), default=self._process) == self._process:
                    self._take_up(name, follower, part, self._followed)
                elif name in self._lanes:
                    self._lanes[name].stop()

    def _take_up(self, name: str, follower: Follower, part: int, following: Any) -> None:
        if name in self._tasks or self._closing.is_set():  # `close` may begin while others are being looked for
            return
        lane = Lane(follower, part, self._stream, self._trunk, self, most_tries=self._most_tries, pause_s=self._pause_s)
        self._lanes[name] = lane
        task = self._tasks[name] = asyncio.create_task(following(name, lane), name=f"feed {name}")
        task.add_done_callback(lambda _: self._left(name))

    def _left(self, name: str) -> None:
        task = self._tasks.pop(name)
        self._lanes.pop(name)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("lane %s was left, and is taken up again: %s", name, fault_of(fault))

    async def _followed(self, name: str, lane: Lane) -> None:
        """Follow for a lane, if it is free; until it is stopped or lost."""
        lease = Lease(self._rows, name, lasts_s=self._lease_s)
        try:
            if (row := await lease.take({"follower": lane.follower.name})) is None:
                return
            try:
                await lease.during(lane.follow(row, lease.put))
            finally:
                with suppress(LeaseLostError, FhirError, TimeoutError):
                    async with asyncio.timeout(RELEASE_S):
                        await lease.release()
        except LeaseLostError:
            _log.warning("lane %s lost its lease; whoever has it next goes on", name)
        except FhirError as error:
            _log.warning("lane %s waits for the database: %s", name, type(error).__name__)

    async def _followed_here(self, name: str, lane: Lane) -> None:
        """Follow for this process alone; how far it is, is remembered here."""
        row = self._local[name]

        async def keep(fields: Mapping[str, Any]) -> None:
            row.update(fields)

        try:
            await lane.follow(dict(row), keep)
        except FhirError as error:
            _log.warning("%s waits for the database: %s", name, type(error).__name__)


def _lane_name(follower: Follower, part: int) -> str:
    return f"lane/{follower.name}/{part}/{follower.parts}"


def _hash(process: str, lane: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{process} {lane}".encode(), digest_size=8).digest())


def _dead_name(follower: str, changed: Named) -> str:
    return "/".join((follower, *map(str, changed)))


def _about(follower: str | None) -> Row:
    return {} if follower is None else {"follower": follower}


def _position_of(row: Row) -> Position:
    lease = row.get("lease", {})
    held = bool(lease.get("holder")) and lease["until"].replace(tzinfo=UTC) > datetime.now(UTC)
    return Position(row["follower"], row["part"], row["parts"], row["through"], bool(row.get("scan")), held)


def _dead_of(row: Row) -> DeadChange:
    about = (row["follower"], row["type"], row["id"], row["version"])
    return DeadChange(*about, row["error"], row["tries"], row["at"], row["asked"])
