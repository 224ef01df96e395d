"""The waitlist: a time that becomes free is offered to one who waits for it, then to the next.

An offer is a hold like any other: as long as it lasts nobody else has the time, and nobody else is offered it. Who does
not take it, or declines, waits on, and is not offered that time again. Nothing is offered too late for anybody to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError
from fhir_server.repository.changes import Change, FailedChangeError
from fhir_server.repository.repository import Committed
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.asking import Asking
from resources.scheduling.availability import codes_of
from resources.scheduling.booking import free_at, written
from resources.scheduling.calendars import Calendar
from resources.scheduling.extensions import HELD_UNTIL, OFFERED, extensions, value_of, with_extension
from resources.scheduling.offers import Wanted
from resources.scheduling.schedules import Timetable, found, participants_of, selves, timetables_of

Json = dict[str, Any]

#: Of those who wait for one person.
MOST_WAITING = 2000

BY = "waitlist"


async def offer_freed(context: Context, actors: Sequence[str], start: datetime, end: datetime) -> str | None:
    """Offer a time to the first of those who wait for somebody; the id of the Appointment, or None for nobody."""
    store = context.repository.store.unguarded
    known, _ = await selves(store, actors)
    names = sorted({name for one in known.values() for name in one if not name.startswith("Patient/")})
    waiting = await found(store, "Appointment", {"x.status": "=waitlist", "x.actor": {"$in": names}}, MOST_WAITING)
    for appointment in ranked(waiting, start):
        tables = await timetables_of(store, await schedules_for(context, appointment))
        if tables and await offered(context, appointment, tables, start, end):
            return str(appointment["id"])
    return None


def ranked(waiting: Sequence[Json], start: datetime) -> list[Json]:
    """Those who could take a time, in the order in which it is offered: the urgent first, then who has waited longest.

    Of those alike in that, who asked for that type of visit, and whose wish begins earliest.
    """
    able = [one for one in waiting if wished(one, start) and not offered_before(one, start)]
    return sorted(able, key=rank)


def rank(appointment: Json) -> tuple[int, str, bool, str, str]:
    # As in iCalendar, 1 is the most urgent, and 0 says nothing.
    priority = int(appointment.get("priority") or 10)
    since = str(appointment.get("created") or appointment.get("meta", {}).get("lastUpdated", ""))
    wishes = [str(period.get("start", "")) for period in appointment.get("requestedPeriod", ())]
    return priority, since, "serviceType" not in appointment, min(wishes, default=""), str(appointment["id"])


def wished(appointment: Json, start: datetime) -> bool:
    """Whether a time lies in one of the periods in which somebody wants to come; any does where none is said."""
    periods = appointment.get("requestedPeriod", ())
    return not periods or any(
        ("start" not in period or moment.parsed(period["start"], "Appointment.requestedPeriod") <= start)
        and ("end" not in period or moment.parsed(period["end"], "Appointment.requestedPeriod") >= start)
        for period in periods
    )


def offered_before(appointment: Json, start: datetime) -> bool:
    given = (value_of(one) for one in extensions(appointment, OFFERED))
    return any(moment.parsed(one, "Appointment.extension") == start for one in given)


async def schedules_for(context: Context, appointment: Json) -> list[Json]:
    """The Schedules of those whom somebody waits for."""
    store = context.repository.store.unguarded
    actors = [actor for actor in participants_of(appointment) if not actor.startswith("Patient/")]
    known, _ = await selves(store, actors)
    names = sorted({name for one in known.values() for name in one})
    return await found(store, "Schedule", {"x.actor": {"$in": names}, "x.active": {"$ne": "=false"}}) if names else []


async def offered(context: Context, waiting: Json, tables: Sequence[Timetable], start: datetime, end: datetime) -> bool:
    """Hold a time for somebody; False where it does not suit them, or is not free any more."""
    now = moment.now()
    rules = [table.rule for table in tables if table.rule is not None]
    notice = timedelta(minutes=max((rule.waitlist_notice for rule in rules), default=120))
    lasts = timedelta(minutes=min((rule.waitlist_offer for rule in rules), default=60))
    until = min(now + lasts, start - notice)
    if until <= now:
        return False
    codes = tuple(code for one in waiting.get("serviceType", ()) for code in sorted(codes_of(one), reverse=True))
    asking = Asking(Wanted(tuple(table.id for table in tables), codes, start), {}, tuple(tables))
    repository, name = context.repository, str(waiting["id"])

    async def work(unit: Unit) -> list[Committed]:
        version = await context.within(unit).repository.read("Appointment", name)
        current = codec.decode(version.body or b"")
        if current.get("status") != "waitlist":
            return []
        free, own = await free_at(unit, asking, strict=True)
        if free.end > end:
            return []  # a longer visit than the time that has become free
        resource = held_for(name, current, asking, own, free, until)
        change = Change("PUT", "Appointment", name, resource, if_match=version.version, by=BY)
        return await repository.commit_within(unit, [repository.check(change)])

    try:
        return bool(await repository.store.transact(work))
    except FailedChangeError as failed:
        raise failed.cause from failed
    except ConflictError:
        return False  # somebody was faster


def held_for(name: str, current: Json, asking: Asking, own: Sequence[Calendar], free: Any, until: datetime) -> Json:
    """The Appointment of somebody who waits, holding a time for them."""
    made = written(name, Asking(asking.wanted, current, asking.tables), own, free, ())
    marks = [
        {"url": HELD_UNTIL, "valueInstant": moment.text_of(until)},
        {"url": OFFERED, "valueInstant": made["start"]},
    ]
    return {**with_extension(made, *marks), "status": "pending"}
