"""Which fields a value has, from the definitions of its type.

A shape is the path of an element (`Patient.contact`) or the name of a type (`HumanName`, `string`).

Spec: http://hl7.org/fhir/R4/graphql.html, https://hl7.org/fhir/R4/json.html#primitive
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from profiles.registry import Element, Registry

#: Elements that are any resource: its own type says what it has.
ANY = frozenset({"Resource", "DomainResource"})

#: So many shapes are kept; there are more in R4 than are asked for.
_MOST = 2048


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its member in JSON, the shape of its values, whether they are many, and whether they have no parts."""

    name: str
    shape: str
    many: bool
    leaf: bool


def fields_of(shape: str, registry: Registry) -> dict[str, Field]:
    """The fields of a shape by name, companions of primitives (`_birthDate`) and each type of a choice among them."""
    return registry.shared(_fields_of, _MOST)(shape)


def _fields_of(registry: Registry, shape: str) -> dict[str, Field]:
    type_name = shape.partition(".")[0]
    definition = registry.types[type_name]
    if definition.kind == "primitive-type":
        return {}
    found: dict[str, Field] = {}
    for element in definition.children(shape):
        for field in _fields_of_element(element, registry):
            found[field.name] = field
            if field.leaf:
                name = f"_{field.name}"
                found[name] = Field(name, "Element", field.many, leaf=False)
    if definition.kind == "resource" and shape == type_name:
        found["resourceType"] = Field("resourceType", "code", many=False, leaf=True)
    return found


def _fields_of_element(element: Element, registry: Registry) -> Iterator[Field]:
    many = element.max is None or element.max > 1
    if element.content is not None:
        yield Field(element.name, element.content, many, leaf=False)
        return
    base = element.name.removesuffix("[x]")
    for kind in element.types:
        code = kind.code
        if code not in registry.types:
            continue
        name = base + code[0].upper() + code[1:] if element.is_choice else base
        leaf = registry.types[code].kind == "primitive-type" or code == "xhtml"
        shape = element.path if code in ("BackboneElement", "Element") and "." in element.path else code
        yield Field(name, shape, many, leaf)


def shape_of(field: Field, value: Any) -> str:
    """The shape of one value; a resource says it itself."""
    if field.shape in ANY and type(value) is dict:
        return str(value.get("resourceType"))
    return field.shape


def is_a(shape: str, name: str, registry: Registry) -> bool:
    """Whether a fragment on a type is meant for values of a shape."""
    definition = registry.types.get(shape)
    while definition is not None:
        if definition.name == name:
            return True
        definition = registry.types.get(definition.base or "")
    # Clients that know a schema name the types of backbone elements in their own way.
    return "." in shape and name.replace("_", ".").casefold().replace(".", "") == shape.casefold().replace(".", "")
