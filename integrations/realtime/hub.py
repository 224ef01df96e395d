"""Wakes the connections of this process when something happened for their person.

What there is stands in the log of events; here is only the news that it has grown. One query for all connections of a
process, a few times a second, and none where nobody is connected. Nothing is queued: each connection reads the log from
where it is, at the pace at which its client takes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fhir_server.model.ending import ended
from fhir_server.model.errors import FhirError
from fhir_server.storage.store import Store
from resources.notification.events import heads_of
from resources.notification.outbox import prepare

#: How often is looked whether logs have grown.
EVERY_S = 0.25

MOST_CONNECTIONS = 2_000
MOST_OF_PERSON = 10

_log = logging.getLogger("healthsphere.realtime")


class FullError(Exception):
    """There are as many connections as one process, or one person, may have."""


class Hub:
    """The connections of one process."""

    def __init__(self, store: Store, *, every_s: float = EVERY_S) -> None:
        self._store = store
        self._every_s = every_s
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._looking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def connected(self, person: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when something has happened for a person.

        Raises:
            FullError: there are too many connections.
        """
        mine = self._waiting.setdefault(person, set())
        if len(mine) >= MOST_OF_PERSON or sum(map(len, self._waiting.values())) >= MOST_CONNECTIONS:
            if not mine:
                del self._waiting[person]
            raise FullError
        woken = asyncio.Event()
        mine.add(woken)
        try:
            await prepare(self._store)
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(), name="real time")
            yield woken
        finally:
            mine.discard(woken)
            if not mine and self._waiting.get(person) is mine:
                del self._waiting[person]
            if not self._waiting and self._looking is not None:
                looking, self._looking = self._looking, None
                await ended([looking])

    async def _look(self) -> None:
        known: dict[str, int] = {}
        while True:
            try:
                heads = await heads_of(self._store, sorted(self._waiting))
            except FhirError as error:
                _log.warning("the logs of events could not be looked at: %s", type(error).__name__)
            else:
                for person, number in heads.items():
                    if known.get(person) != number:
                        for woken in self._waiting.get(person, ()):
                            woken.set()
                known = heads
            await asyncio.sleep(self._every_s)
