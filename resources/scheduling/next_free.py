"""The next free times of Schedules: what a directory shows beside a name."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.interactions.context import Context
from resources.scheduling import moment
from resources.scheduling.bookable import bookable
from resources.scheduling.calendars import Free
from resources.scheduling.find import LONGEST_SPAN, chosen, offered
from resources.scheduling.schedules import Timetable, timetables


async def next_free(
    context: Context, schedules: Sequence[str], service: Sequence[str] = (), count: int = 3
) -> dict[str, list[Free]]:
    """The next free times of each of some Schedules, by id; none of those that the caller does not see.

    Args:
        schedules: their ids
        service: codes of the type of visit, the best first; empty: whatever is usual
        count: how many of each
    """
    tables = await timetables(context.repository.store, {"_id": {"$in": list(schedules)}})
    sets: list[Sequence[Timetable]] = await bookable(context, [[table] for table in tables])
    now = moment.now()
    times: dict[str, list[Free]] = {one[0].id: [] for one in sets}
    left = set(times)
    offers = offered(context, sets, service, now, now + LONGEST_SPAN, now=now)
    async for offer in chosen(offers, None, None):
        name = offer.calendars[0].table.id
        if name in left:
            times[name].append(offer.free)
            if len(times[name]) == count:
                left.discard(name)
        if not left:
            break
    return times
