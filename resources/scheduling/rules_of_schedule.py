"""The rules of a Schedule, read from its extension, or from the hours of the PractitionerRole that it is of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.model.dates import interval_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.rules import Write
from resources.scheduling.availability import WEEKDAYS, Exceptional, Hours, Rule, Service, Span
from resources.scheduling.extensions import AVAILABILITY, TIMEZONE, extensions, value, value_of
from resources.scheduling.local_time import DAY_MINUTES, moment_of, zone_of
from resources.scheduling.shapes import shaped

Json = dict[str, Any]

PLACE = f"Schedule.extension('{AVAILABILITY}')"

_TIME = re.compile(r"([01]\d|2[0-4]):([0-5]\d)(?::00)?", re.ASCII)

#: Numbers of a rule: name in the extension, field, least, most.
NUMBERS = (
    ("grid", "grid", 1, DAY_MINUTES),
    ("capacity", "capacity", 1, 1000),
    ("minimumNotice", "notice", 0, 366 * DAY_MINUTES),
    ("bookingHorizon", "horizon", 1, 3660),
    ("holdMinutes", "hold", 1, 7 * DAY_MINUTES),
    ("answerHours", "answer", 1, 24 * 366),
    ("changeNotice", "change_notice", 0, 366 * DAY_MINUTES),
    ("waitlistNotice", "waitlist_notice", 0, 366 * DAY_MINUTES),
    ("waitlistOffer", "waitlist_offer", 1, 7 * DAY_MINUTES),
)
PARTS = frozenset({"zone", "hours", "exception", "service", "reminder", "video", *(name for name, *_ in NUMBERS)})


def rule_of(schedule: Json) -> Rule | None:
    """The rules that a Schedule has itself; None of one that has none.

    Raises:
        UnprocessableError: 422; they cannot be understood.
    """
    found = next(extensions(schedule, AVAILABILITY), None)
    if found is None:
        return None
    for part in found.get("extension", ()):
        if part.get("url") not in PARTS:
            raise wrong(f"has no part {str(part.get('url'))[:60]!r}; it has {', '.join(sorted(PARTS))}")
    zone = value(found, "zone") or value(schedule, TIMEZONE)
    if zone is None:
        raise wrong("says no time zone (part 'zone')")
    services = tuple(service_of(part) for part in extensions(found, "service"))
    types = schedule.get("serviceType", ())
    numbers: dict[str, Any] = {field: number(found, name, least, most) for name, field, least, most in NUMBERS}
    if reminders := [value_of(part) for part in extensions(found, "reminder")]:
        if not all(type(one) is int and 0 < one <= 366 * DAY_MINUTES for one in reminders):
            raise wrong("has a reminder that is no number of minutes before a visit")
        numbers["reminders"] = tuple(reminders)
    if (video := value(found, "video")) is not None:
        if not re.fullmatch(r"https://[^\s#?]{1,500}", str(video), re.ASCII):
            raise wrong("has a video that is no address of https without a query")
        numbers["video"] = str(video)
    return Rule(
        zone_of(str(zone)),
        tuple(hours_of(part) for part in extensions(found, "hours")),
        services or (Service(types[0] if types else {}),),
        tuple(exceptional_of(part) for part in extensions(found, "exception")),
        **{field: value for field, value in numbers.items() if value is not None},
    )


def schedule_rule(write: Write) -> Json | None:
    """Refuses a Schedule whose rules cannot be understood: nobody could book there, and nobody would know why."""
    if (
        write.new is not None
        and shaped(write.new)
        and (write.old is None or write.old.get("extension") != write.new.get("extension"))
    ):
        rule_of(write.new)
    return write.new


def hours_of(part: Json) -> Hours:
    days = [str(value_of(one)) for one in extensions(part, "daysOfWeek")]
    if unknown := [day for day in days if day not in WEEKDAYS]:
        raise wrong(f"names {unknown[0][:20]!r}, which is no day: {', '.join(WEEKDAYS)}")
    start, end = minutes_of(part, "start"), minutes_of(part, "end")
    services = frozenset(str(value_of(one)) for one in extensions(part, "service"))
    return Hours(frozenset(map(WEEKDAYS.index, days)) or frozenset(range(7)), start, end, services)


def exceptional_of(part: Json) -> Exceptional:
    """`date`, or `period` of days; without `start` and `end` it is closed."""
    given = value(part, "period")
    period = given if type(given) is dict else {}
    first = str(value(part, "date") or period.get("start", ""))
    last = str(value(part, "date") or period.get("end", first))
    try:
        days = date.fromisoformat(first[:10]), date.fromisoformat(last[:10])
    except ValueError:
        raise wrong(f"has an exception of {first[:20]!r} to {last[:20]!r}, which are no days") from None
    if days[0] > days[1] or days[1] - days[0] > timedelta(days=3660):
        raise wrong(f"has an exception from {first[:20]} to {last[:20]}, which is no span of at most ten years")
    if value(part, "start") is None and value(part, "end") is None:
        return Exceptional(*days)
    return Exceptional(*days, hours=((minutes_of(part, "start"), minutes_of(part, "end")),))


def service_of(part: Json) -> Service:
    concept = value(part, "type")
    if type(concept) is not dict:
        raise wrong("has a service without 'type', a CodeableConcept")
    minutes = number(part, "minutes", 1, 31 * DAY_MINUTES)
    if minutes is None:
        raise wrong("has a service without 'minutes', its length")
    before, after = number(part, "bufferBefore", 0, DAY_MINUTES), number(part, "bufferAfter", 0, DAY_MINUTES)
    return Service(concept, minutes, before or 0, after or 0, value(part, "confirmation") is True)


def minutes_of(part: Json, name: str) -> int:
    """A time of a wall clock as minutes since midnight; `24:00` is the end of the day."""
    text = str(value(part, name))
    match = _TIME.fullmatch(text)
    minutes = int(match[1]) * 60 + int(match[2]) if match else DAY_MINUTES + 1
    if minutes > DAY_MINUTES:
        raise wrong(f"has the {name} {text[:20]!r}, which is no time of day such as 09:00")
    return minutes


def number(part: Json, name: str, least: int, most: int) -> int | None:
    found = value(part, name)
    if found is None:
        return None
    if type(found) is not int or not least <= found <= most:
        raise wrong(f"has {name} {str(found)[:20]!r}; a whole number from {least} to {most} was expected")
    return found


def wrong(what: str) -> UnprocessableError:
    return UnprocessableError(f"The availability {what}.", expression=PLACE, key="HS-SCHED-RULE")


def rule_of_roles(roles: Sequence[Json], zone: ZoneInfo, types: Sequence[Json]) -> Rule | None:
    """The rules that the hours of PractitionerRoles make; None where these say no hours."""
    hours: list[Hours] = []
    away: list[Span] = []
    for role in roles:
        for available in role.get("availableTime", ()):
            days = frozenset(WEEKDAYS.index(day) for day in available.get("daysOfWeek", WEEKDAYS) if day in WEEKDAYS)
            start, end = available.get("availableStartTime"), available.get("availableEndTime")
            if available.get("allDay") is True:
                hours.append(Hours(days, 0, DAY_MINUTES))
            elif start is not None and end is not None:
                hours.append(Hours(days, clock_of(start), clock_of(end)))
        away += away_of(role, zone)
    if not hours:
        return None
    return Rule(zone, tuple(hours), tuple(map(Service, types)) or (Service(),), away=tuple(away))


def clock_of(text: str) -> int:
    """A `time` of FHIR, which the validation has seen, as minutes since midnight."""
    return int(text[:2]) * 60 + int(text[3:5])


def away_of(role: Json, zone: ZoneInfo) -> Iterator[Span]:
    """The absences of a role; days are those of its zone."""
    for absence in role.get("notAvailable", ()):
        during = absence.get("during", {})
        if "start" in during and "end" in during:
            yield edge_of(during["start"], zone, last=False), edge_of(during["end"], zone, last=True)


def edge_of(text: str, zone: ZoneInfo, *, last: bool) -> datetime:
    """The first moment of a date, or the first behind it."""
    span = interval_of(text)
    if "T" in text:
        return span.start
    local = (span.end if last else span.start).replace(tzinfo=None)
    return moment_of(local, zone)
