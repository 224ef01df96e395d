"""Quantities: numbers with units; UCUM units are compared in their canonical form, so that 1 g finds 1000 mg.

Spec: https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

from fhir_server.search.escape import split, unescape
from fhir_server.search.query import NumberValue, QuantityValue, Value
from fhir_server.search.types import number
from fhir_server.search.types.conditions import Filter, either, malformed
from fhir_server.search.ucum import canonical

UCUM = "http://unitsofmeasure.org"
SHAPE = "[prefix]number or [prefix]number|system|code, such as 5.4, ge5.4||mg or 5.4|http://unitsofmeasure.org|mg"

_STORED = Context(prec=number.STORED_DIGITS)


def parse_value(name: str, text: str) -> QuantityValue:
    """Read `[prefix]number`, `[prefix]number||unit` or `[prefix]number|system|code`.

    Raises:
        InvalidError: 400; another shape, or no number.
    """
    parts = split(text, "|")
    if len(parts) not in (1, 3) or not parts[0] or (len(parts) == 3 and not parts[2]):
        raise malformed(name, text, SHAPE, "HS-SEARCH-QUANTITY")
    value = number.parse_value(name, parts[0])
    if len(parts) == 1:
        return QuantityValue(value)
    return QuantityValue(value, unescape(parts[1]) or None, unescape(parts[2]))


def condition(field: str, values: Sequence[Value]) -> Filter:
    """A quantity among the entries of a field matches one of the values."""
    matches = [m for v in values if isinstance(v, QuantityValue) for m in _matches_of(v)]
    return either([{field: {"$elemMatch": match}} for match in matches])


def _matches_of(value: QuantityValue) -> list[dict[str, Any]]:
    """The conditions on one entry, of which one must hold: as it is written, or in canonical units."""
    written = number.of_range(value.number)
    if value.code is None:
        return [written]
    if value.system is None:
        return [{**written, "u": f"={value.code}"}]
    matches = [{**written, "u": f"{value.system}|{value.code}"}]
    converted = _canonical(value.number, value.code) if value.system == UCUM else None
    if converted is not None:
        comparable, unit = converted
        matches.append({**number.of_range(comparable, "cl", "ch"), "cu": unit})
    return matches


def _canonical(value: NumberValue, code: str) -> tuple[NumberValue, str] | None:
    """The number and its range in the base units of UCUM; None when the unit is not known there."""
    bounds: list[Decimal] = []
    unit = ""
    for bound in (value.value, value.low, value.high):
        converted = canonical(bound, code)
        if converted is None:
            return None
        bounds.append(_STORED.plus(converted[0]))
        unit = converted[1]
    return NumberValue(value.prefix, *bounds), unit
