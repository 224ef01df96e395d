"""What happens for one person, as a stream: first what was missed, then what comes, until the token ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from fhir_server.model.access import Identity
from fhir_server.storage.store import Store
from integrations.realtime.hub import Hub
from resources.notification.events import Event, after, heads_of

#: After so long without news a sign of life is sent.
BEAT_S = 15.0

#: How often is looked whether the token still stands.
CHECK_S = 1.0

PORTION = 100


@dataclass(frozen=True, slots=True)
class Signal:
    """What a stream sends.

    Attributes:
        name: `hello` (the number at which it begins), `event`, `reset` (what is missing is no longer known: fetch
            everything), `beat`, `end` (the token no longer stands)
        number: the client may go on behind it
    """

    name: str
    number: int
    event: Event | None = None


async def signals(
    hub: Hub,
    store: Store,
    person: str,
    identity: Identity,
    last: int | None,
    stands: Callable[[Identity], bool],
) -> AsyncIterator[Signal]:
    """The stream of a person.

    Args:
        last: the number of the last event that the client has; None: it begins with what happens from now on
        stands: whether the token that opened the stream is still good
    """
    async with hub.connected(person) as woken:
        head = (await heads_of(store, [person])).get(person, 0)
        reached = head if last is None or last > head else last
        yield Signal("hello" if last is None or last <= head else "reset", reached)
        beat_at = time.monotonic() + BEAT_S
        while True:
            if not stands(identity):
                yield Signal("end", reached)
                return
            woken.clear()
            portion = await after(store, person, reached, PORTION)
            if portion and portion[0].number != reached + 1:
                yield Signal("reset", portion[0].number - 1)
            for event in portion:
                reached = event.number
                if covers(identity, event.focus):
                    yield Signal("event", reached, event)
            if portion:
                beat_at = time.monotonic() + BEAT_S
                continue
            if time.monotonic() >= beat_at:
                yield Signal("beat", reached)
                beat_at = time.monotonic() + BEAT_S
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), CHECK_S)


def covers(identity: Identity, focus: str) -> bool:
    """Whether the scopes of a token let its app read resources of the type that an event is about."""
    if identity.role == "operator" and not identity.scopes:
        return True
    kind = focus.partition("/")[0]
    return any(scope.type in ("*", kind) and "r" in scope.verbs for scope in identity.scopes)
