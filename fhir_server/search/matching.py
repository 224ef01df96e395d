"""Whether one document meets a filter, told without the database.

A write is held to what its writer may touch before it is stored, and an earlier version is shown to whom it would have
been shown then; neither stands in a collection that could be asked. This reads the filters that `compile` makes, with
MongoDB's own meaning of them, and refuses whatever it does not know: what cannot be judged is not allowed.

Spec: https://www.mongodb.com/docs/manual/reference/operator/query/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

Document = Mapping[str, Any]


class UnknownConditionError(Exception):
    """A filter says something that is not read here."""


def meets(filter: Mapping[str, Any], document: Document) -> bool:
    """Whether the document meets the filter.

    Args:
        document: as it would be stored: `_id`, `v`, `t`, and the index entries as `x`

    Raises:
        UnknownConditionError: the filter uses an operator that is not known here.
    """
    return all(_clause(name, condition, document) for name, condition in filter.items())


def _clause(name: str, condition: Any, document: Document) -> bool:
    match name:
        case "$and":
            return all(meets(part, document) for part in condition)
        case "$or":
            return any(meets(part, document) for part in condition)
        case "$nor":
            return not any(meets(part, document) for part in condition)
    if name.startswith("$"):
        raise UnknownConditionError(name)
    return _field_meets(list(_found(document, name.split("."))), condition)


def _found(value: Any, path: list[str]) -> Iterator[Any]:
    """What stands at a path; arrays on the way are looked into, one at its end comes as it is."""
    if not path:
        yield value
        return
    if isinstance(value, Mapping):
        if path[0] in value:
            yield from _found(value[path[0]], path[1:])
    elif isinstance(value, list | tuple):
        for element in value:
            if isinstance(element, Mapping):
                yield from _found(element, path)


def _field_meets(values: list[Any], condition: Any) -> bool:
    if isinstance(condition, Mapping) and condition and all(key.startswith("$") for key in condition):
        return all(_operator(key, operand, values) for key, operand in condition.items())
    return _equal_to_any(values, condition)


def _operator(name: str, operand: Any, values: list[Any]) -> bool:
    match name:
        case "$eq":
            return _equal_to_any(values, operand)
        case "$ne":
            return not _equal_to_any(values, operand)
        case "$in":
            return _is_among(values, operand)
        case "$nin":
            return not _is_among(values, operand)
        case "$all":
            return bool(operand) and all(_equal_to_any(values, one) for one in operand)
        case "$exists":
            return bool(values) == bool(operand)
        case "$not":
            return not _field_meets(values, operand)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return any(_compares(name, value, operand) for value in _each(values))
        case "$regex":
            return any(isinstance(value, str) and _pattern(operand).search(value) for value in _each(values))
        case "$elemMatch":
            return any(_element_meets(element, operand) for v in values if isinstance(v, list | tuple) for element in v)
        case "$size":
            return any(isinstance(value, list | tuple) and len(value) == operand for value in values)
        case "$geoWithin":
            return any(_is_within(value, operand) for value in _each(values))
        case _:
            raise UnknownConditionError(name)


#: A list of texts that is longer is looked up, not walked; policies hold lists of thousands of patients.
MANY = 16

#: The sets of such lists, by the lists' identity; each holds its list, so that no other can have that identity.
_sets: dict[int, tuple[Sequence[Any], frozenset[str] | None]] = {}


def _is_among(values: list[Any], operand: Sequence[Any]) -> bool:
    if len(operand) > MANY and (known := _set_of(operand)) is not None:
        return any(value in known for value in _each(values) if isinstance(value, str))
    return any(_equal_to_any(values, one) for one in operand)


def _set_of(operand: Sequence[Any]) -> frozenset[str] | None:
    """A list of texts as a set; None for a list that holds anything else."""
    held = _sets.get(id(operand))
    if held is None or held[0] is not operand:
        if len(_sets) >= 512:
            _sets.clear()
        texts = frozenset(operand) if all(isinstance(one, str) for one in operand) else None
        held = _sets[id(operand)] = (operand, texts)
    return held[1]


@lru_cache(maxsize=256)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


def _each(values: list[Any]) -> Iterator[Any]:
    """The values, and the elements of those that are arrays."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _element_meets(element: Any, condition: Mapping[str, Any]) -> bool:
    if any(key.startswith("$") and key not in ("$and", "$or", "$nor") for key in condition):
        return _field_meets([element], condition)
    return isinstance(element, Mapping) and meets(condition, element)


def _equal_to_any(values: list[Any], wanted: Any) -> bool:
    if wanted is None:
        return not values or any(value is None for value in _each(values))
    if isinstance(wanted, list | tuple):
        return any(list(value) == list(wanted) for value in values if isinstance(value, list | tuple))
    return any(_are_equal(value, wanted) for value in _each(values))


def _are_equal(value: Any, wanted: Any) -> bool:
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return _kind_of(value) == _kind_of(wanted) and bool(value == wanted)


_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "$gt": lambda value, operand: value > operand,
    "$gte": lambda value, operand: value >= operand,
    "$lt": lambda value, operand: value < operand,
    "$lte": lambda value, operand: value <= operand,
}


def _compares(name: str, value: Any, operand: Any) -> bool:
    """MongoDB compares numbers with numbers and texts with texts; of different kinds none is before the other.

    Texts are ordered by their bytes in UTF-8, which is the order of code points, as Python has it.
    """
    kind = _kind_of(value)
    if kind is None or kind != _kind_of(operand):
        return False
    return bool(_ORDERS[name](value, operand))


def _kind_of(value: Any) -> str | None:
    match value:
        case bool():
            return "bool"
        case int() | float() | Decimal():
            return "number"
        case str():
            return "text"
        case bytes():
            return "bytes"
        case _:
            return None


def _is_within(value: Any, area: Mapping[str, Any]) -> bool:
    """`$centerSphere` alone: a point within an angle (radians) of another, along the great circle."""
    if set(area) != {"$centerSphere"}:
        raise UnknownConditionError(", ".join(sorted(area)))
    (longitude, latitude), radius = area["$centerSphere"]
    if not isinstance(value, Mapping) or value.get("type") != "Point":
        return False
    x, y = (math.radians(float(part)) for part in value["coordinates"])
    x0, y0 = math.radians(longitude), math.radians(latitude)
    chord = math.sin((y - y0) / 2) ** 2 + math.cos(y) * math.cos(y0) * math.sin((x - x0) / 2) ** 2
    return bool(2 * math.asin(math.sqrt(min(1.0, chord))) <= radius)
