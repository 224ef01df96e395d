"""Values that an element must be or contain, lengths, and limits.

Spec: https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.fixed_x_
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.equality import compared
from fhir_server.fhirpath.items import Fault, Item
from fhir_server.fhirpath.quantities import Units
from fhir_server.model import codec
from fhir_server.validation.profile.definition import Demand

#: Values are shown up to this length.
_SHOWN = 200


def meets(value: Any, demand: Demand) -> bool:
    """Whether a value is exactly the fixed one, or contains all that the pattern has."""
    return _same(value, demand.value) if demand.is_fixed else _contains(value, demand.value)


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_same, value, other))
    return bool(value == other)


def _contains(value: Any, pattern: Any) -> bool:
    """Each member of the pattern is there; each row of an array of the pattern is matched by some row."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(key in value and _contains(value[key], pattern[key]) for key in pattern)
    if isinstance(pattern, list):
        rows = value if isinstance(value, list) else [value]
        return all(any(_contains(row, wanted) for row in rows) for wanted in pattern)
    return _same(value, pattern)


def is_of(item: Item, code: str) -> bool:
    """Whether an item is of a type as a profile names types: a `code` is no `string`, a Patient is a Resource."""
    return item.kind.name == code or (item.kind.is_resource and item.kind.is_a(code))


def shown(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    if value is None:
        return "no value"
    text = codec.encode(value).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def is_below(item: Item, limit: Any, units: Units | None) -> bool:
    """Whether a value is less than a limit of the same type; what cannot be compared is not."""
    order = _order(item, limit, units)
    return order is not None and order < 0


def is_above(item: Item, limit: Any, units: Units | None) -> bool:
    order = _order(item, limit, units)
    return order is not None and order > 0


def _order(item: Item, limit: Any, units: Units | None) -> int | None:
    if item.value is None or not isinstance(limit, (str, int, Decimal, dict)):
        return None
    try:
        return compared(item, Item(limit, item.kind), units)
    except Fault:
        return None
