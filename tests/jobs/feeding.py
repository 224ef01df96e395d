"""What tests of the change feed share: processes that follow it, and those who listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fhir_server.jobs.feed import Feed
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.model.clock import now_us
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]
PATIENTS = frozenset({"Patient"})

#: The oplog of a test is too young to have lost something: of this position it is said that it has.
LONG_AGO = [1, 1, ""]


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.changes: list[Changed] = []

    async def __call__(self, changes: Sequence[Changed]) -> None:
        self.changes += changes

    @property
    def names(self) -> list[str]:
        return [name_of(changed) for changed in self.changes]

    @property
    def firsts(self) -> list[str]:
        """The names, each once: what is told at least once may be told again."""
        return list(dict.fromkeys(self.names))


def name_of(changed: Changed) -> str:
    return f"{changed.type}/{changed.id}/{changed.version}"


@asynccontextmanager
async def process(store: Store, *followers: Follower, **options: Any) -> AsyncIterator[Feed]:
    """What one server process does with the feed, until it is stopped in good order."""
    feed = feed_of(store, *followers, **options)
    await feed.open()
    try:
        yield feed
    finally:
        await feed.close()


def feed_of(store: Store, *followers: Follower, **options: Any) -> Feed:
    feed = Feed(store, **{"lease_s": 0.9, "pause_s": 0.01, **options})
    for follower in followers:
        feed.register(follower)
    return feed


async def written(store: Store, name: str, body: bytes | None = b"{}") -> Version:
    """Make the next version of a resource."""
    resource_type, _, resource_id = name.partition("/")
    old = await store.get(resource_type, resource_id)
    number = 1 if old is None else old.version + 1
    version = Version(resource_type, resource_id, number, now_us(), "PUT" if body else "DELETE", body, b"%d" % number)
    await store.write(version, old)
    return version


async def until(holds: Callable[[], Any]) -> None:
    """Wait until a condition holds; the test's own time runs out when it never does."""
    while not await holds():
        await asyncio.sleep(0.02)
