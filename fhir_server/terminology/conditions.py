"""What a value set asks of the codes of one code system: small expressions that any code system can evaluate.

Each is true, false, or not known of a code; not known stays so unless another part of the expression decides.

Spec: https://hl7.org/fhir/R4/valueset.html#compositions, https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Everything:
    """Any code that the system has."""


@dataclass(frozen=True, slots=True)
class Selectable:
    """A code that is no mere heading."""


@dataclass(frozen=True, slots=True)
class Active:
    """A code that has not been retired."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One of some codes."""

    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Filtered:
    """A code that meets a filter."""

    property: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.property} {self.op} {self.value}"


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody here knows: a value set that is not held decides."""

    value_set: str


@dataclass(frozen=True, slots=True)
class All:
    """Each of some conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of some conditions."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that must not be met."""

    part: Condition


Condition: TypeAlias = Everything | Selectable | Active | Listed | Filtered | Unknown | All | Some | Not
Leaf: TypeAlias = Everything | Selectable | Active | Listed | Filtered | Unknown

#: Operators by which R4 filters.
OPERATORS = frozenset({"=", "is-a", "descendent-of", "is-not-a", "regex", "in", "not-in", "generalizes", "exists"})

#: Those that look at the hierarchy.
HIERARCHICAL = frozenset({"is-a", "descendent-of", "is-not-a", "generalizes"})


def both(first: Condition, *others: Condition) -> Condition:
    return All((first, *others)) if others else first


def either(parts: Iterable[Condition]) -> Condition:
    found = tuple(dict.fromkeys(parts))
    return found[0] if len(found) == 1 else Some(found)


def leaves(condition: Condition) -> Iterator[Leaf]:
    """The conditions that have no parts."""
    match condition:
        case All(parts) | Some(parts):
            for part in parts:
                yield from leaves(part)
        case Not(part):
            yield from leaves(part)
        case _:
            yield condition


def judged(condition: Condition, of_leaf: Callable[[Leaf], bool | None]) -> bool | None:
    """The verdict of a condition by the verdicts of its leaves."""
    match condition:
        case All(parts):
            verdict: bool | None = True
            for part in parts:
                found = judged(part, of_leaf)
                if found is False:
                    return False
                verdict = None if found is None else verdict
            return verdict
        case Some(parts):
            verdict = False
            for part in parts:
                found = judged(part, of_leaf)
                if found:
                    return True
                verdict = None if found is None else verdict
            return verdict
        case Not(part):
            found = judged(part, of_leaf)
            return None if found is None else not found
        case _:
            return of_leaf(condition)


def parts_listed(value: str) -> frozenset[str]:
    """The values of `in` and `not-in`, which stand between commas."""
    return frozenset(part.strip() for part in value.split(",") if part.strip())
