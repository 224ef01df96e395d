"""Contained resources in the index: what can be found in them stands in the document of their container.

A document has its contained resources as `c`, in the order of their ids; one without any has no `c`, and costs
nothing. Each has its own id as `_id`, its type as `y`, and its entries as `x`, exactly as a resource that stands by
itself, so that a condition on such a resource is one on an element of `c`. One index over all their keys `k` leads
there:

| key | the contained resource |
|---|---|
| `Medication` | is of this type |
| `Medication<medication` | is, and a parameter of its container refers to it |
| `Substance<medication.ingredient` | is, and a parameter of that one refers to it |
| `Medication.code =123` | is, and has this entry of a parameter |

Spec: https://hl7.org/fhir/R4/search.html#contained, https://hl7.org/fhir/R4/references.html#contained
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fhir_server.search.entries import INSIDE
from fhir_server.search.types.conditions import Filter, after
from fhir_server.search.words import CONTENT, TEXT
from profiles.registry import Registry

#: Of a document, its contained resources; of one of these, its type and its keys.
FIELD, TYPE, KEYS = "c", "y", "k"

_KEYS = f"{FIELD}.{KEYS}"

#: Words lead to a resource by one after the other; the type is enough of a lead to contained ones.
_UNLED = frozenset((TEXT, CONTENT))

#: From one contained resource to another, keys lead so far, and so many of a container.
MOST_STEPS = 3
MOST_WAYS = 1000

_LOGICAL = frozenset(("$and", "$or", "$nor"))


def containers(registry: Registry) -> frozenset[str]:
    """The resource types that can contain resources: all but Bundle, Binary and Parameters."""
    return registry.shared(_containers)()


def _containers(registry: Registry) -> frozenset[str]:
    return frozenset(name for name in registry.resource_types if registry.types[name].base == "DomainResource")


# --- what is stored ---------------------------------------------------------------------------------------------------


def rows_of(
    contained: Sequence[dict[str, Any]], indexed: Iterable[dict[str, Any]], of_container: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What a document has as `c`.

    Args:
        contained: the contained resources
        indexed: the index entries of each
        of_container: the index entries of their container
    """
    entries_of = {resource["id"]: entries for resource, entries in zip(contained, indexed, strict=True)}
    ways = _ways(of_container, entries_of)
    rows = [
        {
            "_id": resource["id"],
            TYPE: resource["resourceType"],
            KEYS: list(_keys(resource["resourceType"], entries_of[resource["id"]], ways.get(resource["id"], ()))),
            "x": entries_of[resource["id"]],
        }
        for resource in contained
    ]
    return sorted(rows, key=lambda row: str(row["_id"]))


def _ways(of_container: Mapping[str, Any], entries_of: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, None]]:
    """By the id of a contained resource, the ways to it: parameters of the container, and of one another."""
    ways: dict[str, dict[str, None]] = {}
    pending = [("", of_container)]
    for before, entries in pending:  # grows
        for name, found in entries.items():
            if not name.endswith(INSIDE):
                continue
            way = before + name.removesuffix(INSIDE)
            for contained_id in found:
                known = ways.setdefault(contained_id, {})
                if way not in known and len(pending) < MOST_WAYS:
                    known[way] = None
                    pending.append((f"{way}.", entries_of.get(contained_id, {}) if way.count(".") < MOST_STEPS else {}))
    return ways


def _keys(resource_type: str, entries: Mapping[str, Any], ways: Iterable[str]) -> Iterable[str]:
    yield resource_type
    for way in ways:
        yield _way_key(resource_type, way)
    for code, found in entries.items():
        values = (found,) if type(found) is str else found
        if ":" not in code and code not in _UNLED and type(values) is not dict and type(values[0]) is str:
            prefix = _prefix(resource_type, code)
            yield from (prefix + value for value in values)


def _way_key(resource_type: str, way: str) -> str:
    return f"{resource_type}<{way}"


def _prefix(resource_type: str, code: str) -> str:
    return f"{resource_type}.{code} "


# --- what is asked ----------------------------------------------------------------------------------------------------


def containing(resource_type: str, condition: Filter, way: str | None = None) -> Filter:
    """The documents with a contained resource that meets a condition.

    Args:
        resource_type: of the contained resource
        condition: as it is compiled for resources of this type
        way: the parameters that lead to it from its container, such as `medication.ingredient`; None for any, or none
    """
    inner: list[Filter] = [{TYPE: resource_type}, condition]
    lead = _lead(resource_type, condition)
    keys = [lead] if lead else []
    if way is not None:
        key = _way_key(resource_type, way)
        inner.append({KEYS: key})
        keys.append({_KEYS: key})
    elif not keys:
        keys.append({_KEYS: resource_type})
    # Said outside as well: within `$elemMatch`, the planner does not see that the partial index holds all matches.
    return {"$and": [*keys, {FIELD: {"$elemMatch": {"$and": inner}}}]}


def unwound(resource_type: str, condition: Filter) -> Filter:
    """The same condition on a document that has one of its contained resources as `c`, no longer a list."""
    return _below(f"{FIELD}.", {"$and": [{TYPE: resource_type}, condition]})


def _lead(resource_type: str, condition: Filter) -> Filter | None:
    """What the keys of every resource are that meets a condition, as far as one condition on them tells."""
    for field, wanted in condition.items():
        if field in _LOGICAL:
            leads = [_lead(resource_type, part) for part in wanted] if field != "$nor" else []
            known = [lead for lead in leads if lead is not None]
            if field == "$and" and known:
                return known[0]
            if field == "$or" and known and len(known) == len(leads):
                return {"$or": known}
        elif field.startswith("x.") and ":" not in field and field[2:] not in _UNLED:
            found = _of_keys(_prefix(resource_type, field[2:]), wanted)
            if found is not None:
                return {_KEYS: found}
    return None


def _of_keys(prefix: str, wanted: Any) -> Any:
    """A condition on entries as one on keys; None for one that is not on their text."""
    match wanted:
        case str():
            return prefix + wanted
        case {"$in": [*entries], **others} if entries and not others and all(type(e) is str for e in entries):
            return {"$in": [prefix + entry for entry in entries]}
        case {"$elemMatch": {"$gte": str(low), **others}} if others.keys() <= {"$lt"}:
            end = prefix + str(others["$lt"]) if others else after(prefix)
            return {"$elemMatch": {"$gte": prefix + low, "$lt": end}}
    return None


def _below(prefix: str, condition: Filter) -> Filter:
    """The condition with the names of its fields below another."""
    moved: Filter = {}
    for field, wanted in condition.items():
        if field in _LOGICAL:
            moved[field] = [_below(prefix, part) for part in wanted]
        else:
            moved[prefix + field] = wanted
    return moved


# --- what is shown ----------------------------------------------------------------------------------------------------


def rows_in(row: Mapping[str, Any], resource_type: str) -> list[dict[str, Any]]:
    """The contained resources of a type that a row has: all of them, or the one that it is about."""
    found = row.get(FIELD, ())
    return [inner for inner in ([found] if type(found) is dict else found) if inner.get(TYPE) == resource_type]
