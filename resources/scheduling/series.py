"""`Appointment/$book-series`: the same visit at the same time of the wall clock on several days.

The rule is that of calendars (RRULE). It is expanded in local time, and each day's moment is found by itself: every
Tuesday at nine is at nine, in summer and in winter.

Spec: RFC 5545 section 3.3.10
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dateutil.rrule import rrulestr

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.bundle import searchset
from fhir_server.interactions.context import Context
from fhir_server.model.clock import new_id
from fhir_server.model.errors import FhirError, InvalidError, Issue
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Committed
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.asking import Asking, asked_of
from resources.scheduling.booking import as_booked, free_at, transacted, written
from resources.scheduling.extensions import SERIES, with_extension
from resources.scheduling.local_time import moment_of, zone_of
from resources.scheduling.parties import Party

Json = dict[str, Any]

#: Visits of one series.
MOST = 60

PLACE = "Parameters.parameter.where(name='rrule')"


async def book_series(context: Context, request: Request) -> Answer:
    """Appointment/$book-series: all visits of a series, or those that are possible and a list of the others.

    Raises:
        TakenError: 409; one of the times is taken, and all were wanted.
        InvalidError: 400; the rule cannot be understood, or names too many times.
    """
    inputs, party, given, patients = await asked_of(context, request, "book-series", "rrule", "failures", "comment")
    asked = expanded(given, str(inputs.required("rrule", inputs.text("rrule"))))
    failures = inputs.choice("failures", ("refuse", "list")) or "refuse"
    series = new_id()
    comment = inputs.text("comment") or ""
    issues: list[Issue] = []
    if failures == "refuse":
        made = await booked(context, asked, party, patients, series, comment)
    else:
        made, issues = await those_possible(context, asked, party, patients, series, comment)
    matches = [(f"{request.base_url}/Appointment/{c.version.id}", c.version.body or b"") for c in made]
    body = searchset(total=len(matches), links=[], matches=matches, issues=issues)
    return Answer(201 if made else 409, body, touched=touched_by(made))


async def those_possible(
    context: Context, asked: Sequence[Asking], party: Party, patients: Sequence[str], series: str, comment: str
) -> tuple[list[Committed], list[Issue]]:
    """Each visit by itself, and what is to be said of those that could not be booked."""
    made: list[Committed] = []
    issues: list[Issue] = []
    for one in asked:
        try:
            made += await booked(context, [one], party, patients, series, comment)
        except FhirError as error:
            start = moment.text_of(one.wanted.start)
            told = f"{start} could not be booked: {error.issues[0].diagnostics}"
            issues.append(Issue(error.code, told, PLACE, "HS-SCHED-SERIES", severity="warning"))
    return made, issues


async def booked(
    context: Context, asked: Sequence[Asking], party: Party, patients: Sequence[str], series: str, comment: str
) -> list[Committed]:
    """All of some visits in one transaction."""
    repository = context.repository
    ids = [new_id() for _ in asked]

    async def work(unit: Unit) -> list[Committed]:
        changes: list[Change] = []
        for appointment_id, one in zip(ids, asked, strict=True):
            free, own = await free_at(unit, one, strict=party.is_patient)
            resource = with_extension(
                written(appointment_id, one, own, free, patients), {"url": SERIES, "valueString": series}
            )
            if comment:
                resource["comment"] = comment
            resource = as_booked(resource, own, party)
            changes.append(Change("POST", "Appointment", appointment_id, resource, fresh=True, by="book"))
        return await repository.commit_within(unit, [repository.check(change) for change in changes])

    wanted = asked[0].wanted
    return await transacted(context, work, asked[0].tables, wanted.codes, wanted.start)


def expanded(asking: Asking, rule: str) -> list[Asking]:
    """The visits that a rule names, the first among them.

    Raises:
        InvalidError: 400.
    """
    first = asking.tables[0].rule
    zone = first.zone if first is not None else zone_of("UTC")
    start = asking.wanted.start
    local = start.astimezone(zone).replace(tzinfo=None)
    text = rule.strip().removeprefix("RRULE:")
    if any(word in text.upper() for word in ("DTSTART", "EXDATE", "RDATE", "\n", "SECONDLY", "MINUTELY", "HOURLY")):
        raise wrong(rule, "has parts that a series of visits has not")
    try:
        found: list[datetime] = []
        for day in rrulestr(text, dtstart=local):
            found.append(day)
            if len(found) > MOST:
                raise wrong(rule, f"names more than {MOST} times; COUNT or UNTIL ends it")
    except (ValueError, TypeError, KeyError) as error:
        raise wrong(rule, f"cannot be understood ({str(error)[:100]})") from None
    if not found:
        raise wrong(rule, "names no time")
    length: timedelta | None = asking.end - start if asking.end is not None else None
    series: list[Asking] = []
    for day in found:
        begin = moment_of(day, zone)
        end = begin + length if length is not None else None
        series.append(replace(asking, wanted=replace(asking.wanted, start=begin), end=end))
    return series


def wrong(rule: str, what: str) -> InvalidError:
    return InvalidError(
        f"The rule {rule[:80]!r} {what}; something like FREQ=WEEKLY;COUNT=6 was expected.",
        code="value",
        expression=PLACE,
        key="HS-SCHED-RRULE",
    )
