"""The least and the greatest value that a number, quantity, date or time of limited precision can stand for.

Spec: https://build.fhir.org/ig/HL7/FHIRPath/#lowboundaryprecision-integer-decimal--date--datetime--time
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal

from fhir_server.fhirpath.equality import moment_in, quantity_in
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.functions.subsetting import number_in
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, decimal, integer
from fhir_server.fhirpath.kinds import DATE, DATE_TIME, QUANTITY, TIME
from fhir_server.fhirpath.quantities import EXACT, Quantity
from fhir_server.fhirpath.temporal import DAY, HOUR, MINUTE, MONTH, SECOND, YEAR, Temporal

_MAX_PLACES = 28
_DEFAULT_PLACES = 8
#: Digits that a date or dateTime may be asked for, and the component each ends with; 17 and 9 have milliseconds.
_DATE_DIGITS = {4: YEAR, 6: MONTH, 8: DAY, 10: HOUR, 12: MINUTE, 14: SECOND, 17: SECOND}
_TIME_DIGITS = {2: HOUR, 4: MINUTE, 6: SECOND, 9: SECOND}
#: The zones in which a local time comes first and last.
_FIRST_ZONE, _LAST_ZONE = 14 * 60, -12 * 60


@collections("lowBoundary", 0, 1)
def low_boundary(context: Context, items: Items, precision: Items = EMPTY) -> Items:
    return _boundary(items, number_in(precision), is_high=False)


@collections("highBoundary", 0, 1)
def high_boundary(context: Context, items: Items, precision: Items = EMPTY) -> Items:
    return _boundary(items, number_in(precision), is_high=True)


def _boundary(items: Items, precision: int | None, *, is_high: bool) -> Items:
    if len(items) > 1:
        raise Fault(f"a boundary is of a single item, found {len(items)}")
    if not items or items[0].value is None:
        return EMPTY
    item = items[0]
    if item.kind.system in ("Integer", "Decimal"):
        bound = _decimal_bound(Decimal(item.value), precision, is_high)
        return EMPTY if bound is None else decimal(bound)
    if item.kind.system == "Quantity":
        quantity = quantity_in(item)
        bound = None if quantity is None else _decimal_bound(quantity.value, precision, is_high)
        if quantity is None or bound is None:
            return EMPTY
        return [Item(Quantity(bound, quantity.unit, quantity.is_calendar), QUANTITY)]
    moment = moment_in(item)
    if moment is None:
        raise Fault(f"a {item.type} has no boundaries")
    return _moment_bound(moment, precision, is_high)


def _places(number: Decimal) -> int:
    """The decimal places that are written, trailing zeros too: they tell the precision."""
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _decimal_bound(number: Decimal, precision: int | None, is_high: bool) -> Decimal | None:
    places = _DEFAULT_PLACES if precision is None else precision
    if not 0 <= places <= _MAX_PLACES:
        return None
    half = Decimal(5).scaleb(-_places(number) - 1)
    bound = EXACT.add(number, half if is_high else -half)
    # Away from zero the bound is rounded, towards zero it is cut, as the examples of the specification have it.
    rounding = ROUND_HALF_UP if is_high == (number >= 0) else ROUND_DOWN
    result = bound.quantize(Decimal(1).scaleb(-places), rounding, EXACT)
    return result if result.is_finite() else None


def _moment_bound(moment: Temporal, precision: int | None, is_high: bool) -> Items:
    if moment.is_time:
        digits, default, kind = _TIME_DIGITS, 9, TIME
    elif moment.has_time_type:
        digits, default, kind = _DATE_DIGITS, 17, DATE_TIME
    else:
        digits, default, kind = _DATE_DIGITS, 8, DATE
    wanted = default if precision is None else precision
    if wanted not in digits:
        return EMPTY
    parts = list(moment.parts)
    first = HOUR if moment.is_time else YEAR
    while first + len(parts) <= SECOND:
        parts.append(_filled(parts, first + len(parts), is_high))
    seconds = Decimal(parts[-1])
    if not (_places(seconds) or (is_high and moment.precision == SECOND)):
        seconds = seconds.quantize(Decimal("0.001"))
    if is_high and moment.precision == SECOND and not _places(seconds):
        seconds += Decimal("0.999")
    parts[-1] = seconds if wanted in (9, 17) else Decimal(int(seconds))
    end = digits[wanted]
    if moment.is_time:
        return [Item(replace(moment, parts=tuple(parts[: end - DAY])).text, kind)]
    offset = moment.offset
    if offset is None and end >= HOUR:
        offset = _LAST_ZONE if is_high else _FIRST_ZONE
    kind = DATE_TIME if end >= HOUR else kind
    return [Item(replace(moment, parts=tuple(parts[:end]), offset=offset).text, kind)]


def _filled(parts: list[int | Decimal], component: int, is_high: bool) -> int | Decimal:
    """The least or greatest value of a component that is not there."""
    if component == MONTH:
        return 12 if is_high else 1
    if component == DAY:
        return _last_day(int(parts[0]), int(parts[1])) if is_high else 1
    if component == HOUR:
        return 23 if is_high else 0
    if component == MINUTE:
        return 59 if is_high else 0
    return Decimal("59.999") if is_high else Decimal("0.000")


def _last_day(year: int, month: int) -> int:
    if month == 12:
        return 31
    return (date(year, month + 1, 1) - timedelta(days=1)).day


@collections("precision")
def precision_of(context: Context, items: Items) -> Items:
    """Decimal places of a number, digits of a date or time."""
    if len(items) > 1:
        raise Fault(f"precision() is of a single item, found {len(items)}")
    if not items or items[0].value is None:
        return EMPTY
    item = items[0]
    if item.kind.system in ("Integer", "Decimal"):
        return integer(_places(Decimal(item.value)))
    moment = moment_in(item)
    if moment is None:
        raise Fault(f"a {item.type} has no precision")
    return integer(moment.digits)
