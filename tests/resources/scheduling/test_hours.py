"""From rules in wall-clock time to moments, on the days when clocks are changed, too."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.errors import UnprocessableError
from resources.scheduling.availability import Exceptional, Hours, Rule, Service, cut, full
from resources.scheduling.local_time import moment_of, span_of, zone_of
from resources.scheduling.rules_of_schedule import rule_of, rule_of_roles
from tests.resources.scheduling.conftest import CONSULTATION, HOUSE_CALL, hours, part, rules, service

BUCHAREST, NEW_YORK, LORD_HOWE = map(ZoneInfo, ("Europe/Bucharest", "America/New_York", "Australia/Lord_Howe"))
ALL_WEEK = frozenset(range(7))

#: For each zone the days on which the clocks go back and forward, and by how many minutes.
CHANGES = [
    (BUCHAREST, date(2026, 10, 25), date(2027, 3, 28), 60),
    (NEW_YORK, date(2026, 11, 1), date(2027, 3, 14), 60),
    (LORD_HOWE, date(2027, 4, 4), date(2026, 10, 4), 30),
]
by_zone = pytest.mark.parametrize(("zone", "fold", "gap", "shift"), CHANGES, ids=["Bucharest", "New_York", "Lord_Howe"])


def rule(zone: ZoneInfo, start: int, end: int, minutes: int = 60, **more: Any) -> Rule:
    return Rule(zone, (Hours(ALL_WEEK, start, end),), (Service(minutes=minutes),), **more)


def starts_on(day: date, one: Rule) -> list[datetime]:
    midnight = datetime(day.year, day.month, day.day, tzinfo=one.zone)
    begin, end = midnight.astimezone(UTC), (midnight + timedelta(days=1)).astimezone(UTC)
    return list(one.starts(begin, end, one.services[0]))


@by_zone
def test_nine_in_the_morning_stays_nine_in_the_morning(zone: ZoneInfo, fold: date, gap: date, shift: int) -> None:
    for changed in (fold, gap):
        for days in (-1, 0, 1):
            found = starts_on(changed + timedelta(days=days), rule(zone, 9 * 60, 17 * 60))
            assert [moment.astimezone(zone).hour for moment in found] == list(range(9, 17))


@by_zone
def test_a_night_is_as_long_as_it_is(zone: ZoneInfo, fold: date, gap: date, shift: int) -> None:
    """From one to five: four hours by the clock, and more or less of them on the days on which it is changed."""
    night = rule(zone, 60, 5 * 60, minutes=30)
    assert len(starts_on(fold, night)) == 8 + shift // 30
    assert len(starts_on(gap, night)) == 8 - shift // 30
    for changed in (fold, gap):
        found = starts_on(changed, night)
        assert all(later - earlier == timedelta(minutes=30) for earlier, later in pairwise(found))
        assert len(set(found)) == len(found)


def test_the_night_of_the_measurement_has_five_hours_and_three() -> None:
    night = rule(BUCHAREST, 60, 5 * 60)
    assert len(starts_on(date(2026, 10, 25), night)) == 5
    assert len(starts_on(date(2027, 3, 28), night)) == 3


@by_zone
def test_what_begins_at_a_time_that_is_never_shown_begins_when_the_clocks_are_changed(
    zone: ZoneInfo, fold: date, gap: date, shift: int
) -> None:
    hour = 3 if zone is BUCHAREST else 2
    never = datetime(gap.year, gap.month, gap.day, hour, shift // 2)
    moment = moment_of(never, zone)
    assert moment == moment_of(never, zone, later=True)
    assert moment.astimezone(zone).utcoffset() != (moment - timedelta(seconds=1)).astimezone(zone).utcoffset()


@by_zone
def test_a_time_that_is_shown_twice_has_two_moments(zone: ZoneInfo, fold: date, gap: date, shift: int) -> None:
    hour, minute = (3, 15) if zone is BUCHAREST else (1, 15) if zone is NEW_YORK else (1, 45)
    twice = datetime(fold.year, fold.month, fold.day, hour, minute)
    assert moment_of(twice, zone, later=True) - moment_of(twice, zone) == timedelta(minutes=shift)


@given(
    zone=st.sampled_from([BUCHAREST, NEW_YORK, LORD_HOWE, ZoneInfo("Pacific/Apia"), ZoneInfo("UTC")]),
    day=st.dates(date(2024, 1, 1), date(2030, 12, 31)),
    start=st.integers(0, 1439),
    length=st.integers(1, 1440),
)
def test_a_window_ends_after_it_begins_and_shows_its_own_times(
    zone: ZoneInfo, day: date, start: int, length: int
) -> None:
    begin, end = span_of(day, start, start + length, zone)
    assert begin <= end
    assert abs((end - begin) - timedelta(minutes=length)) <= timedelta(hours=1)
    shown = begin.astimezone(zone).replace(tzinfo=None)
    wanted = datetime(day.year, day.month, day.day) + timedelta(minutes=start)
    assert shown == wanted or moment_of(wanted, zone) == moment_of(wanted, zone, later=True)


def test_a_shift_over_midnight_is_one_and_belongs_to_the_day_on_which_it_begins() -> None:
    night = Rule(BUCHAREST, (Hours(frozenset({4}), 22 * 60, 2 * 60),), (Service(minutes=60),))
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    found = list(night.starts(friday, friday + timedelta(days=7), night.services[0]))
    assert [m.astimezone(BUCHAREST).strftime("%a %H:%M") for m in found] == [
        "Fri 22:00",
        "Fri 23:00",
        "Sat 00:00",
        "Sat 01:00",
    ]


def test_exceptions_close_days_and_give_others_other_hours() -> None:
    one = rule(
        BUCHAREST,
        9 * 60,
        17 * 60,
        exceptions=(
            Exceptional(date(2026, 12, 24), date(2026, 12, 26)),
            Exceptional(date(2026, 12, 31), date(2026, 12, 31), ((10 * 60, 12 * 60),)),
        ),
    )
    assert [len(starts_on(date(2026, 12, day), one)) for day in (23, 24, 25, 26, 27, 31)] == [8, 0, 0, 0, 8, 2]


def test_the_grid_says_how_far_apart_visits_begin() -> None:
    one = rule(BUCHAREST, 9 * 60, 11 * 60, minutes=45, grid=15)
    found = [m.astimezone(BUCHAREST).strftime("%H:%M") for m in starts_on(date(2026, 12, 1), one)]
    assert found == ["09:00", "09:15", "09:30", "09:45", "10:00", "10:15"]
    late = datetime(2026, 12, 1, 9, 20, tzinfo=BUCHAREST)
    assert next(one.starts(late, late + timedelta(hours=1), one.services[0])) == late.replace(minute=30)


def test_hours_can_be_for_some_visits_alone() -> None:
    schedule = {
        "extension": [
            rules(
                part(
                    "hours", extension=[*hours("09:00", "11:00")["extension"], part("service", valueCode="house-call")]
                ),
                hours("11:00", "12:00"),
                service(CONSULTATION, 30),
                service(HOUSE_CALL, 60),
            )
        ]
    }
    one = rule_of(schedule)
    assert one is not None
    day = date(2026, 12, 1)
    begin, end = span_of(day, 0, 1440, one.zone)
    counts = [len(list(one.starts(begin, end, service_))) for service_ in one.services]
    assert counts == [2, 3]


def test_the_hours_of_a_role_are_rules_and_its_absences_are_cut_out() -> None:
    role = {
        "availableTime": [
            {"daysOfWeek": ["mon", "tue"], "availableStartTime": "08:00:00", "availableEndTime": "12:00:00"},
            {"daysOfWeek": ["sun"], "allDay": True},
        ],
        "notAvailable": [{"during": {"start": "2026-12-01", "end": "2026-12-01"}}],
    }
    one = rule_of_roles([role], BUCHAREST, [])
    assert one is not None
    counts = [len(starts_on(date(2026, 12, day), one)) for day in (1, 2, 6, 7, 8)]
    assert counts == [0, 0, 48, 8, 8]
    with_clock = {
        **role,
        "notAvailable": [{"during": {"start": "2026-12-01T07:00:00Z", "end": "2026-12-01T08:00:00Z"}}],
    }
    one = rule_of_roles([with_clock], BUCHAREST, [])
    assert one is not None
    assert len(starts_on(date(2026, 12, 1), one)) == 2 + 4  # from eight to nine, and from ten to twelve
    assert rule_of_roles([{}], BUCHAREST, []) is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (rules(zone="Europe/Bukarest"), "no time zone"),
        ({**rules(), "extension": []}, "no time zone"),
        (rules(hours("25:00", "26:00")), "no time of day"),
        (rules(hours("09:00", "17:00", "monday")), "no day"),
        (rules(part("service", extension=[part("type", valueCodeableConcept=CONSULTATION)])), "without 'minutes'"),
        (rules(part("service", extension=[part("minutes", valueInteger=5)])), "without 'type'"),
        (rules(capacity=0), "capacity"),
        (rules(part("exception", extension=[part("date", valueDate="soon")])), "no days"),
        (rules(part("openingHours", valueString="x")), "openingHours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_that_cannot_be_understood_are_refused_with_the_reason(given: Any, told: str) -> None:
    with pytest.raises(UnprocessableError, match=told):
        rule_of({"extension": [given]})


moments = st.integers(0, 200).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n))
spans = st.tuples(moments, st.integers(1, 60)).map(lambda s: (s[0], s[0] + timedelta(minutes=s[1])))


@given(taken=st.lists(spans, max_size=12), capacity=st.integers(1, 4))
def test_it_is_full_exactly_when_as_much_goes_on_as_can_be(taken: list[Any], capacity: int) -> None:
    found = full(taken, capacity)
    assert found == sorted(found)
    for minute in range(0, 265):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        depth = sum(start <= moment < end for start, end in taken)
        assert any(start <= moment < end for start, end in found) == (depth >= capacity)


@given(opened=st.lists(spans, max_size=5), away=st.lists(spans, max_size=5))
def test_what_is_cut_out_is_out_and_the_rest_stays(opened: list[Any], away: list[Any]) -> None:
    left = list(cut(opened, away))
    for minute in range(0, 265):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
        wanted = any(s <= moment < e for s, e in opened) and not any(s <= moment < e for s, e in away)
        assert any(s <= moment < e for s, e in left) == wanted


def test_a_zone_is_one_of_the_database() -> None:
    assert zone_of("Europe/Bucharest").key == "Europe/Bucharest"
    with pytest.raises(UnprocessableError, match="no time zone"):
        zone_of("../../etc/passwd")
