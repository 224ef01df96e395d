"""How tasks end that go on until they are cancelled.

One cancellation is not always enough. The driver waits for a server with `asyncio.wait_for`, and that of Python 3.11
loses a cancellation that comes in the moment in which what it waits for is there: it returns, and the task goes on as
if nothing had been asked. With the database gone all tasks wait for the same thing, and the one that cancels the others
is woken together with them, so that moment is met often: the task that looked for search parameters was seen to go on
looking, with `cancelling()` at 1, while the end of the server waited for it.

See https://github.com/python/cpython/issues/86296 (mended in Python 3.12)
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

#: For a task that was cancelled to put away what it has; then it is cancelled again.
AGAIN_S: Final = 2.0


async def ended(tasks: Iterable[asyncio.Task[Any]], *, again_s: float = AGAIN_S) -> None:
    """Cancel tasks, as often as it takes, and return when all have ended; how they ended is nobody's concern."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=again_s)
        for task in done:
            if not task.cancelled():
                task.exception()  # asked for, so that nobody complains that it never was
