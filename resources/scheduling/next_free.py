"""The next free times of Schedules: what a directory shows beside a name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from fhir_server.interactions.context import Context
from resources.scheduling import moment
from resources.scheduling.bookable import bookable
from resources.scheduling.calendars import Calendar, Free, calendars, together
from resources.scheduling.find import LONGEST_SPAN
from resources.scheduling.offers import appointment_of, named, offer_id
from resources.scheduling.schedules import Timetable, timetables

Json = dict[str, Any]

#: What is read first; a portion that is not enough is followed by one that is four times as long.
FIRST = timedelta(days=14)


async def next_free(
    context: Context, schedules: Sequence[str], service: Sequence[str] = (), count: int = 3
) -> dict[str, list[Free]]:
    """The next free times of each of some Schedules, by id; none of those that the caller does not see.

    Args:
        schedules: their ids
        service: codes of the type of visit, the best first; empty: whatever is usual
        count: how many of each
    """
    times = await next_times(context, schedules, service, count)
    return {name: [free for _, free in rows] for name, rows in times.items()}


async def next_times(
    context: Context,
    schedules: Sequence[str],
    service: Sequence[str] = (),
    count: int = 3,
    until: datetime | None = None,
) -> dict[str, list[tuple[Calendar, Free]]]:
    """The same, each with the calendar that it is of.

    Args:
        until: what begins later is not looked for
    """
    store = context.repository.store
    tables = await timetables(store, {"_id": {"$in": list(schedules)}})
    sets: list[Sequence[Timetable]] = await bookable(context, [[table] for table in tables])
    now = start = moment.now()
    end, span = min(until or now + LONGEST_SPAN, now + LONGEST_SPAN), FIRST
    times: dict[str, list[tuple[Calendar, Free]]] = {one[0].id: [] for one in sets}
    left = [one[0] for one in sets]
    while left and start < end:
        stop = min(start + span, end)
        for calendar in await calendars(store, left, service, start, stop, now=now):
            rows = times[calendar.table.id]
            free = islice(together([calendar], start, stop, now), count - len(rows))
            rows += [(calendar, one) for one in free]
        left = [table for table in left if len(times[table.id]) < count]
        start, span = stop, span * 4
    return times


async def as_offers(context: Context, times: Sequence[tuple[Calendar, Free]], service: Sequence[str]) -> list[Json]:
    """Free times as proposed Appointments, such as `$find` gives: `$hold` and `$book` take them."""
    found: list[Json] = []
    for calendar, free in times:
        mine = calendar.service.codes
        codes = [next((code for code in service if code in mine), min(mine, default=""))] if mine else []
        name = offer_id(await named(context.repository.store, [calendar.table.id], codes), free.start)
        found.append(appointment_of(name, [calendar], free, "proposed", ()))
    return found
