"""Math, on exact decimals; roots, logarithms and powers are rounded to 28 digits.

Spec: http://hl7.org/fhirpath/N1/#math-2
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from fhir_server.fhirpath.arithmetic import MAX_INTEGER
from fhir_server.fhirpath.equality import quantity_in
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.functions.subsetting import number_in
from fhir_server.fhirpath.functions.table import collections
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, decimal, integer
from fhir_server.fhirpath.kinds import DECIMAL, INTEGER, QUANTITY
from fhir_server.fhirpath.quantities import EXACT, ROUNDED, Quantity

#: A power beyond this has no use and takes long.
_MAX_EXPONENT = 1000
_MAX_WHOLE_DIGITS = 20


def _one(items: Items, name: str) -> Item | None:
    """The one item of the input that has a value; None where it is empty."""
    if len(items) > 1:
        raise Fault(f"{name}() works on a single number, found {len(items)} items")
    return items[0] if items and items[0].value is not None else None


def _number(items: Items, name: str) -> Decimal | None:
    item = _one(items, name)
    if item is None:
        return None
    if item.kind.system not in ("Integer", "Decimal"):
        raise Fault(f"{name}() works on a number, found a {item.type}")
    return Decimal(item.value)


def _real(number: Decimal) -> Items:
    return decimal(number) if number.is_finite() else EMPTY


@collections("abs")
def absolute(context: Context, items: Items) -> Items:
    item = _one(items, "abs")
    if item is None:
        return EMPTY
    if item.kind.system == "Quantity":
        quantity = quantity_in(item)
        if quantity is None:
            return EMPTY
        return [Item(Quantity(abs(quantity.value), quantity.unit, quantity.is_calendar), QUANTITY)]
    number = _number(items, "abs")
    return [] if number is None else [Item(abs(item.value), INTEGER if item.kind.system == "Integer" else DECIMAL)]


def _whole(name: str, rounding: str) -> None:
    @collections(name)
    def call(context: Context, items: Items) -> Items:
        number = _number(items, name)
        if number is None:
            return EMPTY
        if number.adjusted() > _MAX_WHOLE_DIGITS:
            return EMPTY
        whole = int(number.to_integral_value(rounding))
        return integer(whole) if abs(whole) <= MAX_INTEGER else EMPTY


for _name, _rounding in (("ceiling", ROUND_CEILING), ("floor", ROUND_FLOOR), ("truncate", ROUND_DOWN)):
    _whole(_name, _rounding)


@collections("round", 0, 1)
def rounded(context: Context, items: Items, precision: Items = EMPTY) -> Items:
    number, places = _number(items, "round"), number_in(precision) or 0
    if number is None:
        return EMPTY
    if places < 0:
        raise Fault("round() takes no negative precision")
    if places >= 28:
        return decimal(number)
    return _real(number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, EXACT))


@collections("exp")
def exp(context: Context, items: Items) -> Items:
    number = _number(items, "exp")
    return EMPTY if number is None or abs(number) > _MAX_EXPONENT else _real(ROUNDED.exp(number))


@collections("ln")
def ln(context: Context, items: Items) -> Items:
    number = _number(items, "ln")
    return EMPTY if number is None or number <= 0 else _real(ROUNDED.ln(number))


@collections("log", 1)
def log(context: Context, items: Items, base: Items) -> Items:
    number, to = _number(items, "log"), _number(base, "log")
    if number is None or to is None or number <= 0 or to <= 0 or to == 1:
        return EMPTY
    if to == 10:
        return _real(ROUNDED.log10(number))
    # Two more digits than are given out, so that the logarithm of a whole power comes out whole.
    precise = ROUNDED.copy()
    precise.prec += 6
    return _real(ROUNDED.plus(precise.divide(precise.ln(number), precise.ln(to))))


@collections("power", 1)
def power(context: Context, items: Items, exponent: Items) -> Items:
    number, to = _number(items, "power"), _number(exponent, "power")
    if number is None or to is None or abs(to) > _MAX_EXPONENT:
        return EMPTY
    if number < 0 and to != to.to_integral_value():
        return EMPTY
    context_of_result = EXACT if to == to.to_integral_value() and to >= 0 else ROUNDED
    result = context_of_result.power(number, to)
    if items[0].kind.system == exponent[0].kind.system == "Integer" and to >= 0:
        return integer(int(result)) if result.is_finite() and abs(result) <= MAX_INTEGER else EMPTY
    return _real(result)


@collections("sqrt")
def sqrt(context: Context, items: Items) -> Items:
    number = _number(items, "sqrt")
    return EMPTY if number is None or number < 0 else _real(ROUNDED.sqrt(number))
