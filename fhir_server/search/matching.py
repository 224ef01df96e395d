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

#: What MongoDB takes for an array.
ARRAYS = (list, tuple)

#: Tells of a document, or of the values at a path, whether a condition holds.
Predicate = Callable[[Document], bool]
Holds = Callable[[list[Any]], bool]


class UnknownConditionError(Exception):
    """A filter says something that is not read here."""


def meets(filter: Mapping[str, Any], document: Document) -> bool:
    """Whether the document meets the filter; for more than one document `predicate_of` is quicker.

    Args:
        document: as it would be stored: `_id`, `v`, `t`, and the index entries as `x`

    Raises:
        UnknownConditionError: the filter uses an operator that is not known here.
    """
    return predicate_of(filter)(document)


def predicate_of(filter: Mapping[str, Any]) -> Predicate:
    """A filter as a function, for many documents; it raises as `meets` where it comes upon what is not known here."""
    return _all([_clause(name, condition) for name, condition in filter.items()])


def fields_of(filter: Mapping[str, Any]) -> frozenset[str]:
    """The fields at which a filter looks."""
    names: set[str] = set()
    for name, condition in filter.items():
        if name.startswith("$"):
            names.update(*map(fields_of, condition))
        else:
            names.add(name)
    return frozenset(names)


def _all(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]

    def all_hold(document: Document) -> bool:
        for test in tests:  # noqa: SIM110  (a generator costs more than most tests)
            if not test(document):
                return False
        return True

    return all_hold


def _any(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]

    def one_holds(document: Document) -> bool:
        for test in tests:  # noqa: SIM110
            if test(document):
                return True
        return False

    return one_holds


def _clause(name: str, condition: Any) -> Predicate:
    match name:
        case "$and":
            return _all([predicate_of(part) for part in condition])
        case "$or":
            return _any([predicate_of(part) for part in condition])
        case "$nor":
            denied = _any([predicate_of(part) for part in condition])
            return lambda document: not denied(document)
    if name.startswith("$"):
        return _unknown(name)
    path, holds = name.split("."), _condition(condition)
    return lambda document: holds(_values_at(document, path))


def _unknown(name: str) -> Callable[[Any], bool]:
    def refuse(_: Any) -> bool:
        raise UnknownConditionError(name)

    return refuse


def _values_at(document: Document, path: list[str]) -> list[Any]:
    """What stands at a path; arrays on the way are looked into, one at its end comes as it is."""
    value: Any = document
    for depth, name in enumerate(path):
        if type(value) is not dict:
            return list(_found(value, path[depth:]))
        if name not in value:
            return []
        value = value[name]
    return [value]


def _found(value: Any, path: list[str]) -> Iterator[Any]:
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


def _condition(condition: Any) -> Holds:
    if isinstance(condition, Mapping) and condition and all(key.startswith("$") for key in condition):
        parts = [_operator(key, operand) for key, operand in condition.items()]
        return parts[0] if len(parts) == 1 else lambda values: all(part(values) for part in parts)
    return _equal(condition)


def _operator(name: str, operand: Any) -> Holds:
    match name:
        case "$eq":
            return _equal(operand)
        case "$ne":
            equal = _equal(operand)
            return lambda values: not equal(values)
        case "$in":
            return _among(operand)
        case "$nin":
            among = _among(operand)
            return lambda values: not among(values)
        case "$all":
            each = [_equal(one) for one in operand]
            return lambda values: bool(each) and all(equal(values) for equal in each)
        case "$exists":
            return lambda values: bool(values) == bool(operand)
        case "$not":
            inner = _condition(operand)
            return lambda values: not inner(values)
        case "$gt" | "$gte" | "$lt" | "$lte":
            return lambda values: any(_compares(name, value, operand) for value in _each(values))
        case "$regex":
            return lambda values: any(isinstance(v, str) and _pattern(operand).search(v) for v in _each(values))
        case "$elemMatch":
            matches = _element_test(operand)
            return lambda values: any(matches(element) for v in values if isinstance(v, list | tuple) for element in v)
        case "$size":
            return lambda values: any(isinstance(value, list | tuple) and len(value) == operand for value in values)
        case "$geoWithin":
            return lambda values: any(_is_within(value, operand) for value in _each(values))
    return _unknown(name)


def _among(operand: Sequence[Any]) -> Holds:
    """One of some values; policies hold lists of thousands of patients, so texts are looked up, not walked."""
    if not all(isinstance(one, str) for one in operand):
        tests = [_equal(one) for one in operand]
        return lambda values: any(test(values) for test in tests)
    known = frozenset(operand)

    def among(values: list[Any]) -> bool:
        for value in values:
            if isinstance(value, str):
                if value in known:
                    return True
            elif isinstance(value, ARRAYS):
                for element in value:
                    if isinstance(element, str) and element in known:
                        return True
        return False

    return among


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


def _element_test(condition: Mapping[str, Any]) -> Callable[[Any], bool]:
    if any(key.startswith("$") and key not in ("$and", "$or", "$nor") for key in condition):
        holds = _condition(condition)
        return lambda element: holds([element])
    test = predicate_of(condition)
    return lambda element: isinstance(element, Mapping) and test(element)


def _equal(wanted: Any) -> Holds:
    if isinstance(wanted, str):

        def same_text(values: list[Any]) -> bool:
            for value in values:  # noqa: SIM110
                if value == wanted or (isinstance(value, ARRAYS) and wanted in value):
                    return True
            return False

        return same_text
    return lambda values: _equal_to_any(values, wanted)


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
