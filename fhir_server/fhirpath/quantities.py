"""Quantities with UCUM or calendar units, compared across units through a port.

This package knows no table of units. `Units` is asked to convert; without it quantities compare only within one unit,
but for weeks, days, hours, minutes and seconds, whose calendar words mean the same as their UCUM codes. A calendar
year or month is no fixed length, it never equals `a` or `mo`.

Spec: http://hl7.org/fhirpath/N1/#quantity, http://hl7.org/fhirpath/N1/#time-valued-quantities
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any, Protocol

UCUM = "http://unitsofmeasure.org"

#: Calendar words by their UCUM code; both directions are used.
_CODE_OF_WORD = {"week": "wk", "day": "d", "hour": "h", "minute": "min", "second": "s", "millisecond": "ms"}
_WORD_OF_CODE = {code: word for word, code in _CODE_OF_WORD.items()}
_SECONDS = {
    **{"wk": Decimal(604800), "d": Decimal(86400), "h": Decimal(3600), "min": Decimal(60)},
    **{"s": Decimal(1), "ms": Decimal("0.001")},
}
_CALENDAR_ONLY = {"year": 12, "month": 1}
_WORDS = {form: word for word in (*_CODE_OF_WORD, *_CALENDAR_ONLY) for form in (word, f"{word}s")}

EXACT = Context(prec=60, traps=[])
ROUNDED = Context(prec=28, traps=[])


class Units(Protocol):
    """What knows units of measure."""

    def __call__(self, value: Decimal, code: str, /) -> tuple[Decimal, str] | None:
        """A value in canonical units with their name; None where the code is not UCUM."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit: a UCUM code, or with `is_calendar` a singular calendar word (`day`)."""

    value: Decimal
    unit: str = "1"
    is_calendar: bool = False

    @property
    def text(self) -> str:
        """As a literal: `1 'wk'`, `1 week`."""
        if self.is_calendar:
            return f"{self.value} {self.unit}"
        return f"{self.value} '{self.unit}'"

    @property
    def code(self) -> str | None:
        """The UCUM code of the unit; None for years and months of the calendar."""
        return _CODE_OF_WORD.get(self.unit) if self.is_calendar else self.unit

    @property
    def calendar_word(self) -> str | None:
        """The calendar unit by which it can move a date; None where there is none (`mo` and `a` are none either)."""
        if self.is_calendar:
            return self.unit
        return _WORD_OF_CODE.get(self.unit) or _WORDS.get(self.unit)


def calendar_quantity(value: Decimal, word: str) -> Quantity | None:
    """A quantity of `days`, `day`; None for a word that is none of the calendar's."""
    singular = _WORDS.get(word)
    return None if singular is None else Quantity(value, singular, True)


def quantity_of(node: dict[str, Any]) -> Quantity | None:
    """The quantity of a FHIR Quantity (or Money, Age …); None where it has no value or a comparator (`<`)."""
    value = node.get("value")
    if value is None or node.get("comparator"):
        return None
    return Quantity(Decimal(value), str(node.get("code") or node.get("unit") or "1"))


def aligned(left: Quantity, right: Quantity, units: Units | None) -> tuple[Decimal, Decimal] | None:
    """Both values in one unit; None where the units cannot be compared."""
    if left.unit == right.unit and left.is_calendar == right.is_calendar:
        return left.value, right.value
    months = _months(left), _months(right)
    if months[0] is not None and months[1] is not None:
        return months[0], months[1]
    mine, other = left.code, right.code
    if mine is None or other is None:
        return None
    if mine in _SECONDS and other in _SECONDS:
        return EXACT.multiply(left.value, _SECONDS[mine]), EXACT.multiply(right.value, _SECONDS[other])
    if units is None:
        return None
    first, second = units(left.value, mine), units(right.value, other)
    if first is None or second is None or first[1] != second[1]:
        return None
    return first[0], second[0]


def _months(quantity: Quantity) -> Decimal | None:
    if not quantity.is_calendar or quantity.unit not in _CALENDAR_ONLY:
        return None
    return quantity.value * _CALENDAR_ONLY[quantity.unit]


def converted(quantity: Quantity, unit: str, units: Units | None) -> Decimal | None:
    """The value in another unit (a UCUM code); None where that cannot be."""
    code = quantity.code
    if code is None:
        return None
    if code == unit:
        return quantity.value
    if code in _SECONDS and unit in _SECONDS:
        return ROUNDED.divide(EXACT.multiply(quantity.value, _SECONDS[code]), _SECONDS[unit])
    if units is None:
        return None
    mine, zero, one = units(quantity.value, code), units(Decimal(0), unit), units(Decimal(1), unit)
    if mine is None or zero is None or one is None or mine[1] != one[1]:
        return None
    return ROUNDED.divide(mine[0] - zero[0], one[0] - zero[0])


def equivalent(left: Quantity, right: Quantity, units: Units | None) -> bool:
    """Equal, but for precision: both are rounded to that of the less precise, in the coarser unit."""
    if left.unit == right.unit or {left.unit, right.unit} in ({"year", "a"}, {"month", "mo"}):
        return equivalent_numbers(left.value, right.value)
    both = aligned(left, right, units)
    if both is None:
        return False
    if both[0] == both[1]:
        return True
    one = aligned(replace(left, value=Decimal(1)), replace(right, value=Decimal(1)), units)
    coarse, fine = (left, right) if one is not None and one[0] >= one[1] else (right, left)
    value = converted(fine, coarse.code or "", units)
    return value is not None and equivalent_numbers(coarse.value, value)


def equivalent_numbers(left: Decimal, right: Decimal) -> bool:
    """Equal when rounded to the fewer decimal places of the two; trailing zeros do not count."""
    places = min(places_of(left), places_of(right))
    step = Decimal(1).scaleb(-places)
    return EXACT.quantize(left, step) == EXACT.quantize(right, step)


def places_of(number: Decimal) -> int:
    """How many decimal places a number needs."""
    exponent = number.normalize(EXACT).as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def product_unit(left: str, right: str) -> str:
    """The unit of a product."""
    if left == "1":
        return right
    return left if right == "1" else f"{_grouped(left)}.{_grouped(right)}"


def ratio_unit(left: str, right: str) -> str:
    """The unit of a quotient."""
    if left == right:
        return "1"
    return left if right == "1" else f"{'' if left == '1' else _grouped(left)}/{_grouped(right)}"


def _grouped(unit: str) -> str:
    return f"({unit})" if "." in unit or "/" in unit else unit
