"""Concurrent commands of one kind, gathered into one.

What a MongoDB driver costs is paid per command, hardly per document: reading eight documents by one `$in` takes a
quarter of the processor time of eight reads. A `Gather` collects what arrives while its commands are under way, and
sends it as the next command. A lone caller waits for nobody; each caller gets its own answer or its own error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

#: How long what waits leaves a run to itself. Most commands have ended by then, in a process that is busy, too.
PATIENCE_S = 0.005

#: Runs that are under way at most, where what waits may go beside those that take long: reads and searches.
PARALLEL = 4

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gather(Generic[Item, Result]):
    """Run `run(items)` for all items that wait, with at most `parallel` runs at once.

    `ready` is awaited before each run; what comes meanwhile goes along.

    One run at a time makes the largest commands, and so the cheapest: what waits is the next one. Of several, each is
    begun only when the last one has been under way for `patience_s`; so one that is slow holds nobody up for longer.

    `run` returns one result per item, in order; a result that is an exception is raised to its caller alone. When `run`
    itself raises, every caller of that run gets the exception.
    """

    __slots__ = (
        "_began", "_parallel", "_patience_s", "_ready", "_run", "_running", "_scheduled", "_size", "_tasks", "_timer",
        "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        parallel: int = 1,
        patience_s: float = PATIENCE_S,
        size: int = 500,
        ready: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._run = run
        self._parallel = parallel
        self._patience_s = patience_s
        self._size = size
        self._ready = ready
        self._running = 0
        self._began = 0.0
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Result:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._running == 0 and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)
        self._await_turn(loop)
        return await future

    def _start(self) -> None:
        self._scheduled = False
        loop = asyncio.get_running_loop()
        self._running += 1
        self._began = loop.time()
        task = loop.create_task(self._flush(self._taken(self._size)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _start_another(self) -> None:
        """Begin a run beside the last one, if that has not ended in time."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if self._waiting and 0 < self._running < self._parallel and loop.time() >= self._began + self._patience_s:
            self._start()
        self._await_turn(loop)

    def _await_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that what waits is not held up by the runs under way."""
        if self._timer is None and self._waiting and 0 < self._running < self._parallel:
            self._timer = loop.call_at(self._began + self._patience_s, self._start_another)

    def _taken(self, most: int) -> list[tuple[Item, asyncio.Future[Result]]]:
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    async def _flush(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            if self._ready is not None:
                await self._ready()
                batch += self._taken(self._size - len(batch))
            results = await self._run([item for item, _ in batch])
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
            if not isinstance(error, Exception):
                raise
        else:
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # its caller went away
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        finally:
            self._running -= 1
            if self._waiting:
                self._start()
