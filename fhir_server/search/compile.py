"""A typed search to one MongoDB filter over the index entries.

Deleted resources have no entries, so whatever asks for an entry leaves them out by itself. What does not (no criteria,
negations, `_id`, `_lastUpdated`) is told to.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from fhir_server.search.extraction import PRESENT
from fhir_server.search.query import (
    AllOf,
    AnyOf,
    Chain,
    Comparison,
    Led,
    Listed,
    MissingValue,
    Not,
    Parameter,
    Predicate,
    ReferenceValue,
    Reverse,
    Search,
    Test,
    Value,
    Words,
)
from fhir_server.search.types import compared, composite, date, near, number, quantity, reference, string, token, uri
from fhir_server.search.types.conditions import Filter, either
from profiles.terminology import Terminology

#: Current, and not deleted.
LIVING: Filter = {"d": None}

#: What a resource of a type must meet to be seen, such as the conditions of an access policy: for matches, for what
#: chains look at, and for what is included.
Access = Callable[[str], Iterable[Filter]]


def unrestricted(_: str) -> Iterable[Filter]:
    """The access of who may see everything."""
    return ()


_REVERSED = frozenset(("not", "not-in"))


def filter_of(search: Search, terminology: Terminology, access: Iterable[Filter] = ()) -> Filter:
    """The filter that finds a search's matches.

    Args:
        search: with terminology modifiers already resolved (see `resolve`)
        access: further conditions that a match must meet, such as those of an access policy
    """
    conditions = [condition_of(p, terminology) for p in search.predicates]
    if not any(map(asks_for_entry, search.predicates)):
        conditions.append(LIVING)
    return all_of([*conditions, *access])


def condition_of(predicate: Predicate, terminology: Terminology) -> Filter:
    """The condition of one predicate alone."""
    match predicate:
        case Comparison():
            return _of_comparison(predicate, terminology)
        case AnyOf(predicates):
            return either([condition_of(part, terminology) for part in predicates])
        case AllOf(predicates):
            return all_of([condition_of(part, terminology) for part in predicates])
        case Not(part):
            return {"$nor": [condition_of(part, terminology)]}
        case Test(parameter, operator, value):
            return compared.condition(parameter, operator, value, terminology)
        case Words():
            return predicate.condition
        case Led(references, containers):
            known = [references] if containers is None else [references, containers]
            return either([condition_of(comparison, terminology) for comparison in known])
        case Chain() | Reverse() | Listed():
            raise AssertionError("what other resources say is looked up before a search is compiled: see `follow`")


def asks_for_entry(predicate: Predicate) -> bool:
    """Whether a document without index entries can never match."""
    match predicate:
        case Comparison(parameter, modifier, values):
            if modifier == "missing":
                return values == (MissingValue(False),) and parameter.field.startswith("x.")
            return modifier not in _REVERSED and parameter.field.startswith("x.")
        case AnyOf(predicates):
            return all(map(asks_for_entry, predicates))
        case AllOf(predicates):
            return any(map(asks_for_entry, predicates))
        case Test(parameter):
            return parameter.field.startswith("x.")
        case Led(references, containers):
            return containers is None and asks_for_entry(references)
        case Not() | Words():
            return False
        case Chain():
            return True
        case Reverse() | Listed():
            return False


def all_of(conditions: Sequence[Filter]) -> Filter:
    """All conditions hold; they stay one flat document as long as no two speak about one field."""
    merged: Filter = {}
    for condition in conditions:
        if condition.keys().isdisjoint(merged):
            merged.update(condition)
        else:
            return {"$and": [c for c in conditions if c]}
    return merged


def _of_comparison(comparison: Comparison, terminology: Terminology) -> Filter:
    parameter, modifier, values = comparison.parameter, comparison.modifier, comparison.values
    if modifier == "missing":
        return _of_missing(parameter.field, {v.missing for v in values if isinstance(v, MissingValue)})
    condition = _found_by(parameter, modifier, values, terminology)
    return {"$nor": [condition]} if modifier in _REVERSED else condition


def _found_by(parameter: Parameter, modifier: str | None, values: Sequence[Value], terminology: Terminology) -> Filter:
    """The condition on a parameter's own field, or on those of others whose indexes lead to its matches."""
    if parameter.parts:
        return either([_found_by(part, modifier, values, terminology) for part in parameter.parts])
    condition = _matches(parameter, parameter.field, modifier, values, terminology)
    if parameter.within is None:
        return condition
    wider = _matches(parameter, parameter.within, modifier, values, terminology)
    return wider if _are_of_its_type(parameter, values) else all_of([wider, condition])


def _are_of_its_type(parameter: Parameter, values: Sequence[Value]) -> bool:
    """Whether these are local references that say the type: a wider parameter has them exactly where this one has."""
    entries = [entry for v in values for entry in (v.entries if isinstance(v, ReferenceValue) else ("",))]
    return all(entry.partition("/")[0] in parameter.targets for entry in entries)


def _of_missing(field: str, wanted: set[bool]) -> Filter:
    if len(wanted) == 2:
        return {}
    exists = wanted == {False}
    if field.startswith("x."):
        there: list[Filter] = [{field: {"$exists": True}}, {field + PRESENT: True}]
        return {"$or": there} if exists else {"$nor": there}
    return {} if exists else {"_id": {"$in": []}}  # every resource has an id and a moment


def _of_part(terminology: Terminology) -> composite.Condition:
    """The conditions in a composite: on a component's entries in it, and on the field of the parameter it is like."""

    def condition(parameter: Parameter, field: str, values: Sequence[Value]) -> Filter:
        if field == parameter.field:
            return _found_by(parameter, None, values, terminology)
        return _matches(parameter, field, None, values, terminology)

    return condition


def _matches(
    parameter: Parameter, field: str, modifier: str | None, values: Sequence[Value], terminology: Terminology
) -> Filter:
    match parameter.type:
        case "token":
            if field == "_id":
                return token.id_condition(values)
            return token.condition(field, modifier, values, terminology)
        case "reference":
            return reference.condition(field, modifier, values, terminology)
        case "string":
            return string.condition(field, modifier, values)
        case "date":
            if field == "t":
                return date.instant_condition(values)
            if parameter.bare and field == parameter.field:
                return date.bare_condition(field, values, parameter.longest_us)
            return date.condition(field, values, parameter.longest_us)
        case "number":
            return number.condition(field, values)
        case "quantity":
            return quantity.condition(field, values)
        case "uri":
            return uri.condition(field, modifier, values)
        case "special":
            return near.condition(field, values)
        case "composite":
            return composite.condition(parameter, values, _of_part(terminology))
        case other:
            raise AssertionError(f"no condition is made for parameters of type {other}")
