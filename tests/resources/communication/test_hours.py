"""The clock of business hours: nights, weekends, holidays, and days with an hour more or less."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.ticket.hours import Hours, hours_of
from resources.ticket.words import HOURS

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = Hours(zone=BERLIN, holidays=frozenset({date(2026, 5, 1)}))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("start", "priority", "due"),
    [
        ("2026-06-01T09:00", "asap", "2026-06-01T10:00"),
        ("2026-06-01T16:30", "asap", "2026-06-02T09:30"),
        ("2026-06-05T16:30", "asap", "2026-06-08T09:30"),  # over the weekend
        ("2026-06-06T12:00", "asap", "2026-06-08T10:00"),
        ("2026-04-30T16:30", "asap", "2026-05-04T09:30"),  # the holiday and the weekend
        ("2026-06-01T09:00", "routine", "2026-06-02T17:00"),
        ("2026-03-27T16:00", "urgent", "2026-03-30T12:00"),  # the clocks go forward in between
        ("2026-06-06T03:00", "stat", "2026-06-06T03:15"),  # waits for nobody's hours
    ],
)
def test_time_goes_during_business_hours_alone(start: str, priority: str, due: str) -> None:
    assert WEEK.due(moment(start), priority) == moment(due)


@given(st.integers(0, 60 * 24 * 400), st.sampled_from(["routine", "urgent", "asap"]))
def test_whoever_asks_later_is_not_due_earlier(minutes: int, priority: str) -> None:
    start = moment("2026-01-01T00:00") + timedelta(minutes=minutes)
    due = WEEK.due(start, priority)
    assert due >= start + timedelta(minutes=dict(WEEK.minutes)[priority])
    assert WEEK.due(start + timedelta(minutes=1), priority) >= due
    local = due.astimezone(BERLIN)
    assert local.weekday() < 5
    assert time(9) <= local.time() <= time(17)


def test_a_pool_that_is_never_open_has_a_due_time_all_the_same() -> None:
    start = moment("2026-01-01T00:00")
    assert Hours(open=((),) * 7).due(start, "routine") == start + timedelta(days=366)


def test_the_hours_of_a_care_team_are_read() -> None:
    rows = [
        {"url": "zone", "valueCode": "Europe/Berlin"},
        {
            "url": "open",
            "extension": [
                {"url": "day", "valueCode": "sat"},
                {"url": "start", "valueTime": "10:00:00"},
                {"url": "end", "valueTime": "12:00:00"},
            ],
        },
        {"url": "holiday", "valueDate": "2026-06-06"},
        {
            "url": "minutes",
            "extension": [{"url": "priority", "valueCode": "routine"}, {"url": "value", "valueInteger": 60}],
        },
    ]
    hours = hours_of({"extension": [{"url": HOURS, "extension": rows}]})
    assert hours.due(moment("2026-06-01T00:00"), "routine") == moment("2026-06-13T11:00")
    assert hours_of({}) == Hours()
