"""The indexes of a type's collection: one for each search parameter, partial, so that absent entries cost nothing.

MongoDB refuses a document that has arrays in two fields of one compound index ("cannot index parallel arrays", also
when each has one element), so there is none for two parameters whose entries are lists. A patient's reference and a
date are bare entries, though: the types that charts read have compound indexes of those, with and without a code (see
`search.charts`). The dates in them also stand for the documents without a date, which come last going down.

No index have: composites (their first component's index leads to them), `:exact` (the normalized entries lead there),
`:text`, and parameters that find what others find (`patient` of `subject`, `combo-code`: see `search.overlap`).

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.search.charts import CHARTS
from fhir_server.search.inside import FIELD, KEYS, containers
from fhir_server.search.lineage import ABOUT, PROVENANCE
from fhir_server.search.lineage import FIELD as ABOUT_FIELD
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Parameter
from profiles.registry import Registry

#: MongoDB allows 64 for a collection, its own on `_id` included; a few stay free for the store.
MOST = 60


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """One index: the fields with their directions (or kinds), and what a document must have to be in it."""

    name: str
    keys: tuple[tuple[str, int | str], ...]
    partial: dict[str, Any] | None = None


#: Begins the names of the indexes of the operator's own parameters.
OWN = "own:"


def indexes_of(resource_type: str, registry: Registry) -> tuple[IndexSpec, ...]:
    """The indexes of a type's collection, the most needed first, at most 60."""
    return registry.kept(_indexes_of)(resource_type)


def _indexes_of(registry: Registry, resource_type: str) -> tuple[IndexSpec, ...]:
    parameters = list(table_of(resource_type, registry).parameters.values())
    specs = [IndexSpec("_lastUpdated", (("t", 1), ("_id", 1)))]
    if resource_type in containers(registry):
        field = f"{FIELD}.{KEYS}"
        specs.append(IndexSpec("contained", ((field, 1), ("_id", 1)), {field: {"$exists": True}}))
    specs += _of_charts(resource_type)
    specs += [_of_field(f"x.{code}", code) for code in registry.full_text]
    if resource_type == PROVENANCE:
        specs.append(_of_field(ABOUT_FIELD, ABOUT))
    for parameter in [p for p in parameters if p.own]:
        specs += [replace(spec, name=OWN + spec.name) for spec in _of_entries(parameter)]
    parameters = [p for p in parameters if not p.own]
    for parameter in parameters:
        if parameter.within is None and not parameter.parts:
            specs += _of_entries(parameter)
    specs += [_of_field(p.field + ":of-type", p.code + ":of-type") for p in parameters if p.identifies]
    references = [p for p in parameters if p.type == "reference" and not p.canonical and p.within is None]
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
            span = _of_pair(field, code, "s", "e", bare=parameter.bare)
            yield replace(span, partial=None) if parameter.charted else span
            if parameter.longest_us is None:  # "ends after": its starts may lie anywhere before
                yield _of_pair(field, f"{code}:end", "e", "s", bare=parameter.bare)
        case "number":
            yield _of_pair(field, code, "l", "h")
        case "quantity":
            yield _of_pair(field, code, "l", "h")
            yield _of_pair(field, f"{code}:canonical", "cu", "cl")
        case "special":
            yield IndexSpec(code, ((field, "2dsphere"),))


def _of_charts(resource_type: str) -> Iterator[IndexSpec]:
    chart = CHARTS.get(resource_type)
    if chart is None:
        return
    ways: list[tuple[str, ...]] = [(chart.patient, date) for date in chart.dates]
    ways += [(chart.patient, token, chart.dates[0]) for token in chart.tokens]
    for way in ways:
        *equal, date = [f"x.{code}" for code in way]
        keys = (*((field, 1) for field in equal), (f"{date}.s", -1), (f"{date}.e", -1), ("_id", -1))
        yield IndexSpec("+".join(way), keys, {field: {"$exists": True} for field in equal})


def _of_field(field: str, name: str) -> IndexSpec:
    return IndexSpec(name, ((field, 1), ("_id", 1)), {field: {"$exists": True}})


def _of_pair(field: str, name: str, first: str, second: str, *, bare: bool = False) -> IndexSpec:
    """Of a list, whoever asks for an entry names the list; of a bare entry, its ends."""
    keys = ((f"{field}.{first}", 1), (f"{field}.{second}", 1), ("_id", 1))
    return IndexSpec(name, keys, {keys[0][0] if bare else field: {"$exists": True}})
