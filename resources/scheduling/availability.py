"""When a Schedule has time: its rules, and what they leave open on the days of some span.

Rules are wall-clock times in a zone; which moments these are is told for each day by itself (`local_time`). Nothing is
made in advance: a change of the rules holds from the next question on.

Spec: https://hl7.org/fhir/R4/schedule.html, https://hl7.org/fhir/R4/practitionerrole.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from resources.scheduling.local_time import span_of

Json = dict[str, Any]

#: A half-open span of moments.
Span = tuple[datetime, datetime]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Hours:
    """Open hours of some days of the week.

    Attributes:
        days: of the week, Monday is 0
        start, end: minutes since midnight; an end at or before the start is one of the day after
        services: codes of the visit types that these hours are for; empty for all
    """

    days: frozenset[int]
    start: int
    end: int
    services: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Exceptional:
    """Days on which other hours hold, or none.

    Attributes:
        first, last: the days, both included
        hours: `(start, end)` in minutes since midnight; empty where it is closed
    """

    first: date
    last: date
    hours: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A type of visit.

    Attributes:
        type: the CodeableConcept; empty where the Schedule tells none
        minutes: how long a visit is
        before, after: minutes that are kept free around it
        confirmed: whether somebody of the staff has to confirm what a patient books
    """

    type: Json = field(default_factory=dict)
    minutes: int = 30
    before: int = 0
    after: int = 0
    confirmed: bool = False

    @property
    def codes(self) -> frozenset[str]:
        return codes_of(self.type)


def codes_of(concept: Json) -> frozenset[str]:
    """The codes of a CodeableConcept as tokens: `system|code`, and each code alone."""
    found: set[str] = set()
    for coding in concept.get("coding", ()):
        if "code" in coding:
            found |= {coding["code"], f"{coding.get('system', '')}|{coding['code']}"}
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Rule:
    """The rules of a Schedule.

    Attributes:
        zone: whose wall clocks the hours are of
        services: the types of visit, at least one; the first is meant where none is asked for
        grid: minutes from one possible start to the next; 0: the length of the visit
        capacity: how many visits there can be at once
        notice: minutes that a visit must be ahead when it is booked
        horizon: days that one can be ahead
        hold: minutes that a hold lasts
        answer: hours that there are to answer a request or an offer
        waitlist_notice: minutes that a freed time must be ahead to be offered to the waitlist
        waitlist_offer: minutes that somebody on the waitlist has to take a freed time
        reminders: minutes before a visit at which those who come are reminded
        video: begins the links of video visits; empty where there are none
        change_notice: minutes before a visit until which patients cancel and move it themselves
        away: moments at which nobody is there
    """

    zone: ZoneInfo
    hours: tuple[Hours, ...]
    services: tuple[Service, ...]
    exceptions: tuple[Exceptional, ...] = ()
    grid: int = 0
    capacity: int = 1
    notice: int = 0
    horizon: int = 180
    hold: int = 10
    answer: int = 72
    waitlist_notice: int = 120
    waitlist_offer: int = 60
    change_notice: int = 0
    reminders: tuple[int, ...] = (24 * 60, 2 * 60)
    video: str = ""
    away: tuple[Span, ...] = ()

    def service_of(self, codes: Sequence[str]) -> Service | None:
        """The first type of visit that one of some codes names; the first of all where none is given."""
        if not codes:
            return self.services[0]
        return next((s for code in codes for s in self.services if code in s.codes), None)

    def span_bookable(self, now: datetime) -> Span:
        """When a visit can begin that is booked now."""
        return now + timedelta(minutes=self.notice), now + timedelta(days=self.horizon)

    def windows(self, start: datetime, end: datetime, service: Service) -> list[Span]:
        """What is open within a span, in order; what touches is one."""
        found: list[Span] = []
        day, last = start.astimezone(self.zone).date() - timedelta(days=1), end.astimezone(self.zone).date()
        while day <= last:
            for opens, closes in self._hours_of(day, service):
                first, then = span_of(day, opens, closes if closes > opens else closes + 24 * 60, self.zone)
                if then > start and first < end:
                    found.append((first, then))
            day += timedelta(days=1)
        return list(cut(merged(found), self.away))

    def _hours_of(self, day: date, service: Service) -> Iterator[tuple[int, int]]:
        exceptional = [one for one in self.exceptions if one.first <= day <= one.last]
        if exceptional:
            for one in exceptional:
                yield from one.hours
            return
        for hours in self.hours:
            if day.weekday() in hours.days and (not hours.services or hours.services & service.codes):
                yield hours.start, hours.end

    def starts(self, start: datetime, end: datetime, service: Service) -> Iterator[datetime]:
        """The moments within a span at which a visit can begin, as far as the hours tell."""
        step, length = timedelta(minutes=self.grid or service.minutes), timedelta(minutes=service.minutes)
        for opens, closes in self.windows(start, end, service):
            moment = opens
            if start > opens:
                moment += -(-(start - opens) // step) * step
            while moment + length <= closes and moment < end:
                yield moment
                moment += step


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, of which none touches another."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def cut(spans: Sequence[Span], away: Sequence[Span]) -> Iterator[Span]:
    """What some spans leave of others."""
    for start, end in spans:
        left = start
        for gone, back in merged(away):
            if gone < end and back > left:
                if gone > left:
                    yield left, gone
                left = max(left, back)
        if left < end:
            yield left, end


def full(taken: Sequence[Span], capacity: int) -> list[Span]:
    """When as many things go on as there can be, in order; nothing more fits in there."""
    edges = sorted([(start, 1) for start, _ in taken] + [(end, -1) for _, end in taken])
    found: list[Span] = []
    depth, since = 0, datetime.min.replace(tzinfo=UTC)
    for moment, step in edges:
        if depth < capacity <= depth + step:
            since = moment
        elif depth + step < capacity <= depth and moment > since:
            found.append((since, moment))
        depth += step
    return merged(found)
