"""Telling somebody something: into their log of events, and, by a timer, to the ways that they have chosen.

What is told inside a transaction is told if that is committed, and only then. The same key is told once.

Rows: `_events` has what happened for a person, numbered without gaps in the order in which it was told;
`_event_heads` the last number of each; `_notifications` what goes out, and what came of it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from weakref import WeakSet

from fhir_server.interactions.context import Context
from fhir_server.model.clock import instant_of, now_us
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit

EVENTS = "_events"
HEADS = "_event_heads"
NOTIFICATIONS = "_notifications"

#: The kind of the timers that deliver.
TIMER = "notify"

#: For so long events can be asked for again, and deliveries be looked at.
KEPT = timedelta(days=30)


def name_of(person: str, kind: str, key: str) -> str:
    return hashlib.sha256(f"{person}\n{kind}\n{key}".encode()).hexdigest()[:40]


async def notify(context: Context, person: str, kind: str, focus: str, *, key: str) -> None:
    """Tell somebody that there is something to look at.

    Args:
        person: a Patient, Practitioner or RelatedPerson
        kind: what kind of thing, which preferences name: `message`, `appointment-booked` …
        focus: where to look
        key: names the occasion: what is told again under the same key is told once
    """

    async def work(unit: Unit) -> None:
        await notify_within(context, unit, person, kind, focus, key=key)

    await context.repository.store.unguarded.transact(work)


async def notify_within(
    context: Context, unit: Unit, person: str, kind: str, focus: str, *, key: str, calendar: bytes = b""
) -> None:
    """The same if a transaction is committed; with an iCalendar message for who wants such."""
    if await ping_within(unit, person, kind, focus, key=key):
        await write_within(context, unit, person, kind, focus, key=key, calendar=calendar)


async def write_within(
    context: Context, unit: Unit, person: str, kind: str, focus: str, *, key: str, calendar: bytes = b""
) -> None:
    """Tell somebody outside of this server alone: what they see here they know already."""
    name = name_of(person, kind, key)
    if await unit.unguarded.rows(NOTIFICATIONS).get(name) is not None:
        return
    row = {"person": person, "kind": kind, "focus": focus, "at": now_us(), "ways": {}, "until": _until()}
    row |= {"calendar": calendar} if calendar else {}
    await unit.unguarded.rows(NOTIFICATIONS).put(name, row)
    await context.timers.set_within(unit, TIMER, name, context.timers.now(), {})


async def ping(context: Context, person: str, kind: str, focus: str, *, key: str) -> None:
    """Tell somebody who is looking already: into the log of events alone."""

    async def work(unit: Unit) -> None:
        await ping_within(unit, person, kind, focus, key=key)

    await context.repository.store.unguarded.transact(work)


async def ping_within(unit: Unit, person: str, kind: str, focus: str, *, key: str) -> bool:
    """Append to somebody's log of events; False where this was told before."""
    events, heads = unit.unguarded.rows(EVENTS), unit.unguarded.rows(HEADS)
    name = name_of(person, kind, key)
    if await events.get(name) is not None:
        return False
    head = await heads.get(person)
    number = (head["n"] if head else 0) + 1
    await heads.put(person, {"n": number})  # two at once conflict here, and the later one starts again
    row = {"_id": name, "person": person, "n": number, "kind": kind, "focus": focus}
    await events.add([{**row, "at": instant_of(now_us()), "until": _until()}])
    return True


_prepared: WeakSet[Store] = WeakSet()


async def prepare(store: Store) -> None:
    """Have the indexes that the log of events needs, once in a process."""
    if store in _prepared:
        return
    await store.rows(EVENTS).index("person", "n")
    await store.rows(EVENTS).forget_after("until")
    await store.rows(NOTIFICATIONS).index("person", "at")
    await store.rows(NOTIFICATIONS).forget_after("until")
    _prepared.add(store)


def _until() -> datetime:
    return datetime.now(UTC) + KEPT
