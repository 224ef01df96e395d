"""FHIR's dates as spans of time.

A date says as much as its precision: `2018-05` is the whole of May 2018. Spans are counted in whole microseconds since
1970 UTC, so that they compare as integers and no float comes near them.

Spec: https://hl7.org/fhir/R4/search.html#date, https://hl7.org/fhir/R4/datatypes.html#dateTime
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from fhir_server.model.errors import InvalidError

#: The open ends of a Period: beyond every date that FHIR can write, within 64 bits.
OPEN_START_US = -(2**62)
OPEN_END_US = 2**62

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal()
_SECOND_US = 1_000_000
_MINUTE_US = 60 * _SECOND_US
_DAY_US = 24 * 60 * _MINUTE_US

_SHAPE = re.compile(
    r"(\d{4})"
    r"(?:-(\d\d)"
    r"(?:-(\d\d)"
    r"(?:T([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d|60)(?:\.(\d+))?)?(Z|[+-](?:0\d|1[0-3]):[0-5]\d|[+-]14:00)?)?)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open span of time, `start_us <= t < end_us`, in microseconds since 1970 UTC."""

    start_us: int
    end_us: int

    @property
    def start(self) -> datetime:
        """The first moment, in UTC; an open start is the first moment of year 1."""
        return _moment_of(self.start_us)

    @property
    def end(self) -> datetime:
        """The first moment after the span, in UTC; an open end is the last moment of year 9999."""
        return _moment_of(self.end_us)


def _moment_of(moment_us: int) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=moment_us)
    except OverflowError:
        return (datetime.min if moment_us < 0 else datetime.max).replace(tzinfo=UTC)


@lru_cache(maxsize=4096)
def interval_of(text: str) -> Interval:
    """Widen a FHIR date, dateTime or instant to the span its precision names.

    A time without a zone is taken as UTC. The leap second `23:59:60` is the second after `23:59:59`. Digits of a
    second beyond the sixth are dropped, the span is then one microsecond.

    Args:
        text: `YYYY`, `YYYY-MM`, `YYYY-MM-DD`, or a day followed by `Thh:mm[:ss[.f]]` and `Z` or `±hh:mm`.

    Returns:
        The half-open interval in UTC, to the microsecond.

    Raises:
        InvalidError: 400; `text` has another shape, or names no real date.

    >>> interval_of("2018-05").end.isoformat()
    '2018-06-01T00:00:00+00:00'
    """
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise _no_date(text)
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    try:
        first_day = date(int(year), int(month or 1), int(day or 1)).toordinal()
    except ValueError:
        raise _no_date(text) from None
    start_us = (first_day - _EPOCH_DAY) * _DAY_US
    if hour is None:
        return Interval(start_us, start_us + _days_of(year, month, day, first_day) * _DAY_US)
    start_us += (int(hour) * 60 + int(minute)) * _MINUTE_US
    if zone is not None and zone != "Z":
        offset_us = (int(zone[1:3]) * 60 + int(zone[4:])) * _MINUTE_US
        start_us += offset_us if zone[0] == "-" else -offset_us
    if second is None:
        return Interval(start_us, start_us + _MINUTE_US)
    start_us += int(second) * _SECOND_US
    if fraction is None:
        return Interval(start_us, start_us + _SECOND_US)
    digits = fraction[:6]
    unit_us: int = 10 ** (6 - len(digits))
    start_us += int(digits) * unit_us
    return Interval(start_us, start_us + unit_us)


def _days_of(year: str, month: str | None, day: str | None, first_day: int) -> int:
    """How many days a year, a month or a day has."""
    if day is not None:
        return 1
    next_year, next_month = (int(year), int(month) + 1) if month is not None else (int(year) + 1, 1)
    if next_month == 13:
        next_year, next_month = next_year + 1, 1
    after = date(next_year, next_month, 1).toordinal() if next_year <= 9999 else _LAST_DAY + 1
    return after - first_day


def _no_date(text: str) -> InvalidError:
    return InvalidError(
        f"{text[:60]!r} is no date: expected YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.f]] followed by Z "
        "or ±hh:mm, and a day that exists.",
        code="value",
        key="HS-SEARCH-DATE",
    )
