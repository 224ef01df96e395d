"""Makes the checks of types from their element tables: once per type, when it is first needed.

Spec: https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.validation import narrative, primitives
from fhir_server.validation.bindings import Bindings
from fhir_server.validation.fault import Check, Found
from fhir_server.validation.invariants import Invariants, ruled
from fhir_server.validation.objects import (
    Shape,
    Twin,
    array_check,
    extension_has_one_content,
    object_check,
    primitive_array_check,
)
from fhir_server.validation.references import References
from profiles.registry import Element, ElementType, Registry, TypeDefinition
from profiles.terminology import Terminology

#: JSON renders these as plain strings that carry no Element of their own.
ATTRIBUTES = frozenset({"id", "url", "div"})


class Compiler:
    """The checks of all types; `resource` checks a resource inside a resource, `contained` one in `contained`."""

    def __init__(
        self,
        registry: Registry,
        terminology: Terminology,
        invariants: Invariants,
        resource: Check,
        contained: Check,
    ) -> None:
        self._registry = registry
        self._invariants = invariants
        self._resource = resource
        self._contained = contained
        self._bindings = Bindings(terminology)
        self._references = References(registry.is_resource_type)
        self._made: dict[tuple[str, str], Check] = {}
        self._reference_checks: dict[frozenset[str] | None, Check] = {}
        # What stands behind an underscore. It has no underscored members itself: the second argument is never used.
        shape = Shape()
        self._element = self._made["Element", "Element"] = object_check(shape, primitives.string, is_twin=True)
        self._fill(shape, registry.types["Element"], "Element")

    def check_of(self, name: str) -> Check:
        """The check of a data type or resource type."""
        return self._object(self._registry.types[name], name)

    def _object(self, definition: TypeDefinition, path: str) -> Check:
        key = (definition.name, path)
        made = self._made.get(key)
        if made is None:
            shape = Shape()
            made = self._made[key] = object_check(shape, self._element)
            self._fill(shape, definition, path)
        return made

    def _fill(self, shape: Shape, definition: TypeDefinition, path: str) -> None:
        if definition.name == "Extension":
            shape.whole.append(extension_has_one_content)
        if (rules := self._invariants.of(definition.elements[path], path)) is not None:
            shape.rules.append(rules)
        if definition.kind == "resource" and path == definition.name:
            shape.members["resourceType"] = _seen_already
            shape.rules += self._invariants.from_root(definition)
        for element in definition.children(path):
            if element.is_choice:
                self._add_choice(shape, definition, element)
            else:
                self._add_member(shape, definition, element)

    def _add_member(self, shape: Shape, definition: TypeDefinition, element: Element) -> None:
        name = element.name
        one, is_primitive = self._one(definition, element)
        is_array = element.max is None or element.max > 1
        if is_array:
            shape.members[name] = primitive_array_check(one) if is_primitive else array_check(one)
        else:
            shape.members[name] = one
        if element.min > 0:
            shape.required.append(name)
        if is_primitive and not self._is_attribute(definition, element):
            shape.twins[f"_{name}"] = Twin(name, is_array)

    def _add_choice(self, shape: Shape, definition: TypeDefinition, element: Element) -> None:
        stem = element.name.removesuffix("[x]")
        bit = 1 << len(shape.groups)
        shape.groups[bit] = stem
        if element.min > 0:
            shape.required_bits |= bit
        for one in element.types:
            name = stem + one.code[0].upper() + one.code[1:]
            shape.choices[name] = self._typed(definition, element, one), bit
            if self._registry.types[one.code].kind == "primitive-type":
                shape.twins[f"_{name}"] = Twin(stem, is_array=False)

    def _one(self, definition: TypeDefinition, element: Element) -> tuple[Check, bool]:
        """The check of a single value of an element, and whether it is primitive."""
        if element.content is not None:
            return self._object(definition, element.content), False
        one = element.types[0]
        return self._typed(definition, element, one), self._registry.types[one.code].kind == "primitive-type"

    def _typed(self, definition: TypeDefinition, element: Element, one: ElementType) -> Check:
        if one.code in ("BackboneElement", "Element"):
            return self._object(definition, element.path)
        check = self._unruled(definition, element, one)
        rules = self._invariants.of(element, one.code) if element.invariants else None
        return check if rules is None else ruled(check, rules)

    def _unruled(self, definition: TypeDefinition, element: Element, one: ElementType) -> Check:
        """The check of a value by its type and its binding, without the element's own invariants."""
        if one.code == "Resource":
            return self._contained if element.name == "contained" else self._resource
        if one.code == "Reference":
            return self._reference(self._references.allowed(one.targets))
        if self._registry.types[one.code].kind == "primitive-type":
            return self._primitive(definition, element, one.code)
        whole = self._bindings.of_coded(element, one.code)
        check = self.check_of(one.code)
        return check if whole is None else _both(check, whole)

    def _primitive(self, definition: TypeDefinition, element: Element, code: str) -> Check:
        if code == "xhtml":
            return narrative.div
        if code == "code":
            return self._bindings.of_code(element)
        if element.name == "id" and code == "string":
            is_logical_id = definition.kind == "resource" and element.path == f"{definition.name}.id"
            return primitives.CHECKS["id"] if is_logical_id else primitives.element_id
        return primitives.CHECKS[code]

    def _is_attribute(self, definition: TypeDefinition, element: Element) -> bool:
        """Whether an element is an attribute in XML, so that it cannot have extensions."""
        if element.name not in ATTRIBUTES:
            return False
        one = element.types[0].code
        return (
            one == "xhtml"
            or element.path == "Extension.url"
            or (element.name == "id" and element.path != f"{definition.name}.id")
            or (element.path == f"{definition.name}.id" and definition.kind != "resource")
        )

    def _reference(self, targets: frozenset[str] | None) -> Check:
        """A Reference, whose `reference` and `type` depend on the element that it stands in."""
        made = self._reference_checks.get(targets)
        if made is None:
            shape = Shape()
            made = self._reference_checks[targets] = object_check(shape, self._element)
            self._fill(shape, self._registry.types["Reference"], "Reference")
            shape.members["reference"] = self._references.literal(targets)
            shape.whole.append(self._references.whole(targets))
        return made


def _both(check: Check, whole: Callable[[Any], Found]) -> Check:
    def both(value: Any) -> Found:
        faults = check(value)
        if type(value) is not dict or not value:
            return faults
        found = whole(value)
        return faults if found is None else found if faults is None else faults + found

    return both


def _seen_already(value: Any) -> Found:
    """`resourceType` was read to find this very check."""
    return None
