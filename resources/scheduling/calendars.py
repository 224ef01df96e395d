"""Calendars: what is left of the time of Schedules, alone and together.

Two commands read a span of any number of Schedules: the rows of their locks, and the Slots that others have written.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhir_server.storage.rows import Row
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.availability import Rule, Service, Span, codes_of, cut, full, merged
from resources.scheduling.extensions import FOLLOWS, TAG_SYSTEM
from resources.scheduling.locks import LOCKS, Taken, row_ids, taken_in
from resources.scheduling.schedules import Timetable, found

Json = dict[str, Any]

#: Slots of others that are read at once.
MOST_SLOTS = 10_000

#: The longest Slot that is looked for before a span.
LONGEST = timedelta(days=1)

_BUSY = frozenset({"busy", "busy-unavailable", "busy-tentative"})


class Free(NamedTuple):
    """A time that can be booked, and the Slots of EHRs that it is."""

    start: datetime
    end: datetime
    slots: tuple[str, ...] = ()


@dataclass(slots=True)
class Calendar:
    """What one Schedule has left within a span.

    Attributes:
        windows: when it is open, in order; unused where Slots tell
        full: when nothing more fits in, in order
        slots: the free Slots of an EHR, in order; None where rules tell
    """

    table: Timetable
    service: Service
    windows: list[Span] = field(default_factory=list)
    full: list[Span] = field(default_factory=list)
    slots: list[Free] | None = None

    @property
    def rule(self) -> Rule | None:
        return self.table.rule if self.slots is None else None

    def candidates(self, start: datetime, end: datetime) -> Iterator[Free]:
        """The times at which a visit can begin here within a span, whatever others have to do with it."""
        if self.slots is not None:
            yield from (slot for slot in self.slots if start <= slot.start < end)
        elif self.table.rule is not None:
            length = timedelta(minutes=self.service.minutes)
            for begin in self.table.rule.starts(start, end, self.service):
                if self.has_room(begin, begin + length):
                    yield Free(begin, begin + length)

    def fit(self, start: datetime, end: datetime) -> tuple[str, ...] | None:
        """Whether a time is free here: the Slot that it is, or nothing for a time by itself; None where it is not."""
        if self.slots is None:
            return () if covers(self.windows, start, end) and self.has_room(start, end) else None
        return next((slot.slots for slot in self.slots if slot.start <= start and slot.end >= end), None)

    def has_room(self, start: datetime, end: datetime) -> bool:
        before, after = timedelta(minutes=self.service.before), timedelta(minutes=self.service.after)
        return not meets(self.full, start - before, end + after)


def covers(spans: Sequence[Span], start: datetime, end: datetime) -> bool:
    """Whether one of some spans, which are in order, holds another."""
    place = bisect_right(spans, start, key=lambda span: span[0]) - 1
    return place >= 0 and spans[place][1] >= end


def meets(spans: Sequence[Span], start: datetime, end: datetime) -> bool:
    """Whether one of some spans, which are in order and apart, has something in common with another."""
    place = bisect_right(spans, start, key=lambda span: span[0]) - 1
    if place >= 0 and spans[place][1] > start:
        return True
    return place + 1 < len(spans) and spans[place + 1][0] < end


async def calendars(
    reads: Store | Unit,
    tables: Sequence[Timetable],
    codes: Sequence[str],
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    but: str = "",
) -> list[Calendar]:
    """The calendars of Schedules that have a type of visit.

    Args:
        codes: of the type of visit that is wanted, the best first; empty: whatever is usual
        but: the id of an Appointment whose times count as free
    """
    offering = [(table, service) for table in tables if (service := service_of(table, codes)) is not None]
    if not offering or end <= start:
        return []
    margin = timedelta(days=1)
    ids = [one for table, _ in offering for one in row_ids(table.id, start - margin, end + margin)]
    names = [table.id for table, _ in offering]
    if isinstance(reads, Unit):  # runs one command after another
        rows, slots = await lock_rows(reads, ids), await slots_of_others(reads, names, start, end)
    else:
        rows, slots = await asyncio.gather(lock_rows(reads, ids), slots_of_others(reads, names, start, end))
    made: list[Calendar] = []
    for table, service in offering:
        taken = [t for row in rows if row["schedule"] == table.id for t in taken_in(row)]
        taken = [t for t in dict.fromkeys(taken) if t.holds(moment.us_of(now)) and t.appointment != but]
        mine = slots.get(table.id, [])
        if not table.own and (mine or table.rule is None or await has_slots(reads, table.id)):
            made.append(calendar_of_slots(table, service, mine, taken, codes))
        elif table.rule is not None:
            away = [span_of(slot) for slot in mine if slot.get("status") in _BUSY]
            windows = table.rule.windows(start - margin, end + margin, service)
            spans = [(moment.datetime_of(t.start_us), moment.datetime_of(t.end_us)) for t in taken]
            closed = merged([*full(spans, table.rule.capacity), *away])
            made.append(Calendar(table, service, list(cut(windows, away)), closed))
    return made


def service_of(table: Timetable, codes: Sequence[str]) -> Service | None:
    """The type of visit that a Schedule has of some that are wanted; None where it has none of them."""
    if table.rule is not None and (table.own or not codes or table.rule.services[0].codes):
        return table.rule.service_of(codes)
    types = table.schedule.get("serviceType", ())
    if not codes or not types:
        return Service(types[0] if types else {})
    return next((Service(one) for code in codes for one in types if code in codes_of(one)), None)


def calendar_of_slots(
    table: Timetable, service: Service, slots: Sequence[Json], taken: Sequence[Taken], codes: Sequence[str]
) -> Calendar:
    """What the free Slots of an EHR leave."""
    by_slot = {t.slot for t in taken}
    times = [(moment.datetime_of(t.start_us), moment.datetime_of(t.end_us)) for t in taken if not t.slot]
    closed = merged(times)
    free: list[Free] = []
    for slot in slots:
        types = slot.get("serviceType", ())
        fits = not codes or not types or any(code in codes_of(one) for code in codes for one in types)
        if slot.get("status") == "free" and slot["id"] not in by_slot and fits:
            start, end = span_of(slot)
            if not meets(closed, start, end):
                free.append(Free(start, end, (slot["id"],)))
    return Calendar(table, service, slots=sorted(free))


def span_of(slot: Json) -> Span:
    return moment.parsed(slot["start"], "Slot.start"), moment.parsed(slot["end"], "Slot.end")


async def lock_rows(reads: Store | Unit, ids: Sequence[str]) -> list[Row]:
    wanted = {"_id": {"$in": list(ids)}}
    if isinstance(reads, Unit):
        return await reads.unguarded.rows(LOCKS).find(wanted)
    return await reads.unguarded.rows(LOCKS).all(wanted, limit=0)


async def slots_of_others(
    reads: Store | Unit, schedules: Sequence[str], start: datetime, end: datetime
) -> dict[str, list[Json]]:
    """The Slots that others have written, by Schedule."""
    within = {"$lt": moment.us_of(end), "$gte": moment.us_of(start - LONGEST)}
    by_schedule: dict[str, list[Json]] = {}
    for slot in await found(reads, "Slot", {**theirs(schedules), "x.start.s": within}, MOST_SLOTS):
        by_schedule.setdefault(slot["schedule"]["reference"].rpartition("/")[2], []).append(slot)
    return by_schedule


def theirs(schedules: Sequence[str]) -> Json:
    return {
        "x.schedule": {"$in": [f"Schedule/{one}" for one in schedules]},
        "x._tag": {"$ne": f"{TAG_SYSTEM}|{FOLLOWS}"},
        "x.status": {"$ne": "=entered-in-error"},
    }


async def has_slots(reads: Store | Unit, schedule: str) -> bool:
    return bool(await found(reads, "Slot", theirs([schedule]), 1))


def together(calendars: Sequence[Calendar], start: datetime, end: datetime, now: datetime) -> Iterator[Free]:
    """The times, in order, at which several Schedules are free at once; the first says how long a visit is."""
    first, *others = calendars
    for calendar in calendars:
        if calendar.rule is not None:
            soonest, latest = calendar.rule.span_bookable(now)
            start, end = max(start, soonest), min(end, latest)
    start = max(start, now)
    for free in first.candidates(start, end):
        slots = free.slots
        for other in others:
            fit = other.fit(free.start, free.end)
            if fit is None:
                break
            slots += fit
        else:
            yield Free(free.start, free.end, slots)
