"""A typed search to one MongoDB filter over the index entries.

Deleted resources have no entries, so whatever asks for an entry leaves them out by itself. What does not (no criteria,
negations, `_id`, `_lastUpdated`) is told to.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_server.search.query import Comparison, MissingValue, Parameter, Predicate, Search, Value
from fhir_server.search.types import composite, date, number, quantity, reference, string, token, uri
from fhir_server.search.types.conditions import Filter
from profiles.terminology import Terminology

#: Current, and not deleted.
LIVING: Filter = {"d": None}

_REVERSED = frozenset(("not", "not-in"))


def filter_of(search: Search, terminology: Terminology, access: Iterable[Filter] = ()) -> Filter:
    """The filter that finds a search's matches.

    Args:
        search: with terminology modifiers already resolved (see `resolve`)
        access: further conditions that a match must meet, such as those of an access policy
    """
    predicates = search.predicates
    conditions = [condition_of(p, terminology) for p in predicates]
    if len(predicates) > 1:
        conditions = _with_ranges_joined(predicates, conditions)
    if not any(map(asks_for_entry, predicates)):
        conditions.append(LIVING)
    return all_of([*conditions, *access])


def condition_of(predicate: Predicate, terminology: Terminology) -> Filter:
    """The condition of one predicate alone."""
    match predicate:
        case Comparison():
            return _of_comparison(predicate, terminology)


def asks_for_entry(predicate: Predicate) -> bool:
    """Whether a document without index entries can never match."""
    match predicate:
        case Comparison(parameter, modifier, values):
            if modifier == "missing":
                return values == (MissingValue(False),) and parameter.field.startswith("x.")
            return modifier not in _REVERSED and parameter.field.startswith("x.")


def all_of(conditions: Sequence[Filter]) -> Filter:
    """All conditions hold; they stay one flat document as long as no two speak about one field."""
    merged: Filter = {}
    for condition in conditions:
        if condition.keys().isdisjoint(merged):
            merged.update(condition)
        else:
            return {"$and": [c for c in conditions if c]}
    return merged


def _with_ranges_joined(predicates: Sequence[Predicate], conditions: list[Filter]) -> list[Filter]:
    """`date=ge2020-01-01&date=lt2020-02-01` as one condition, which an index can walk from one end to the other.

    Two conditions may be met by two dates of a resource; where it can have only one, they are the same as one.
    """
    by_field: dict[str, list[int]] = {}
    for position, predicate in enumerate(predicates):
        match predicate:
            case Comparison(Parameter(type="date", single=True, field=field), None, (_,)) if field != "t":
                by_field.setdefault(field, []).append(position)
    joined = list(conditions)
    for field, positions in by_field.items():
        if len(positions) > 1:
            parts = [conditions[position][field]["$elemMatch"] for position in positions]
            joined[positions[0]] = {field: {"$elemMatch": _joined(parts)}}
            for position in positions[1:]:
                joined[position] = {}
    return joined


def _joined(parts: list[Filter]) -> Filter:
    """One flat condition: the index takes no bounds from below an `$and`."""
    merged: Filter = {}
    choices: list[Filter] = []
    for part in parts:
        for name, condition in part.items():
            if name == "$or":
                choices.append({"$or": condition})
            elif merged.get(name, {}).keys().isdisjoint(condition):
                merged[name] = {**merged.get(name, {}), **condition}
            else:
                choices.append({name: condition})
    return {**merged, "$and": choices} if choices else merged


def _of_comparison(comparison: Comparison, terminology: Terminology) -> Filter:
    parameter, modifier, values = comparison.parameter, comparison.modifier, comparison.values
    if modifier == "missing":
        return _of_missing(parameter.field, {v.missing for v in values if isinstance(v, MissingValue)})
    condition = _matches(parameter, parameter.field, modifier, values, terminology)
    return {"$nor": [condition]} if modifier in _REVERSED else condition


def _of_missing(field: str, wanted: set[bool]) -> Filter:
    if len(wanted) == 2:
        return {}
    exists = wanted == {False}
    if field.startswith("x."):
        return {field: {"$exists": exists}}
    return {} if exists else {"_id": {"$in": []}}  # every resource has an id and a moment


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
            return date.condition(field, values, parameter.longest_us)
        case "number":
            return number.condition(field, values)
        case "quantity":
            return quantity.condition(field, values)
        case "uri":
            return uri.condition(field, modifier, values)
        case "composite":
            return composite.condition(parameter, values, lambda p, f, v: _matches(p, f, None, v, terminology))
        case other:
            raise AssertionError(f"no condition is made for parameters of type {other}")
