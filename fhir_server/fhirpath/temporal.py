"""Dates, times and dateTimes of any precision: compared, shifted, and as text.

A moment says as much as it has components: `2018-05` and `2018-05-01` cannot be told apart or put in order, which is
why a comparison may have no answer. Seconds and their fraction are one component.

Spec: http://hl7.org/fhirpath/N1/#datetime-comparison, http://hl7.org/fhirpath/N1/#datetime-arithmetic
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache

_DATE = r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
_CLOCK = r"(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?"
_DATE_TIME = re.compile(_DATE + r"(?:T(?:" + _CLOCK + r")?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_TIME = re.compile("T?" + _CLOCK, re.ASCII)
_MAX_LENGTH = 64
_EPOCH = datetime(1970, 1, 1)

#: Components of a moment by their number.
YEAR, MONTH, DAY, HOUR, MINUTE, SECOND = range(1, 7)
#: How far a local time may be from UTC, in minutes: from 12 hours behind to 14 hours ahead.
_BEHIND, _AHEAD = -12 * 60, 14 * 60


@dataclass(frozen=True, slots=True)
class Temporal:
    """A date (1 to 3 parts), a dateTime (1 to 6) or, with `is_time`, a time (hour, minute, second).

    `second` is kept as a Decimal with the digits that were written; `offset` in minutes east of UTC, None for none.
    """

    parts: tuple[int | Decimal, ...]
    is_time: bool = False
    offset: int | None = None
    has_time_type: bool = False

    @property
    def precision(self) -> int:
        """The number of the last component that is there; a time starts at HOUR."""
        return len(self.parts) + (DAY if self.is_time else 0)

    @property
    def digits(self) -> int:
        """How many digits are written, seconds with exactly the fraction they have."""
        count = 0
        for part in self.parts:
            count += 2 if isinstance(part, int) else 2 + _places(part)
        return count if self.is_time else count + 2

    @property
    def text(self) -> str:
        """The moment in FHIR's form."""
        if self.is_time:
            return _clock(self.parts)
        day = "-".join((f"{self.parts[0]:04d}", *(f"{p:02d}" for p in self.parts[1:3])))
        if len(self.parts) <= DAY:
            return day
        return f"{day}T{_clock(self.parts[DAY:])}{offset_text(self.offset)}"


def _places(second: Decimal) -> int:
    exponent = second.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def _clock(parts: tuple[int | Decimal, ...]) -> str:
    return ":".join(f"{p:02d}" if isinstance(p, int) else _second_text(p) for p in parts)


def _second_text(second: Decimal) -> str:
    places = _places(second)
    return f"{second:0{3 + places if places else 2}f}"


def offset_text(offset: int | None) -> str:
    """`Z`, `+02:00`, or nothing."""
    if offset is None:
        return ""
    if offset == 0:
        return "Z"
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"


@lru_cache(maxsize=4096)
def temporal_of(text: str, system: str) -> Temporal | None:
    """Read a `Date`, `DateTime` or `Time` of FHIRPath; None where the text is no such thing or names no real moment."""
    if len(text) > _MAX_LENGTH:
        return None
    if system == "Time":
        found = _TIME.fullmatch(text)
        return None if found is None else _checked(Temporal(_numbers(found.groups()), is_time=True))
    found = _DATE_TIME.fullmatch(text)
    if found is None or (system == "Date" and "T" in text):
        return None
    *parts, zone = found.groups()
    if parts[3] is not None and parts[2] is None:
        return None
    return _checked(Temporal(_numbers(parts), offset=_offset_of(zone), has_time_type=system != "Date"))


def _numbers(parts: tuple[str | None, ...] | list[str | None]) -> tuple[int | Decimal, ...]:
    given = [p for p in parts if p is not None]
    is_whole = len(given) == len(parts)
    return (*map(int, given[:-1]), Decimal(given[-1]) if is_whole else int(given[-1]))


def _offset_of(zone: str | None) -> int | None:
    if zone is None:
        return None
    if zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[4:])
    return -minutes if zone[0] == "-" else minutes


def _checked(moment: Temporal) -> Temporal | None:
    try:
        _naive(moment)
    except ValueError:
        return None
    return moment


def _naive(moment: Temporal) -> datetime:
    """Its first instant as a clock would show it, to the second; the leap second counts as 59."""
    parts = (1970, 1, 1, *moment.parts) if moment.is_time else moment.parts
    numbers = [*map(int, parts), *(1, 1, 1, 0, 0, 0)[len(parts) :]]
    if numbers[5] == 60:
        numbers[5] = 59
    return datetime(*numbers)  # type: ignore[arg-type]


def compared(left: Temporal, right: Temporal) -> int | None:
    """-1, 0 or 1; None where the precision of one does not tell, or the zone of one is unknown and matters."""
    if left.offset != right.offset:
        if left.offset is None or right.offset is None:
            return _compared_spans(left, right)
        if min(left.precision, right.precision) < MINUTE:
            return _compared_spans(left, right)
        left, right = in_utc(left), in_utc(right)
    for mine, other in zip(left.parts, right.parts, strict=False):
        if mine != other:
            return -1 if mine < other else 1
    return 0 if len(left.parts) == len(right.parts) else None


def in_utc(moment: Temporal) -> Temporal:
    """The same instant with offset 0; the precision must be a minute or better."""
    shifted = _naive(replace(moment, parts=moment.parts[:5])) - timedelta(minutes=moment.offset or 0)
    parts = (shifted.year, shifted.month, shifted.day, shifted.hour, shifted.minute, *moment.parts[5:])
    return replace(moment, parts=parts, offset=0)


def _compared_spans(left: Temporal, right: Temporal) -> int | None:
    (left_low, left_high), (right_low, right_high) = _span(left), _span(right)
    if left_high < right_low:
        return -1
    return 1 if right_high < left_low else None


def _span(moment: Temporal) -> tuple[Decimal, Decimal]:
    """The first and last second since 1970 UTC that it can mean, the last one excluded."""
    east, west = (_AHEAD, _BEHIND) if moment.offset is None else (moment.offset, moment.offset)
    fraction = moment.parts[5] % 1 if len(moment.parts) > 5 else Decimal(0)
    start = Decimal((_naive(moment) - _EPOCH) // timedelta(seconds=1)) + fraction
    return start - east * 60, start + _length_s(moment) - west * 60


def _length_s(moment: Temporal) -> Decimal:
    if moment.precision >= SECOND:
        return Decimal(10) ** -_places(Decimal(moment.parts[-1]))
    return Decimal({YEAR: 366 * 86400, MONTH: 31 * 86400, DAY: 86400, HOUR: 3600, MINUTE: 60}[moment.precision])


#: Ten thousand years have fewer milliseconds.
_MAX_AMOUNT_DIGITS = 16
_SECONDS = {"week": 604800, "day": 86400, "hour": 3600, "minute": 60, "second": 1}
_FINEST = {YEAR: "year", MONTH: "month", DAY: "day", HOUR: "hour", MINUTE: "minute", SECOND: "second"}


def shifted(moment: Temporal, amount: Decimal, unit: str) -> Temporal | None:
    """Move by an amount of a calendar unit (`year` … `millisecond`); None where that leaves the years 1 to 9999.

    What is smaller than the moment's own precision counts as far as it fills whole units of it: a date moves by 25
    hours as by a day, a year by 30 months as by 2 years. Fractions of an amount are cut off, those of seconds stay.
    """
    if amount.adjusted() > _MAX_AMOUNT_DIGITS:
        return None
    if unit == "millisecond":
        amount, unit = amount / 1000, "second"
    if unit != "second":
        amount = Decimal(int(amount))
    try:
        if unit in ("year", "month"):
            return _shifted_months(moment, int(amount) * (12 if unit == "year" else 1))
        return _shifted_seconds(moment, amount * _SECONDS[unit])
    except (OverflowError, ValueError):
        return None


def _shifted_months(moment: Temporal, months: int) -> Temporal:
    if moment.is_time:
        return moment
    year = int(moment.parts[0])
    if len(moment.parts) == YEAR:
        total = (year + _towards_zero(months, 12)) * 12
    else:
        total = year * 12 + int(moment.parts[1]) - 1 + months
    year, month = total // 12, total % 12 + 1
    last = (date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)).day if year < 9999 or month < 12 else 31
    day = min(int(moment.parts[2]), last) if len(moment.parts) > 2 else None
    parts = (date(year, month, 1).year, month, *(() if day is None else (day,)), *moment.parts[3:])
    return replace(moment, parts=parts[: len(moment.parts)])


def _shifted_seconds(moment: Temporal, seconds: Decimal) -> Temporal:
    precision = moment.precision
    if precision <= MONTH:  # without a day to start from, a month has 30 days and a year 365
        days = int(seconds / 86400)
        return _shifted_months(moment, _towards_zero(days, 30) if precision == MONTH else _towards_zero(days, 365) * 12)
    unit_s = {DAY: 86400, HOUR: 3600, MINUTE: 60}.get(precision)
    fraction = Decimal(0)
    if unit_s is not None:
        seconds = Decimal(int(seconds / unit_s) * unit_s)
    else:
        whole = moment.parts[-1] + seconds
        fraction = whole % 1 if whole >= 0 or not whole % 1 else whole % 1 + 1
        seconds = (whole - fraction) - int(moment.parts[-1])
    moved = _naive(moment) + timedelta(seconds=int(seconds))
    parts: tuple[int | Decimal, ...] = (moved.year, moved.month, moved.day, moved.hour, moved.minute)
    if precision == SECOND:
        parts = (*parts, Decimal(moved.second) + fraction)
    return replace(moment, parts=parts[DAY:] if moment.is_time else parts[:precision])


def _towards_zero(dividend: int, divisor: int) -> int:
    return dividend // divisor if dividend >= 0 else -(-dividend // divisor)
