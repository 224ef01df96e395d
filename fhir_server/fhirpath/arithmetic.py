"""`+ - * / div mod`, `&` and the sign.

Whole numbers stay whole but for `/`. Decimals are added and multiplied exactly, up to 60 digits; a quotient is rounded
to 28 digits. What cannot be computed (division by zero, units that do not go together) is empty.

Spec: http://hl7.org/fhirpath/N1/#math
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_DOWN, Decimal

from fhir_server.fhirpath import quantities, temporal
from fhir_server.fhirpath.equality import MOMENTS, NUMBERS, moment_in, quantity_in
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, decimal, integer, string
from fhir_server.fhirpath.kinds import QUANTITY
from fhir_server.fhirpath.quantities import EXACT, ROUNDED, Quantity, Units

Operation = Callable[[Item, Item, Units | None], Items]

#: Integers of FHIRPath have 32 bits; a greater result is not in the language.
MAX_INTEGER = 2**31 - 1
_LARGEST = Decimal(10) ** 40


def _whole(number: int) -> Items:
    return integer(number) if -MAX_INTEGER - 1 <= number <= MAX_INTEGER else EMPTY


def _real(number: Decimal) -> Items:
    return decimal(number) if number.is_finite() and abs(number) < _LARGEST else EMPTY


def _measured(value: Decimal, unit: str, is_calendar: bool = False) -> Items:
    return [Item(Quantity(value, unit, is_calendar), QUANTITY)] if value.is_finite() else EMPTY


def _systems(left: Item, right: Item) -> tuple[str | None, str | None]:
    return left.kind.system, right.kind.system


def _wrong(operator: str, left: Item, right: Item) -> Fault:
    return Fault(f"{operator!r} is not defined between a {left.type} and a {right.type}")


def _are_quantities(left: Item, right: Item) -> bool:
    systems = _systems(left, right)
    return "Quantity" in systems and all(s == "Quantity" or s in NUMBERS for s in systems)


def add(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if mine == other == "Integer":
        return _whole(left.value + right.value)
    if mine in NUMBERS and other in NUMBERS:
        return _real(EXACT.add(Decimal(left.value), Decimal(right.value)))
    if mine == other == "String":
        return string(left.value + right.value)
    if mine in MOMENTS and other == "Quantity":
        return _move(left, right, 1)
    if _are_quantities(left, right):
        return _sum(left, right, 1, units)
    raise _wrong("+", left, right)


def subtract(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if mine == other == "Integer":
        return _whole(left.value - right.value)
    if mine in NUMBERS and other in NUMBERS:
        return _real(EXACT.subtract(Decimal(left.value), Decimal(right.value)))
    if mine in MOMENTS and other == "Quantity":
        return _move(left, right, -1)
    if _are_quantities(left, right):
        return _sum(left, right, -1, units)
    raise _wrong("-", left, right)


def _sum(left: Item, right: Item, sign: int, units: Units | None) -> Items:
    mine, other = quantity_in(left), quantity_in(right)
    if mine is None or other is None:
        return EMPTY
    if mine.unit == other.unit:
        value: Decimal | None = other.value
    else:
        value = quantities.converted(other, mine.code or "", units)
    return EMPTY if value is None else _measured(EXACT.add(mine.value, sign * value), mine.unit, mine.is_calendar)


def _move(left: Item, right: Item, sign: int) -> Items:
    moment, amount = moment_in(left), quantity_in(right)
    if moment is None or amount is None:
        return EMPTY
    word = amount.calendar_word
    if word is None:
        raise Fault(f"a {left.type} cannot be moved by {amount.text}; a calendar unit such as 'month' or 'd' is needed")
    moved = temporal.shifted(moment, sign * amount.value, word)
    if moved is None:
        return EMPTY
    return [Item(moved.text, left.kind)]


def multiply(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if mine == other == "Integer":
        return _whole(left.value * right.value)
    if mine in NUMBERS and other in NUMBERS:
        return _real(EXACT.multiply(Decimal(left.value), Decimal(right.value)))
    if not _are_quantities(left, right):
        raise _wrong("*", left, right)
    first, second = quantity_in(left), quantity_in(right)
    if first is None or second is None or first.code is None or second.code is None:
        return EMPTY
    unit = quantities.product_unit(first.code, second.code)
    return _measured(EXACT.multiply(first.value, second.value), unit)


def divide(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if mine in NUMBERS and other in NUMBERS:
        return _real(ROUNDED.divide(Decimal(left.value), Decimal(right.value))) if right.value else EMPTY
    if not _are_quantities(left, right):
        raise _wrong("/", left, right)
    first, second = quantity_in(left), quantity_in(right)
    if first is None or second is None or first.code is None or second.code is None or not second.value:
        return EMPTY
    unit = quantities.ratio_unit(first.code, second.code)
    return _measured(ROUNDED.divide(first.value, second.value), unit)


def whole_quotient(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if not (mine in NUMBERS and other in NUMBERS):
        raise _wrong("div", left, right)
    if not right.value:
        return EMPTY
    quotient = EXACT.divide(Decimal(left.value), Decimal(right.value))
    if not quotient.is_finite() or quotient.adjusted() > 20:
        return EMPTY
    return _whole(int(quotient.to_integral_value(ROUND_DOWN)))


def remainder(left: Item, right: Item, units: Units | None) -> Items:
    mine, other = _systems(left, right)
    if not (mine in NUMBERS and other in NUMBERS):
        raise _wrong("mod", left, right)
    if not right.value:
        return EMPTY
    rest = EXACT.remainder(Decimal(left.value), Decimal(right.value))
    return _whole(int(rest)) if mine == other == "Integer" else _real(rest)


def negative(item: Item) -> Items:
    """`-item`"""
    if item.kind.system == "Integer":
        return _whole(-item.value)
    if item.kind.system == "Decimal":
        return decimal(item.value.copy_negate() if isinstance(item.value, Decimal) else Decimal(-item.value))
    quantity = quantity_in(item)
    if quantity is None:
        raise Fault(f"a {item.type} has no sign")
    return _measured(quantity.value.copy_negate(), quantity.unit, quantity.is_calendar)


OPERATIONS: dict[str, Operation] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "div": whole_quotient,
    "mod": remainder,
}
