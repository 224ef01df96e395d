"""What goes on beside requests: jobs, the change feed and timers, put together, opened and closed as one.

Whoever wants to follow changes, or to have something done at a moment, is registered here, before anything is opened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from fhir_server.interactions.background import WORKS
from fhir_server.interactions.context import Context
from fhir_server.interactions.terms import building
from fhir_server.jobs.aside import SetAside, handled_again, set_aside
from fhir_server.jobs.feed import Feed
from fhir_server.jobs.jobs import Jobs
from fhir_server.jobs.timers import Timers
from fhir_server.model.clock import now_us
from fhir_server.settings import Settings
from fhir_server.storage.database import connect
from fhir_server.storage.store import Store

#: For what goes on beside requests when the server stops.
STOPPING_S = 12.0


class Background:
    """Work that no request waits for.

    Args:
        now: the moment by which timers are due, in microseconds since 1970 UTC
    """

    def __init__(self, settings: Settings, store: Store, now: Callable[[], int] = now_us) -> None:
        self.jobs = Jobs(store.rows, lease_s=settings.job_lease_s, kept_days=settings.job_days)
        self.feed = Feed(store, lease_s=settings.job_lease_s)
        self.timers = Timers(store.rows, now=now, lease_s=settings.job_lease_s)

    def register(self, context: Context) -> None:
        """Say what is done, with the server as it is without a caller."""
        for kind, work in WORKS.items():
            self.jobs.register(kind, partial(work, context))
        self.feed.register(building.follower(context))

    async def open(self) -> None:
        await self.jobs.open()
        await self.timers.open()
        await self.feed.open()

    async def close(self) -> None:
        # At once: where the database is gone, each of them waits for it in vain before it gives up.
        with suppress(TimeoutError):
            async with asyncio.timeout(STOPPING_S):
                await asyncio.gather(self.feed.close(), self.timers.close(), self.jobs.close())

    async def set_aside(self, name: str | None = None, limit: int = 100) -> list[SetAside]:
        """The changes and timers that could not be handled, of all or of one name; what failed last first."""
        return await set_aside(self.feed, self.timers, name, limit)

    async def handle_again(self, name: str | None = None) -> tuple[int, int]:
        """Have them handled again, by the processes that run: how many changes, and how many timers."""
        return await handled_again(self.feed, self.timers, name)


@asynccontextmanager
async def apart(settings: Settings) -> AsyncIterator[Background]:
    """The background of servers that run elsewhere: to see how far it is, and to ask for something; it does nothing."""
    assert settings.mongodb_uri is not None, "`reached_database` has put the address of a MongoDB into the settings"
    client = connect(settings.mongodb_uri.get_secret_value())
    try:
        yield Background(
            settings, Store(client, settings.mongodb_database, lambda _: (), max_time_ms=settings.query_time_ms)
        )
    finally:
        await client.close()
