"""Conditions on JSON objects as closures: what `direct` puts together.

Truth has three values, as in FHIRPath: None is unknown.

Spec: http://hl7.org/fhirpath/N1/#boolean-logic
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fhir_server.fhirpath.kinds import Field

#: What a condition says of a value: true, false, or None where FHIRPath is empty.
Condition = Callable[[Any], bool | None]
#: The objects that a path finds below an object.
Objects = Callable[[Any], list[Any]]

#: The length of a moment with seconds and a zone of its own; a leap second is none that Python knows.
_TO_THE_SECOND = len("2018-05-01T10:00:00+02:00")


def present(fields: tuple[Field, ...]) -> Condition:
    """One of some members is there, or has extensions alone."""
    if len(fields) == 1:
        (field,) = fields
        key, twin = field.key, field.twin
        if not field.kind.is_primitive:
            return lambda value: key in value
        return lambda value: key in value or twin in value
    keys = frozenset(key for field in fields for key in (field.key, field.twin))
    return lambda value: not keys.isdisjoint(value)


def has_value(field: Field) -> Condition | None:
    """A primitive has a value; None for what is no single primitive."""
    if field.many or not field.kind.is_primitive:
        return None
    key = field.key
    return lambda value: key in value


def equals(field: Field, wanted: str, *, equal: bool) -> Condition:
    """A string is, or with `equal` false is not, what is wanted; unknown where it is missing."""
    key, twin = field.key, field.twin

    def evaluate(value: Any) -> bool | None:
        found = value.get(key)
        if found is None and twin not in value:
            return None
        return (found == wanted) is equal

    return evaluate


def among(field: Field, listed: frozenset[str]) -> Condition:
    """A string is one of those listed; unknown where it is missing."""
    key, twin = field.key, field.twin

    def evaluate(value: Any) -> bool | None:
        found = value.get(key)
        if found is None and twin not in value:
            return None
        return found in listed

    return evaluate


def ordered(one: str, other: str, otherwise: Condition) -> Condition:
    """Whether one member is not after another, both dates: equally precise, their texts or their instants tell."""

    def evaluate(value: Any) -> bool | None:
        first, second = value.get(one), value.get(other)
        if type(first) is str and type(second) is str and len(first) == len(second):
            if _are_of_one_zone(first, second):
                return first <= second
            if len(first) == _TO_THE_SECOND and first[17:19] != "60" != second[17:19]:
                return datetime.fromisoformat(first) <= datetime.fromisoformat(second)
        return otherwise(value)

    return evaluate


def _are_of_one_zone(one: str, other: str) -> bool:
    """Of two texts of one length: whether they are dates, or moments in the same zone."""
    if len(one) <= len("2018-05-01"):
        return True
    return one[-1] == "Z" == other[-1] or (one[-6] in "+-" and one[-6:] == other[-6:])


def itself(value: Any) -> list[Any]:
    return [value]


def members(above: Objects, field: Field) -> Objects:
    """The values of one member of the objects that a path finds."""
    key = field.key

    def objects(value: Any) -> list[Any]:
        found: list[Any] = []
        for item in above(value):
            child = item.get(key)
            if child is None:
                continue
            if type(child) is list:
                found += child
            else:
                found.append(child)
        return found

    return objects


def passes(test: Condition) -> Condition:
    """The value passes a test; what is unknown does not."""
    return lambda value: test(value) is True


def any_of(objects: Objects, test: Condition) -> Condition:
    """One of the objects passes a test."""

    def evaluate(value: Any) -> bool:
        for item in objects(value):  # noqa: SIM110  (a generator would cost more than the loop)
            if test(item):
                return True
        return False

    return evaluate


def alike(first: Condition, second: Condition, *, equal: bool) -> Condition:
    """Two conditions that always have an answer have the same, or with `equal` false another."""
    return lambda value: (first(value) is second(value)) is equal


def negated(condition: Condition) -> Condition:
    def evaluate(value: Any) -> bool | None:
        found = condition(value)
        return None if found is None else not found

    return evaluate


def both(first: Condition, second: Condition) -> Condition:
    def evaluate(value: Any) -> bool | None:
        one = first(value)
        if one is False:
            return False
        other = second(value)
        if other is False:
            return False
        return None if one is None or other is None else True

    return evaluate


def either(first: Condition, second: Condition) -> Condition:
    def evaluate(value: Any) -> bool | None:
        one = first(value)
        if one is True:
            return True
        other = second(value)
        if other is True:
            return True
        return None if one is None or other is None else False

    return evaluate


def one_of_two(first: Condition, second: Condition) -> Condition:
    def evaluate(value: Any) -> bool | None:
        one, other = first(value), second(value)
        return None if one is None or other is None else one is not other

    return evaluate


def implied(first: Condition, second: Condition) -> Condition:
    def evaluate(value: Any) -> bool | None:
        one = first(value)
        if one is False:
            return True
        other = second(value)
        return other if other is True or one is True else None

    return evaluate


LOGIC: dict[str, Callable[[Condition, Condition], Condition]] = {
    "and": both,
    "or": either,
    "xor": one_of_two,
    "implies": implied,
}
