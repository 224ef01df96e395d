"""Numbers: as precise as they are written.

`100` is every number that rounds to it, `[99.5, 100.5)`; `1e2` has one digit and is `[50, 150)`. The prefixes that
order (gt lt ge le sa eb) take the number as exact. `ap` is ten percent to both sides.

Spec: https://hl7.org/fhir/R4/search.html#number, https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from fhir_server.search.query import NumberValue, Value
from fhir_server.search.types.conditions import Filter, either, malformed
from fhir_server.search.types.prefix import prefix_of

SHAPE = "a decimal number after an optional prefix (eq ne gt lt ge le sa eb ap), such as 5.4, ge5 or 1e-3"

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_EXACT = Context(prec=200)
_HALF = Decimal("0.5")
_TENTH = Decimal("0.1")

#: What a Decimal128 of MongoDB holds: digits, and the largest exponent.
STORED_DIGITS = 34
LARGEST_EXPONENT = 6000


def parse_value(name: str, text: str) -> NumberValue:
    """Read `[prefix]number`.

    Raises:
        InvalidError: 400; no number, an unknown prefix, or more digits than can be compared.
    """
    prefix, digits = prefix_of(name, text, SHAPE, "HS-SEARCH-NUMBER")
    if _NUMBER.fullmatch(digits) is None:
        raise malformed(name, text, SHAPE, "HS-SEARCH-NUMBER")
    value = Decimal(digits)
    _, shown, exponent = value.as_tuple()
    if len(shown) > STORED_DIGITS - 2 or abs(value.adjusted()) > LARGEST_EXPONENT or not isinstance(exponent, int):
        raise malformed(name, text, f"a number of at most {STORED_DIGITS - 2} digits", "HS-SEARCH-NUMBER")
    margin = _HALF.scaleb(exponent, _EXACT)
    if prefix == "ap":
        margin = max(margin, _EXACT.multiply(abs(value), _TENTH))
    return NumberValue(prefix, value, _EXACT.subtract(value, margin), _EXACT.add(value, margin))


def condition(field: str, values: Sequence[Value]) -> Filter:
    """A number or range among the entries of a field matches one of the values."""
    return either([{field: {"$elemMatch": of_range(v)}} for v in values if isinstance(v, NumberValue)])


def of_range(number: NumberValue, low_name: str = "l", high_name: str = "h") -> dict[str, Any]:
    """The condition on one entry whose numbers run from `low_name` to `high_name`, both included."""
    value, low, high = number.value, number.low, number.high
    match number.prefix:
        case "eq":
            return {low_name: {"$gte": low, "$lt": high}, high_name: {"$lt": high}}
        case "ne":
            return {"$or": [{low_name: {"$lt": low}}, {high_name: {"$gte": high}}]}
        case "gt":
            return {high_name: {"$gt": value}}
        case "lt":
            return {low_name: {"$lt": value}}
        case "ge":
            return {high_name: {"$gte": value}}
        case "le":
            return {low_name: {"$lte": value}}
        case "sa":
            return {low_name: {"$gt": value}}
        case "eb":
            return {low_name: {"$lt": value}, high_name: {"$lt": value}}
        case "ap":
            return {low_name: {"$lte": high}, high_name: {"$gte": low}}
