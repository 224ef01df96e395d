"""A part of a resource: what `_summary` and `_elements` ask for.

The part is marked, so that nobody stores it over the whole: `meta.tag` gets SUBSETTED.

Spec: https://hl7.org/fhir/R4/search.html#summary, https://hl7.org/fhir/R4/search.html#elements
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from fhir_server.fhirpath.shapes import Shape, members_of, shape_of
from profiles.registry import Element, registry

Json = dict[str, Any]

SUBSETTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "SUBSETTED"}

#: What no part goes without, beside the mandatory elements.
_ALWAYS = frozenset({"resourceType", "id", "meta"})


def subset(resource: Json, *, summary: str | None, elements: tuple[str, ...]) -> Json:
    """The part of a resource that was asked for; the resource itself where that is all of it.

    With both, what is returned satisfies both. The resource is not changed, the part shares its values.

    Args:
        resource: A valid resource.
        summary: The value of `_summary`: `true`, `text`, `data`, or `false` or None for all. (`count` is about a
            search, not about a resource.)
        elements: The values of `_elements`: `name`, or `Patient.name` which says nothing about other types.
    """
    resource_type = resource["resourceType"]
    part = resource
    match summary:
        case "true":
            part = _summarized(part, _summary_of_type(resource_type))
        case "text":
            part = _kept(part, _mandatory(resource_type) | {"text"})
        case "data":
            part = {name: value for name, value in part.items() if name != "text"}
    wanted = _wanted(resource_type, elements)
    if wanted:
        part = _kept(part, wanted)
    return part if part is resource else _marked(part)


def _kept(resource: Json, names: frozenset[str]) -> Json:
    """The members of these names; `_birthDate`, the extensions of a primitive, goes with `birthDate`."""
    return {name: value for name, value in resource.items() if name in names or name.removeprefix("_") in names}


def _marked(part: Json) -> Json:
    meta = part.get("meta", {})
    tags = meta.get("tag", [])
    if not any(tag.get("code") == "SUBSETTED" and tag.get("system") == SUBSETTED["system"] for tag in tags):
        meta = {**meta, "tag": [*tags, SUBSETTED]}
    head: Json = {name: part[name] for name in ("resourceType", "id") if name in part}
    return {**head, "meta": meta, **{name: value for name, value in part.items() if name not in _ALWAYS}}


@cache
def _mandatory(resource_type: str) -> frozenset[str]:
    required = (e for e in registry().types[resource_type].children(resource_type) if e.min > 0)
    return _ALWAYS | {key for element in required for key, _ in _keys(shape_of(resource_type), element)}


@lru_cache(maxsize=1024)
def _wanted(resource_type: str, elements: tuple[str, ...]) -> frozenset[str]:
    """The members that `_elements` keeps; empty where it says nothing about this type."""
    root = shape_of(resource_type)
    named: set[str] = set()
    for text in elements:
        first, _, rest = text.strip().partition(".")
        if first == resource_type:
            first = rest.partition(".")[0]
        elif first[:1].isupper():
            continue  # `Patient.name`, and this is no Patient
        keys = {member.key for member in members_of(registry(), root, first.removesuffix("[x]"))}
        named |= keys or {first}
    return frozenset(named | _mandatory(resource_type)) if named else frozenset()


@dataclass(slots=True)
class _Summary:
    """What the summary keeps of an object: by member, the summary of what is below; None keeps the value whole."""

    members: dict[str, _Summary | None] = field(default_factory=dict)
    required: set[str] = field(default_factory=set)


@cache
def _summary_of_type(resource_type: str) -> _Summary:
    """The summary of a resource type, by the flags in the definitions of its elements and their data types."""
    summary = _summary_of(shape_of(resource_type), {})
    summary.members |= dict.fromkeys(_ALWAYS)
    return summary


def _summary_of(shape: Shape, known: dict[Shape, _Summary]) -> _Summary:
    if shape in known:
        return known[shape]
    summary = known[shape] = _Summary()  # known before its members are: an element may hold itself (Questionnaire.item)
    for element in registry().types[shape.owner].children(shape.path):
        if not (element.summary or element.min > 0):
            continue
        for key, child in _keys(shape, element):
            summary.members[key] = _summary_of(child, known) if _has_flags(child) else None
            if element.min > 0:
                summary.required.add(key)
    return summary


def _has_flags(shape: Shape) -> bool:
    """Whether the definition says at all which parts of a type belong to the summary; otherwise it is kept whole."""
    definition = registry().types[shape.owner]
    if definition.kind == "primitive-type" or (definition.abstract and shape.path == shape.owner):
        return False
    return any(element.summary for element in definition.children(shape.path))


def _keys(shape: Shape, element: Element) -> Iterator[tuple[str, Shape]]:
    for member in members_of(registry(), shape, element.name.removesuffix("[x]")):
        yield member.key, member.shape


def _summarized(node: Json, summary: _Summary) -> Json:
    part: Json = {}
    for name, value in node.items():
        if name not in summary.members:
            if name.startswith("_") and name[1:] in summary.members:
                part[name] = value
            continue
        below = summary.members[name]
        kept = value if below is None else _below(value, below)
        if kept:
            part[name] = kept
        elif kept is value or name in summary.required:
            part[name] = value  # false and 0 are values; a mandatory element with nothing but extensions keeps these
    return part


def _below(value: Any, summary: _Summary) -> Any:
    if type(value) is dict:
        return _summarized(value, summary)
    if type(value) is list:
        return [part for item in value if (part := _summarized(item, summary))]
    return value
