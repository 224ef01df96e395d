"""The values of a FHIRPath Patch: from a parameter's typed `value[x]`, or its parts, to what stands in the resource.

Spec: https://hl7.org/fhir/R4/fhirpatch.html, https://hl7.org/fhir/R4/parameters.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from fhir_server.fhirpath.kinds import Field, Kind, Kinds
from fhir_server.patching.document import Json, copied
from fhir_server.patching.fault import lost, malformed, unfit
from fhir_server.patching.rows import Row, rows_of, write_rows

PARAMETER = "Parameters.parameter"


@dataclass(frozen=True, slots=True)
class Given:
    """A value that a patch gives: a typed one, or one put together from parts, whose type is that of its place.

    `place` is where it stands in the Parameters.
    """

    kind: Kind | None
    row: Row
    parts: tuple[tuple[str, Given], ...]
    place: str


def given_of(part: Json, kinds: Kinds, place: str) -> Given:
    """The value of one parameter or part.

    Raises:
        InvalidError: 400; it has no value, or several.
    """
    typed = _typed_fields(kinds)
    named = {typed[key] for key, value in part.items() if key in typed and value is not None}
    inner, resource = part.get("part"), part.get("resource")
    if len(named) + (inner is not None) + (resource is not None) != 1:
        raise malformed(f"{place} must have one value: a `value[x]`, a `resource` or `part`s.", place)
    if named:
        field = named.pop()
        row = Row(copied(part.get(field.key)), copied(part.get(field.twin)) if field.kind.is_primitive else None)
        return Given(field.kind, row, (), f"{place}.{field.key}")
    if resource is not None:
        name = resource.get("resourceType") if type(resource) is dict else None
        kind = kinds.named(name) if type(name) is str else None
        if kind is None or not kind.is_resource:
            raise malformed(f"{place}.resource is no resource.", f"{place}.resource")
        return Given(kind, Row(copied(resource)), (), f"{place}.resource")
    return Given(None, Row(None), _parts_of(inner, kinds, f"{place}.part"), place)


def linked(given: Given, name: str, rewrite: Callable[[Json], bool]) -> Given:
    """The same value with its links rewritten, judged by the member that it will be."""
    if given.kind is None:
        return replace(given, parts=tuple((part, linked(value, part, rewrite)) for part, value in given.parts))

    def rewritten(member: str, value: Any) -> Any:
        holder = {member: copied(value)}
        rewrite(holder)
        return holder[member]

    value = rewritten(name, given.row.value)
    if type(value) is str:  # of a choice it will be `valueUri`, say
        value = rewritten(f"{name}{given.kind.name[0].upper()}{given.kind.name[1:]}", value)
    return replace(given, row=Row(value, rewritten(f"_{name}", given.row.twin)))


def _typed_fields(kinds: Kinds) -> dict[str, Field]:
    parameter = kinds.named(PARAMETER)
    assert parameter is not None
    return parameter.by_key("value")


def _parts_of(inner: Any, kinds: Kinds, place: str) -> tuple[tuple[str, Given], ...]:
    if type(inner) is not list or not inner:
        raise malformed(f"{place} is no array of parts.", place)
    parts = []
    for index, part in enumerate(inner):
        name = part.get("name") if type(part) is dict else None
        if type(name) is not str:
            raise malformed(f"{place}[{index}] has no name.", f"{place}[{index}]")
        parts.append((name, given_of(part, kinds, f"{place}[{index}]")))
    return tuple(parts)


def fields_named(kind: Kind, name: str) -> tuple[Field, ...]:
    """The element of a name, once per type if it is a choice; `valueQuantity` is its one type alone."""
    return kind.fields_named(name) or tuple(field for field in kind.all_fields() if field.key == name)


def fitted(given: Given, fields: tuple[Field, ...]) -> tuple[Field, Row]:
    """A value as it will stand in the resource, and which of some fields (the types of a choice) it is for.

    Raises:
        UnprocessableError: 422; it is of none of their types.
    """
    if given.kind is None:
        return _assembled(given, fields)
    kind = given.kind
    exact = [field for field in fields if field.kind.name == kind.name]
    fitting = exact or [field for field in fields if _stands_for(given, field.kind)]
    if len(fitting) != 1:
        expected = ", ".join(sorted(field.kind.name for field in fields))
        raise unfit(f"{given.place} is a {kind.name}; expected {expected[:300]}.", given.place)
    return fitting[0], Row(copied(given.row.value), copied(given.row.twin))


def _stands_for(given: Given, wanted: Kind) -> bool:
    """Whether a value of one type can be one of another: a string for any text, a Quantity for an Age."""
    kind = given.kind
    assert kind is not None
    if not kind.is_primitive or not wanted.is_primitive:
        return kind.is_a(wanted.name) or (not wanted.is_primitive and wanted.is_a(kind.name))
    value = given.row.value
    match wanted.system:
        case _ if value is None:
            return True
        case "Boolean":
            return type(value) is bool
        case "Integer":
            return type(value) is int
        case "Decimal":
            return type(value) is not bool and isinstance(value, (int, Decimal))
    return type(value) is str


def _assembled(given: Given, fields: tuple[Field, ...]) -> tuple[Field, Row]:
    complex_fields = [field for field in fields if not field.kind.is_primitive]
    if len(complex_fields) != 1 or complex_fields[0].kind.is_resource:
        expected = ", ".join(sorted(field.kind.name for field in fields))
        raise unfit(f"{given.place} has parts; a typed value was expected: {expected[:300]}.", given.place)
    field = complex_fields[0]
    value: Json = {}
    for name, part in given.parts:
        add(value, field.kind, name, part)
    return field, Row(value)


def add(holder: Json, kind: Kind, name: str, given: Given) -> None:
    """Append a value to a repeating element of an object, or set one that it does not have.

    Raises:
        UnprocessableError: 422; there is no such element, it is there already, or the value does not fit.
    """
    fields = fields_named(kind, name)
    if not fields:
        raise lost(f"{kind.name} has no element {name[:80]!r}.", given.place)
    field, row = fitted(given, fields)
    if not field.many:
        choice = kind.fields_named(field.element.name.removesuffix("[x]")) if field.element else fields
        standing = next((f.key for f in choice if rows_of(holder, f)), None)
        if standing is not None:
            raise lost(f"{standing!r} has a value, and only one; it can be replaced.", given.place)
    write_rows(holder, field, [*rows_of(holder, field), row])
