"""When two items, or two collections, are the same, alike, or before one another.

Spec: http://hl7.org/fhirpath/N1/#equality, http://hl7.org/fhirpath/N1/#comparison
"""

from __future__ import annotations

from collections.abc import Hashable
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath import quantities, temporal
from fhir_server.fhirpath.items import Fault, Item, Items
from fhir_server.fhirpath.quantities import Quantity, Units, quantity_of

NUMBERS = frozenset(("Integer", "Decimal"))
#: Each item is looked for among all.
_MAX_EQUIVALENT = 1000
MOMENTS = frozenset(("Date", "DateTime", "Time"))


def quantity_in(item: Item) -> Quantity | None:
    """The quantity that an item is, or that a number is turned to; None for all else."""
    value = item.value
    if isinstance(value, Quantity):
        return value
    if item.kind.system == "Quantity" and isinstance(value, dict):
        return quantity_of(value)
    if item.kind.system in NUMBERS and value is not None:
        return Quantity(Decimal(value))
    return None


def moment_in(item: Item) -> temporal.Temporal | None:
    """The date, dateTime or time that an item is; None where its text is none."""
    if item.kind.system not in MOMENTS or not isinstance(item.value, str):
        return None
    return temporal.temporal_of(item.value, item.kind.system or "")


def equal_items(left: Item, right: Item, units: Units | None) -> bool | None:
    """`=` of two single items; None where it cannot be told (partial dates, units that do not compare)."""
    mine, other = left.kind.system, right.kind.system
    if mine == other and mine in ("String", "Boolean", "Integer", "Decimal"):
        return bool(left.value == right.value)
    if mine in NUMBERS and other in NUMBERS:
        return bool(left.value == right.value)
    if mine in MOMENTS and other in MOMENTS:
        return _equal_moments(left, right)
    if "Quantity" in (mine, other):
        first, second = quantity_in(left), quantity_in(right)
        if first is not None and second is not None:
            both = quantities.aligned(first, second, units)
            return None if both is None else both[0] == both[1]
    if mine != other:
        return False
    return bool(left.value == right.value)


def _equal_moments(left: Item, right: Item) -> bool | None:
    first, second = moment_in(left), moment_in(right)
    if first is None or second is None:
        return bool(left.value == right.value)
    if first.is_time is not second.is_time:
        return False
    order = temporal.compared(first, second)
    return None if order is None else order == 0


def equal(left: Items, right: Items, units: Units | None) -> bool | None:
    """`left = right`: of the same length and equal one by one, in order; None where one is empty."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    result: bool | None = True
    for one, other in zip(left, right, strict=True):
        same = equal_items(one, other, units)
        if same is False:
            return False
        if same is None:
            result = None
    return result


def equivalent_items(left: Item, right: Item, units: Units | None) -> bool:
    """`~` of two single items: never unknown, blind for case, white space and more digits than both have."""
    mine, other = left.kind.system, right.kind.system
    if mine in NUMBERS and other in NUMBERS:
        return _equivalent_json(left.value, right.value)
    if mine in MOMENTS and other in MOMENTS:
        return _equal_moments(left, right) is True
    if "Quantity" in (mine, other):
        first, second = quantity_in(left), quantity_in(right)
        if first is not None and second is not None:
            return quantities.equivalent(first, second, units)
    return mine == other and _equivalent_json(left.value, right.value)


def equivalent(left: Items, right: Items, units: Units | None) -> bool:
    """`left ~ right`: the same items in any order; two empty collections are equivalent."""
    if len(left) != len(right):
        return False
    if len(left) > _MAX_EQUIVALENT:
        raise Fault(f"'~' compares at most {_MAX_EQUIVALENT} items, found {len(left)}")
    rest = list(right)
    for one in left:
        found = next((other for other in rest if equivalent_items(one, other, units)), None)
        if found is None:
            return False
        rest.remove(found)
    return True


def _equivalent_json(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, Decimal)) and isinstance(right, (int, Decimal)):
        return quantities.equivalent_numbers(Decimal(left), Decimal(right))
    if isinstance(left, str) and isinstance(right, str):
        return " ".join(left.split()).casefold() == " ".join(right.split()).casefold()
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equivalent_json(v, right[k]) for k, v in left.items())
    if isinstance(left, list) and isinstance(right, list):
        rest = list(right)
        for one in left:
            at = next((i for i, other in enumerate(rest) if _equivalent_json(one, other)), None)
            if at is None:
                return False
            del rest[at]
        return not rest
    return bool(left == right)


def key_of(item: Item, units: Units | None) -> Hashable:
    """What is equal for equal items, for sets and look-ups."""
    system = item.kind.system
    value = item.value
    if system == "String":
        return value if value is not None else ("", _frozen(item.twin))
    if system in NUMBERS:
        return ("N", value)
    if system in MOMENTS:
        moment = moment_in(item)
        if moment is None:
            return ("T", value)
        if moment.offset and moment.precision >= temporal.MINUTE:
            moment = temporal.in_utc(moment)
        return ("T", moment.is_time, moment.parts, moment.offset)
    if system == "Quantity" and (quantity := quantity_in(item)) is not None:
        code = quantity.code
        found = units(quantity.value, code) if units is not None and code is not None else None
        return ("Q", *(found or (quantity.value, quantity.unit)))
    return (system, _frozen(value))


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((k, _frozen(v)) for k, v in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return ("B", value) if isinstance(value, bool) else value


def compared(left: Item, right: Item, units: Units | None) -> int | None:
    """-1, 0 or 1 for two single items in order; None where it cannot be told.

    Raises:
        Fault: items of types that have no order between them.
    """
    mine, other = left.kind.system, right.kind.system
    if left.value is None or right.value is None:
        return None
    if (mine in NUMBERS and other in NUMBERS) or (mine == other == "String"):
        return int(left.value > right.value) - int(left.value < right.value)
    if mine in MOMENTS and other in MOMENTS and (mine == "Time") is (other == "Time"):
        order = _by_text(left.value, right.value)
        if order is not None:
            return order
        first, second = moment_in(left), moment_in(right)
        return None if first is None or second is None else temporal.compared(first, second)
    if "Quantity" in (mine, other) and (mine == other or mine in NUMBERS or other in NUMBERS):
        quantity, another = quantity_in(left), quantity_in(right)
        if quantity is None or another is None:
            return None
        both = quantities.aligned(quantity, another, units)
        return None if both is None else int(both[0] > both[1]) - int(both[0] < both[1])
    raise Fault(f"a {left.type} and a {right.type} have no order")


def _by_text(left: str, right: str) -> int | None:
    """The order of two moments of one form and zone, which is that of their texts; None for all others."""
    if len(left) != len(right):
        return None
    if len(left) > 10 and not (left[-1] == right[-1] == "Z" or (left[-6] in "+-" and left[-6:] == right[-6:])):
        return None
    return int(left > right) - int(left < right)
