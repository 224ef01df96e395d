"""Dates and times of any precision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.fhirpath.temporal import compared, shifted, temporal_of

MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)).map(
    lambda m: m.replace(microsecond=0)
)


def text_of(moment: datetime, offset_min: int = 0) -> str:
    local = moment.replace(tzinfo=None) + timedelta(minutes=offset_min)
    sign = "-" if offset_min < 0 else "+"
    return f"{local.isoformat()}{sign}{abs(offset_min) // 60:02d}:{abs(offset_min) % 60:02d}"


@given(MOMENTS, MOMENTS, st.integers(-12 * 60, 14 * 60), st.integers(-12 * 60, 14 * 60))
def test_moments_compare_as_instants_whatever_their_zones(
    left: datetime, right: datetime, one: int, other: int
) -> None:
    first, second = (
        temporal_of(text_of(left, one), "DateTime"),
        temporal_of(text_of(right, other), "DateTime"),
    )
    assert first is not None
    assert second is not None
    assert compared(first, second) == (left > right) - (left < right)


@given(MOMENTS, st.integers(-(10**6), 10**6))
def test_moving_there_and_back_by_seconds_arrives_where_it_began(moment: datetime, seconds: int) -> None:
    start = temporal_of(text_of(moment), "DateTime")
    assert start is not None
    there = shifted(start, Decimal(seconds), "second")
    assert there is not None
    assert shifted(there, Decimal(-seconds), "second") == start
    assert there.text == text_of(moment + timedelta(seconds=seconds)).replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("left", "right", "system", "order"),
    [
        ("2018", "2018-03", "Date", None),
        ("2018", "2019-03", "Date", -1),
        ("2018-03-01T10:30:00", "2018-03-01T10:30:00.000", "DateTime", 0),
        ("2018-03-01T10:30", "2018-03-01T10:30:00", "DateTime", None),
        ("2018-03-01T10:30:00Z", "2018-03-01T10:30:00", "DateTime", None),
        ("2018-03-01T10:30:00Z", "2018-03-03T10:30:00", "DateTime", -1),
        ("12:00", "14:00:00", "Time", -1),
    ],
)
def test_an_order_is_known_only_as_far_as_precision_and_zone_tell(
    left: str, right: str, system: str, order: int | None
) -> None:
    first, second = temporal_of(left, system), temporal_of(right, system)
    assert first is not None
    assert second is not None
    assert compared(first, second) == order


@pytest.mark.parametrize(
    ("text", "amount", "unit", "expected"),
    [
        ("2024-01-31", "1", "month", "2024-02-29"),
        ("2023-12-31", "2", "month", "2024-02-29"),
        ("2024-02-29", "1", "year", "2025-02-28"),
        ("2024-02-29", "25", "hour", "2024-03-01"),
        ("2024-02-29", "23", "hour", "2024-02-29"),
        ("2014", "24", "month", "2016"),
        ("2014", "23", "month", "2015"),
        ("2014-05", "61", "day", "2014-07"),
        ("2014-03", "-1", "month", "2014-02"),
        ("2014-01-01T10:00:00.5Z", "600", "millisecond", "2014-01-01T10:00:01.1Z"),
        ("2014-01-01T10:00:00Z", "-0.25", "second", "2014-01-01T09:59:59.75Z"),
        ("9999-12-31", "1", "day", None),
        ("2014-01-01", "1E30", "year", None),
    ],
)
def test_a_moment_moves_by_the_calendar(text: str, amount: str, unit: str, expected: str | None) -> None:
    moment = temporal_of(text, "DateTime")
    assert moment is not None
    moved = shifted(moment, Decimal(amount), unit)
    assert (None if moved is None else moved.text) == expected


def test_a_time_goes_round_at_midnight() -> None:
    late = temporal_of("23:30", "Time")
    assert late is not None
    moved = shifted(late, Decimal(45), "minute")
    assert moved is not None
    assert moved.text == "00:15"


@pytest.mark.parametrize("text", ["2018-13", "2018-02-30", "18", "2018-1-1", "2018-01-01T25:00", "x", ""])
def test_what_is_no_date_is_none(text: str) -> None:
    assert temporal_of(text, "DateTime") is None
