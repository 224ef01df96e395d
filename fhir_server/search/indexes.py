"""The indexes of a type's collection: one for each search parameter, partial, so that absent entries cost nothing.

All entries are arrays, and MongoDB refuses a document that has arrays in two fields of one compound index ("cannot
index parallel arrays", also when each has one element). So there is no index for `patient` with `date` or `code`
together: the planner takes the most selective one. Composites have none (their first component's index leads to them),
neither have `:exact` (the normalized entries lead there) and `:text`.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fhir_server.search.parameters import table_of
from fhir_server.search.query import Parameter
from profiles.registry import Registry

#: MongoDB allows 64 for a collection, its own on `_id` included; a few stay free for the store.
MOST = 60


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One index: the fields with their directions, and what a document must have to be in it."""

    name: str
    keys: tuple[tuple[str, int], ...]
    partial: dict[str, Any] | None = None


@lru_cache(maxsize=1024)
def indexes_of(resource_type: str, registry: Registry) -> tuple[IndexSpec, ...]:
    """The indexes of a type's collection, the most needed first, at most 60."""
    parameters = list(table_of(resource_type, registry).parameters.values())
    specs = [IndexSpec("_lastUpdated", (("t", 1), ("_id", 1)))]
    for parameter in parameters:
        specs += _of_entries(parameter)
    specs += [_of_field(p.field + ":of-type", p.code + ":of-type") for p in parameters if p.identifies]
    references = [p for p in parameters if p.type == "reference" and not p.canonical]
    specs += [_of_field(p.field + ":identifier", p.code + ":identifier") for p in references]
    return tuple(specs[:MOST])


def _of_entries(parameter: Parameter) -> Iterator[IndexSpec]:
    code, field = parameter.code, parameter.field
    if not field.startswith("x."):
        return
    match parameter.type:
        case "token" | "string" | "reference" | "uri":
            yield _of_field(field, code)
        case "date":
            yield _of_pair(field, code, "s", "e")
            if parameter.longest_us is None:  # "ends after": its starts may lie anywhere before
                yield _of_pair(field, f"{code}:end", "e", "s")
        case "number":
            yield _of_pair(field, code, "l", "h")
        case "quantity":
            yield _of_pair(field, code, "l", "h")
            yield _of_pair(field, f"{code}:canonical", "cu", "cl")


def _of_field(field: str, name: str) -> IndexSpec:
    return IndexSpec(name, ((field, 1), ("_id", 1)), {field: {"$exists": True}})


def _of_pair(field: str, name: str, first: str, second: str) -> IndexSpec:
    keys = ((f"{field}.{first}", 1), (f"{field}.{second}", 1), ("_id", 1))
    return IndexSpec(name, keys, {field: {"$exists": True}})
