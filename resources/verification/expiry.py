"""Licences end: a month before, the doctor is told; at the moment, they are hidden and their application is open again.

A follower of the change feed sets a timer for the next moment at which something changes, for whoever is written by
whomever.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.storage.unit import Unit
from resources.notification.outbox import notify, notify_within
from resources.verification.calling import prepare, tell_accounts
from resources.verification.deciding import expire_within
from resources.verification.licence import is_hidden, is_marked, licence_ends_us, marked, next_change_us
from resources.verification.marks import settle
from resources.verification.process import Application, read_application, written
from resources.verification.words import EXPIRE

TIMER: Final = "licence"

#: So long before it ends the doctor is told.
BEFORE: Final = timedelta(days=30)
_BEFORE_US: Final = BEFORE // timedelta(microseconds=1)


def join(context: Context) -> None:
    """Follow Practitioners and their roles, and do what is due of licences."""
    types = frozenset({"Practitioner", "PractitionerRole"})
    context.feed.register(Follower("verification", types, partial(followed, context), from_start=True))
    context.timers.register(TIMER, partial(due, context))


async def followed(context: Context, changes: Sequence[Changed]) -> None:
    """What was written elsewhere counts as well."""
    for changed in changes:
        if changed.type == "Practitioner":
            await _followed_person(context, changed)
        elif changed.type == "PractitionerRole" and changed.body is not None:
            who = codec.decode(changed.body).get("practitioner", {}).get("reference", "")
            if who.startswith("Practitioner/"):
                await settle(context, who)


async def _followed_person(context: Context, changed: Changed) -> None:
    if changed.body is None:
        await context.timers.cancel(TIMER, changed.id)
        return
    person = codec.decode(changed.body)
    await settle(context, f"Practitioner/{changed.id}")
    now = context.timers.now()
    if (ends := licence_ends_us(person)) is not None and ends <= now and not _ended_here(person):
        await context.timers.set(TIMER, changed.id, now)
    elif (moment := _next(person, now)) is not None:
        await context.timers.set(TIMER, changed.id, moment)


def _ended_here(person: dict[str, object]) -> bool:
    """Whether it was done already what is done when a licence ends."""
    return is_marked(person) and person.get("active") is False


def _next(person: dict[str, object], now_us: int) -> int | None:
    """The next moment at which something is to be done."""
    moment, ends = next_change_us(person, now_us), licence_ends_us(person)
    if ends is not None and now_us < ends - _BEFORE_US:
        return min(ends - _BEFORE_US, moment or ends)
    return moment


async def due(context: Context, timer: Timer) -> int | None:
    """Tell that a licence ends, or that it has ended; when there is something to do again."""
    version = await context.repository.store.get("Practitioner", timer.key)
    if version is None or version.body is None:
        return None
    person, now = codec.decode(version.body), context.timers.now()
    practitioner, ends = f"Practitioner/{timer.key}", licence_ends_us(person)
    if ends is not None and ends <= now:
        await _expired(context, practitioner, ends)
        return None
    if ends is not None and ends - _BEFORE_US <= now:
        await notify(context, practitioner, "licence-ends", practitioner, key=f"{practitioner}/{instant_of(ends)}")
    if is_marked(person) != is_hidden(person, now):  # one begins now

        async def work(unit: Unit) -> None:
            application = await read_application(unit, practitioner)
            application.put(marked(application.practitioner, is_hidden(application.practitioner, now)))
            await written(context, unit, application, EXPIRE)

        await context.repository.store.transact(work)
    return _next(person, now)


async def _expired(context: Context, practitioner: str, ends: int) -> None:
    await prepare(context)

    async def work(unit: Unit) -> Application:
        application = await expire_within(context, unit, practitioner)
        key = f"{practitioner}/{instant_of(ends)}"
        await notify_within(context, unit, practitioner, "licence-ended", practitioner, key=key)
        return application

    await tell_accounts(context, await context.repository.store.transact(work))
