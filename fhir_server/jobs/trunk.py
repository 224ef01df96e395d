"""The trunk: one change stream of this process, read once for all its lanes.

Reading a stream costs the database and this process more than most handlers do, so lanes share one. A lane that is
further back than the trunk (it was just taken over, or its handler was slow) reads a stream of its own until it is
where the trunk is, and joins it there. One that cannot keep up falls off, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import time

from fhir_server.storage.changes_stream import ChangesStream, Entry, Position, Stream

#: Entries that wait for a lane before it falls off.
AHEAD = 1000

#: Between two questions for what is next, while there is always something: larger answers cost less for each entry.
PACE_S = 0.02


class Branch:
    """What a lane reads from: entries of its types behind its position, in order.

    Attributes:
        ahead: the entries that were read and not yet taken
        position: that of the last entry that was put there
        left: set when the trunk puts nothing there any more
        error: why, where it is not that the branch was full
    """

    def __init__(self, types: frozenset[str], position: Position) -> None:
        self.types = types
        self.position = position
        self.ahead: asyncio.Queue[Entry] = asyncio.Queue(AHEAD)
        self.left = asyncio.Event()
        self.error: Exception | None = None

    def wants(self, entry: Entry) -> bool:
        if entry.position <= self.position:
            return False
        return entry.version is None or not self.types or entry.version.type in self.types

    async def put(self, entry: Entry) -> None:
        await self.ahead.put(entry)
        self.position = entry.position


class Trunk:
    """The stream that the lanes of this process share."""

    def __init__(self, stream: ChangesStream) -> None:
        self._stream = stream
        self._branches: set[Branch] = set()
        self._types: frozenset[str] = frozenset()
        self._at = Position(0, 0, "")
        self._reading: asyncio.Task[None] | None = None
        self._turns = 0
        self._asked = 0.0

    async def feed(self, branch: Branch) -> None:
        """Fill a branch, from the trunk wherever possible; until cancelled.

        Raises:
            HistoryLostError: the oplog does not reach back to the position of the branch, or of another.
            UnavailableError: the database does not answer.
        """
        try:
            while True:
                if not self._joined(branch):
                    async with self._stream.follow(branch.types, branch.position) as stream:
                        while not self._joined(branch):
                            await branch.put(await stream.next())
                await branch.left.wait()
                if branch.error is not None:
                    raise branch.error
        finally:
            self._leave(branch)

    def _joined(self, branch: Branch) -> bool:
        """Have the trunk fill a branch, if it is not further than that already."""
        if self._reading is None:
            self._types, self._at = branch.types, branch.position
            self._start()
        elif branch.position < self._at:
            return False
        elif self._types and not (branch.types and branch.types <= self._types):
            # The position holds for any types: the same stream goes on with more.
            self._reading.cancel()
            self._types = self._types | branch.types if branch.types else frozenset()
            self._start()
        branch.left.clear()
        self._branches.add(branch)
        return True

    def _leave(self, branch: Branch) -> None:
        self._branches.discard(branch)
        if not self._branches and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _start(self) -> None:
        self._reading = asyncio.create_task(self._read(self._types, self._at), name="feed trunk")

    async def _read(self, types: frozenset[str], at: Position) -> None:
        own = asyncio.current_task()
        try:
            async with self._stream.follow(types, at) as stream:
                while True:
                    entry = await self._next(stream)
                    if self._reading is not own:
                        return
                    self._at = entry.position
                    for branch in [branch for branch in self._branches if branch.wants(entry)]:
                        self._put(branch, entry)
        except Exception as error:
            if self._reading is own:
                self._reading = None
                self._drop_all(error)

    async def _next(self, stream: Stream) -> Entry:
        turns = self._turns
        asyncio.get_running_loop().call_soon(self._turned)  # runs if the entry is not here yet, but is asked for
        entry = await stream.next()
        if self._turns != turns:
            if (pause_s := self._asked + PACE_S - time.monotonic()) > 0:
                await asyncio.sleep(pause_s)
            self._asked = time.monotonic()
        return entry

    def _turned(self) -> None:
        self._turns += 1

    def _put(self, branch: Branch, entry: Entry) -> None:
        """Hand an entry to a branch, which falls off when it is full."""
        try:
            branch.ahead.put_nowait(entry)
            branch.position = entry.position
        except asyncio.QueueFull:
            self._branches.discard(branch)
            branch.left.set()

    def _drop_all(self, error: Exception) -> None:
        branches, self._branches = self._branches, set()
        for branch in branches:
            branch.error = error
            branch.left.set()
