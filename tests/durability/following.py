"""A process that follows the feed and does what timers are for, and writes down what it is told: it is to be killed.

`python following.py URI DATABASE FILE`: each line of the file is a moment and what it was told then. It outlives the
process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence

from fhir_server.jobs.feed import Feed
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.timers import Timer, Timers
from fhir_server.storage.database import connect
from fhir_server.storage.store import Store

LEASE_S = 1.0
PARTS = 2
KIND = "ring"


async def follow(uri: str, database: str, path: str) -> None:
    store = Store(connect(uri), database, lambda _: (), max_time_ms=10_000)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(line: str) -> None:
        os.write(file, f"{time.monotonic_ns()} {line}\n".encode())  # one clock for all processes of a machine

    async def changed(changes: Sequence[Changed]) -> None:
        for change in changes:
            tell(f"{change.type}/{change.id}/{change.version}")
            await asyncio.sleep(0)

    async def rung(timer: Timer) -> None:
        tell(f"timer/{timer.key}/1")

    feed = Feed(store, lease_s=LEASE_S)
    feed.register(Follower("killed", frozenset({"Observation"}), changed, parts=PARTS))
    timers = Timers(store.rows, lease_s=LEASE_S)
    timers.register(KIND, rung)
    await feed.open()
    await timers.open()
    tell("open/0/0")
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(follow(*sys.argv[1:4]))
