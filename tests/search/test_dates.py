"""Dates as spans: what a precision names, and that spans order and compare as moments do."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.dates import Interval, interval_of
from fhir_server.model.errors import InvalidError

offsets = st.integers(min_value=-14 * 60, max_value=14 * 60)
moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31))


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def zone_text(minutes: int) -> str:
    sign, minutes = ("-", -minutes) if minutes < 0 else ("+", minutes)
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2018", "2018-01-01T00:00:00+00:00", "2019-01-01T00:00:00+00:00"),
        ("2018-05", "2018-05-01T00:00:00+00:00", "2018-06-01T00:00:00+00:00"),
        ("2018-12", "2018-12-01T00:00:00+00:00", "2019-01-01T00:00:00+00:00"),
        ("2020-02-29", "2020-02-29T00:00:00+00:00", "2020-03-01T00:00:00+00:00"),
        ("2020-02-29T10:30Z", "2020-02-29T10:30:00+00:00", "2020-02-29T10:31:00+00:00"),
        ("2020-02-29T10:30:15+02:00", "2020-02-29T08:30:15+00:00", "2020-02-29T08:30:16+00:00"),
        ("2020-02-29T10:30:15.5-05:30", "2020-02-29T16:00:15.500000+00:00", "2020-02-29T16:00:15.600000+00:00"),
        ("2020-02-29T10:30:15.1234567Z", "2020-02-29T10:30:15.123456+00:00", "2020-02-29T10:30:15.123457+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00", "2017-01-01T00:00:01+00:00"),
        ("2020-02-29T10:30:15", "2020-02-29T10:30:15+00:00", "2020-02-29T10:30:16+00:00"),
    ],
)
def test_a_date_spans_what_its_precision_names(text: str, start: str, end: str) -> None:
    span = interval_of(text)
    assert (span.start.isoformat(), span.end.isoformat()) == (start, end)


@pytest.mark.parametrize(
    "text",
    [
        *("", "18", "2018-13", "2018-00", "2018-5", "2019-02-29", "2018-01-32", "0000", "20180101", "2018-01-01T"),
        *("2018-01-01T24:00:00Z", "2018-01-01T10", "2018-01-01T10:60Z", "2018-01-01T10:00:61Z"),
        *("2018-01-01T10:00:00+15:00", "2018-01-01T10:00:00+14:01", "2018-01-01T10:00:00z", "2018-01-01 10:00:00Z"),
        *("2018-01-01T10:00:00.Z", "٢٠١٨", "2018-01-01\n", "2018Z", "gt2018"),
    ],
)
def test_what_is_no_date_is_refused_with_400_and_says_what_was_found(text: str) -> None:
    with pytest.raises(InvalidError) as refused:
        interval_of(text)
    assert refused.value.status == 400
    assert refused.value.issues[0].key == "HS-SEARCH-DATE"
    assert repr(text) in refused.value.issues[0].diagnostics


def test_the_last_year_ends_where_no_datetime_can_go() -> None:
    assert interval_of("9999").end_us == micros(datetime(9999, 12, 31, tzinfo=UTC)) + 86_400_000_000
    assert interval_of("9999").end_us == interval_of("9999-12").end_us == interval_of("9999-12-31").end_us
    assert interval_of("9999").end.year == 9999


def test_the_first_moments_of_the_calendar_may_lie_before_it_in_utc() -> None:
    assert interval_of("0001-01-01T00:00:00+14:00").start_us < interval_of("0001").start_us


@given(moments, offsets)
def test_a_moment_with_an_offset_is_the_moment_that_datetime_says(local: datetime, minutes: int) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    text = local.isoformat(timespec="microseconds") + zone_text(minutes)
    assert interval_of(text) == Interval(micros(moment), micros(moment) + 1)


@given(moments)
def test_every_coarser_precision_contains_the_finer_one(moment: datetime) -> None:
    texts = [moment.isoformat(timespec=t) + "Z" for t in ("microseconds", "milliseconds", "seconds", "minutes")]
    day = moment.date().isoformat()
    spans = [interval_of(text) for text in (*texts, day, day[:7], day[:4])]
    for fine, coarse in pairwise(spans):
        assert coarse.start_us <= fine.start_us < fine.end_us <= coarse.end_us


@given(st.dates(max_value=date(9998, 12, 31)), st.dates(max_value=date(9998, 12, 31)))
def test_spans_of_days_are_ordered_as_the_days(one: date, other: date) -> None:
    first, second = interval_of(one.isoformat()), interval_of(other.isoformat())
    assert (one < other) == (first.end_us <= second.start_us)
    assert (one == other) == (first == second)


@given(st.dates(max_value=date(9998, 12, 31)))
def test_a_month_and_a_year_are_as_long_as_the_calendar_says(day: date) -> None:
    month, year = interval_of(day.isoformat()[:7]), interval_of(day.isoformat()[:4])
    assert month.end == datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=UTC)
    assert year.end == datetime(day.year + 1, 1, 1, tzinfo=UTC)
