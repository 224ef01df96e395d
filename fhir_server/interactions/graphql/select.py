"""Which fields an object is asked for, fragments put in their places, and which of a field's values are wanted.

Spec: http://hl7.org/fhir/R4/graphql.html, https://spec.graphql.org/October2021/#CollectFields()
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphql.language import FieldNode, FragmentSpreadNode, InlineFragmentNode, SelectionNode

from fhir_server.fhirpath.expression import compile_expression
from fhir_server.interactions.graphql.document import MOST_LEVELS, Query, no_fragment
from fhir_server.interactions.graphql.fault import QueryError, refused, too_costly
from fhir_server.interactions.graphql.shape import Field, fields_of, is_a
from fhir_server.model.errors import FhirError
from profiles.registry import Registry

Json = dict[str, Any]

#: Fields and fragments that carrying out one query may look at, over all objects.
MOST_STEPS = 500_000


@dataclass(slots=True)
class Asked:
    """One field of an object: the node that names it, everything that is asked of its values, and whether a fragment
    brought it in."""

    node: FieldNode
    selections: tuple[SelectionNode, ...]
    shared: bool = False

    @property
    def key(self) -> str:
        return (self.node.alias or self.node.name).value

    @property
    def name(self) -> str:
        return self.node.name.value


class Selector:
    """Chooses fields and values for one query."""

    def __init__(self, query: Query, registry: Registry) -> None:
        self._query = query
        self._registry = registry
        self._steps = 0

    def asked(self, selections: tuple[SelectionNode, ...], shape: str) -> list[Asked]:
        """The fields that selections ask of an object.

        Fragments that ask for the same field are merged with it, as GraphQL has it. A field that one selection names
        twice outright stays two, and its values become a list: so FHIR's own cases want it.
        """
        found: list[Asked] = []
        for node, shared in self._fields(selections, shape, 0, shared=False):
            parts = tuple(node.selection_set.selections) if node.selection_set else ()
            twin = next((a for a in found if a.key == (node.alias or node.name).value), None)
            if twin is not None and (shared or twin.shared or not parts):
                if twin.name != node.name.value or self.arguments(twin.node) != self.arguments(node):
                    raise refused(f"{twin.key!r} is asked for in two ways; give one of them an alias.", node)
                if node.selection_set:
                    # Standing like a fragment, what is merged is merged further down, too.
                    twin.selections += (InlineFragmentNode(selection_set=node.selection_set),)
            else:
                found.append(Asked(node, parts, shared))
        return found

    def _fields(
        self, selections: tuple[SelectionNode, ...], shape: str, depth: int, *, shared: bool
    ) -> Iterator[tuple[FieldNode, bool]]:
        if depth > MOST_LEVELS:
            raise too_costly("Fragments stand in each other without an end, or too deeply.")
        for node in selections:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise too_costly(f"Carrying out the query takes more than {MOST_STEPS:,} steps.")
            if not self._query.is_wanted(node.directives or ()):
                continue
            match node:
                case FieldNode():
                    yield node, shared
                case FragmentSpreadNode():
                    fragment = self._query.fragments.get(node.name.value)
                    if fragment is None:
                        raise QueryError(no_fragment(node.name.value), node)
                    if is_a(shape, fragment.type_condition.name.value, self._registry):
                        inner = tuple(fragment.selection_set.selections)
                        yield from self._fields(inner, shape, depth + 1, shared=True)
                case InlineFragmentNode():
                    condition = node.type_condition
                    if condition is None or is_a(shape, condition.name.value, self._registry):
                        inner = tuple(node.selection_set.selections)
                        yield from self._fields(inner, shape, depth + 1, shared=True)

    def arguments(self, node: FieldNode) -> dict[str, Any]:
        return {a.name.value: self._query.value_of(a.value) for a in node.arguments or ()}

    def wanted(self, values: list[Any], field: Field, node: FieldNode, resource: Json) -> list[Any]:
        """The values that the arguments of a field let through."""
        arguments = self.arguments(node)
        offset, count = self._whole(arguments, "_offset", node), self._whole(arguments, "_count", node)
        expression = arguments.pop("fhirpath", None)
        known = fields_of(field.shape, self._registry) if arguments else {}
        for name, value in arguments.items():
            if name not in known or not known[name].leaf:
                raise refused(f"{field.name!r} cannot be filtered by {name!r}: that is no simple element of it.", node)
            if value is not None:
                values = [v for v in values if has(v, name, value)]
        if expression is not None:
            values = [v for v in values if self.holds(str(expression), v, field.shape, node, resource)]
        values = values[offset or 0 :]
        return values if count is None else values[:count]

    def _whole(self, arguments: dict[str, Any], name: str, node: FieldNode) -> int | None:
        value = arguments.pop(name, None)
        if value is None:
            return None
        text = str(value)
        if not (text.isascii() and text.isdigit()):
            raise refused(f"{name} is {text[:40]!r}; a whole number was expected.", node)
        return int(text)

    def holds(self, text: str, value: Any, shape: str, node: FieldNode, resource: Json) -> bool:
        """Whether an expression is true of a value."""
        try:
            expression = compile_expression(text, registry=self._registry, root_type=shape)
            return expression.holds(value, variables={"resource": resource}) is True
        except FhirError as error:
            raise QueryError(error, node) from None

    def slice_name(self, text: str, index: int, value: Any, shape: str, node: FieldNode, resource: Json) -> str:
        """What @slice adds to the names of one value's fields: a place, or what an expression finds."""
        if text == "$index":
            return str(index)
        try:
            expression = compile_expression(text, registry=self._registry, root_type=shape)
            return ".".join(str(item.value) for item in expression.evaluate(value, variables={"resource": resource}))
        except FhirError as error:
            raise QueryError(error, node) from None


def has(value: Any, name: str, wanted: Any) -> bool:
    """Whether an element of a value is, or contains, what is wanted; both as text."""
    found = value.get(name) if type(value) is dict else None
    return any(as_text(one) == as_text(wanted) for one in (found if type(found) is list else [found]))


def as_text(value: Any) -> str:
    return ("false", "true")[value] if type(value) is bool else str(value)
