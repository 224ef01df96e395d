"""What a type looks like in XML and JSON alike: its elements by their names, in the order of the definition.

The reader and the writer compile these shapes once per type.

Spec: https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Literal

from profiles.registry import Element, Registry, TypeDefinition

Kind = Literal["primitive", "complex", "resource", "xhtml"]


@dataclass(slots=True)
class Member:
    """One name that may stand in an object: `status`, or `valueQuantity` of the choice `value[x]`.

    `rank` is the element's place in the definition, the same for all names of a choice; `element` is what a FHIRPath
    calls it (`value`); `type` is the code of its type, `shape` the shape of what stands below a complex one.
    """

    name: str
    element: str
    rank: int
    kind: Kind
    type: str
    many: bool
    shape: Shape | None = None


@dataclass(slots=True)
class Shape:
    """The members of a type, or of an element that has children of its own.

    `attributes` are those elements that are XML attributes: `id` of everything but resources, `url` of extensions.
    """

    name: str
    is_resource: bool = False
    attributes: tuple[str, ...] = ()
    members: dict[str, Member] = field(default_factory=dict)


class Shapes:
    """The shapes of all types, made when they are first asked for."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._made: dict[tuple[str, str], Shape] = {}
        self._whole: dict[str, Shape] = {}
        self._making = threading.RLock()

    def is_resource_type(self, name: str) -> bool:
        return self._registry.is_resource_type(name)

    def shape_of(self, type_name: str) -> Shape:
        """The shape of a resource type or data type."""
        whole = self._whole.get(type_name)
        if whole is None:
            # While a shape is made it is incomplete, and so is what leads to it: no other thread may see it then.
            with self._making:
                whole = self._whole[type_name] = self._shape(self._registry.types[type_name], type_name)
        return whole

    def _shape(self, definition: TypeDefinition, path: str) -> Shape:
        key = (definition.name, path)
        made = self._made.get(key)
        if made is not None:
            return made
        shape = Shape(path, is_resource=definition.kind == "resource" and path == definition.name)
        # Types contain each other: the shape is known before it is filled.
        self._made[key] = shape
        for rank, element in enumerate(definition.children(path)):
            if (element.name == "id" and not shape.is_resource) or element.path == "Extension.url":
                shape.attributes += (element.name,)
            elif element.is_choice:
                stem = element.name.removesuffix("[x]")
                for one in element.types:
                    name = stem + one.code[0].upper() + one.code[1:]
                    self._add(shape, definition, element, rank, stem, name, one.code)
            else:
                code = element.types[0].code if element.types else ""
                self._add(shape, definition, element, rank, element.name, element.name, code)
        return shape

    def _add(
        self, shape: Shape, definition: TypeDefinition, element: Element, rank: int, stem: str, name: str, code: str
    ) -> None:
        kind, below = self._kind(definition, element, code)
        many = element.max is None or element.max > 1
        shape.members[name] = Member(name, stem, rank, kind, code, many, below)

    def _kind(self, definition: TypeDefinition, element: Element, code: str) -> tuple[Kind, Shape | None]:
        if element.content is not None:
            return "complex", self._shape(definition, element.content)
        if code == "xhtml":
            return "xhtml", None
        if definition.children(element.path):
            return "complex", self._shape(definition, element.path)
        one = self._registry.types[code]
        if one.kind == "resource":
            return "resource", None
        if one.kind == "primitive-type":
            return "primitive", None
        return "complex", self._shape(one, code)
