"""What a search says already need not be said again: the part of a policy's filter that it leaves open.

A clinician of hundreds of patients who searches `Observation?patient=p5` asks for what is about p5. That is a patient
of theirs, so the list of all of them adds nothing but work: in the query, and for the database, which would weigh the
index of the list against that of the search. What is left is mostly short, and the same for many callers, so that their
searches can be gathered like those of anybody else.

Only one rule is used, and only on the conditions that all must hold: who has one of some values in a field has one of
any greater set. Whatever is not seen to follow stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_server.search.compile import all_of
from fhir_server.search.types.conditions import Filter

#: A conjunct that can follow: alternatives, each a field and the values of which it may have any.
Alternatives = tuple[tuple[str, frozenset[str]], ...]

#: Short conditions that are kept, so that equal ones are one object whatever policy they come from.
KEPT = 512
SHORT = 2_000

_known: dict[str, Filter] = {}


class Remainder:
    """A filter, taken apart once; `beside` gives what of it another filter does not imply."""

    def __init__(self, condition: Filter) -> None:
        parts: list[Filter] = []
        for part in conjuncts_of(condition):
            if part not in parts:
                parts.append(part)
        self._parts = parts
        self._alternatives = [alternatives_of(part) for part in parts]
        self._left: dict[tuple[int, ...], Filter] = {}

    def beside(self, filter: Mapping[str, Any]) -> Filter:
        """What must hold beside a filter; empty where that implies it all. The same object for the same rest."""
        facts = dict(facts_of(filter))
        left = tuple(n for n, ways in enumerate(self._alternatives) if not _follows(ways, facts))
        found = self._left.get(left)
        if found is None:
            found = self._left[left] = interned(all_of([self._parts[n] for n in left]))
        return found


def conjuncts_of(filter: Mapping[str, Any]) -> Iterator[Filter]:
    """The conditions that all must hold, each by itself."""
    for name, condition in filter.items():
        if name == "$and":
            for part in condition:
                yield from conjuncts_of(part)
        else:
            yield {name: condition}


def alternatives_of(part: Filter) -> Alternatives:
    """The ways in which a condition follows from what a field has; none where it is of another kind."""
    ((name, condition),) = part.items()
    found: list[tuple[str, frozenset[str]]] = []
    for way in condition if name == "$or" else (part,):
        if len(way) == 1:
            ((field, inner),) = way.items()
            if not field.startswith("$") and (values := values_of(inner)) is not None:
                found.append((field, values))
    return tuple(found)


def values_of(condition: Any) -> frozenset[str] | None:
    """The texts of which a field must have one; None where the condition says something else."""
    if type(condition) is str:
        return frozenset((condition,))
    if type(condition) is dict and condition.keys() == {"$in"} and all(type(v) is str for v in condition["$in"]):
        return frozenset(condition["$in"])
    return None


def facts_of(filter: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """Of each field what a filter says that it has one of; of several such sayings about a field, the last."""
    for part in conjuncts_of(filter):
        ((field, condition),) = part.items()
        if not field.startswith("$") and (values := values_of(condition)):
            yield field, values


def _follows(ways: Alternatives, facts: Mapping[str, frozenset[str]]) -> bool:
    return any(field in facts and facts[field] <= values for field, values in ways)


def interned(condition: Filter) -> Filter:
    """The same condition, one object for all that are equal; long ones stay as they are."""
    text = repr(condition)
    if len(text) > SHORT:
        return condition
    if len(_known) >= KEPT:
        _known.clear()
    return _known.setdefault(text, condition)
