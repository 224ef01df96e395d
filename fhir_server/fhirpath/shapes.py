"""What is known of a value before it is seen: its FHIR type and the members it can have.

Spec: https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from dataclasses import dataclass

from profiles.registry import Element, Registry


@dataclass(frozen=True, slots=True)
class Shape:
    """The static type of a value.

    `type` is the FHIR type (`Quantity`, `string`, `BackboneElement`); `path` the place in the element table of `owner`
    whose children are the members (`Observation.component` in `Observation`).
    """

    type: str
    owner: str
    path: str


@dataclass(frozen=True, slots=True)
class Member:
    """One JSON member that a name can mean: `value` on an Observation means `valueQuantity`, `valueString` and more."""

    key: str
    many: bool
    shape: Shape
    element: Element


def shape_of(type_name: str) -> Shape:
    """The shape of a whole resource or data type."""
    return Shape(type_name, type_name, type_name)


def members_of(registry: Registry, shape: Shape, name: str) -> tuple[Member, ...]:
    """The JSON members that `name` means on a shape; several for a choice, none when there is no such element."""
    elements = registry.types[shape.owner].elements
    element = elements.get(f"{shape.path}.{name}")
    if element is not None:
        return (Member(name, _is_many(element), _shape_below(registry, shape, element), element),)
    element = elements.get(f"{shape.path}.{name}[x]")
    if element is None:
        return ()
    return tuple(
        Member(f"{name}{code[0].upper()}{code[1:]}", _is_many(element), shape_of(code), element)
        for code in (t.code for t in element.types)
    )


def _is_many(element: Element) -> bool:
    return element.max is None or element.max > 1


def _shape_below(registry: Registry, shape: Shape, element: Element) -> Shape:
    if element.content is not None:
        return Shape("BackboneElement", element.content.split(".", 1)[0], element.content)
    code = element.types[0].code
    if code in ("BackboneElement", "Element"):
        return Shape(code, shape.owner, element.path)
    return shape_of(code)


def type_named(registry: Registry, name: str) -> str | None:
    """A type by the name an expression gives it; None when there is none.

    R4 itself writes `value.as(DateTime)` (Observation `code-value-date`), so a wrong first capital is forgiven.
    """
    if name in registry.types:
        return name
    lower = name[:1].lower() + name[1:]
    return lower if lower in registry.types else None


def is_a(registry: Registry, type_name: str, wanted: str) -> bool:
    """Whether a type is another one or specializes it."""
    current: str | None = type_name
    while current is not None:
        if current == wanted:
            return True
        definition = registry.types.get(current)
        current = definition.base if definition else None
    return False
