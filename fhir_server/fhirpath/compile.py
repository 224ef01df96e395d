"""Compile an expression against the element tables: which members it reads, and of which type their values are.

All that can be known before a resource is seen is decided here. `Observation.value` becomes eleven paths, one for
each type it may have; `(Observation.value as Quantity)` is left with one, the member `valueQuantity`; a part that
starts from another resource type is left out. What remains to be done per resource is to look up members.

The language is covered as far as search expressions go; anything else is refused by name.

Spec: https://hl7.org/fhir/R4/fhirpath.html, https://hl7.org/fhir/R4/searchparameter-definitions.html#SearchParameter.expression
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fhir_server.fhirpath import operators
from fhir_server.fhirpath.nodes import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Member,
    Node,
    This,
    TypeOperation,
)
from fhir_server.fhirpath.parser import parsed
from fhir_server.fhirpath.references import points_to
from fhir_server.fhirpath.shapes import Shape, is_a, members_of, shape_of, type_named
from fhir_server.fhirpath.steps import Computed, Evaluate, Key, Nth, Step, Visit, Where, visit_of
from fhir_server.model.errors import InvalidError
from profiles.registry import Element, Registry


@dataclass(frozen=True, slots=True)
class Branch:
    """One path of an expression, with the static type of what it finds.

    `element` is the definition of the last member on the path (its binding tells the system of a code). With
    `from_root` the path starts at the resource (`%resource`) whatever the focus is.
    """

    steps: tuple[Step, ...]
    shape: Shape
    element: Element | None = None
    from_root: bool = False

    @property
    def type(self) -> str:
        """The FHIR type of the values."""
        return self.shape.type

    def evaluator(self) -> Evaluate:
        """A closure that gives the values below a node, in document order."""
        return _evaluator(visit_of(self.steps))


Branches = tuple[Branch, ...]


def compiled(registry: Registry, expression: str, shape: Shape, root: Shape | None = None) -> Branches:
    """The paths of an expression for a resource type, or for the elements of a composite (`root` is then the resource).

    Raises:
        InvalidError: 400; the text is no FHIRPath, uses what search expressions do not have, or names an element that
            the type has not.
    """
    return _Compiler(registry, expression, root or shape).branches(parsed(expression), Branch((), shape))


def typed_values(
    registry: Registry, expression: str, resource_type: str
) -> Callable[[dict[str, Any]], list[tuple[Any, str]]]:
    """A closure from a resource to the values of an expression, each with its FHIR type."""
    found = [(b.evaluator(), b.type) for b in compiled(registry, expression, shape_of(resource_type))]

    def evaluate(resource: dict[str, Any]) -> list[tuple[Any, str]]:
        return [(value, type_name) for values, type_name in found for value in values(resource)]

    return evaluate


def _evaluator(visit: Visit) -> Evaluate:
    def evaluate(node: Any) -> list[Any]:
        found: list[Any] = []
        visit(node, found)
        return found

    return evaluate


class _Compiler:
    def __init__(self, registry: Registry, expression: str, root: Shape) -> None:
        self._registry = registry
        self._expression = expression
        self._root = root

    def branches(self, node: Node, focus: Branch) -> Branches:
        """The paths of a node of the tree, from a focus."""
        match node:
            case This("$this"):
                return (focus,)
            case External("resource"):
                return (Branch((), self._root, from_root=True),)
            case Member(None, name) if name in self._registry.types and name[0].isupper():
                return (focus,) if is_a(self._registry, focus.type, name) else ()
            case Member(source, name):
                return self._below(self._source(source, focus), name)
            case TypeOperation("as" | "ofType", operand, type_name):
                return self._as(self.branches(operand, focus), type_name)
            case Binary("|", left, right):
                return tuple(dict.fromkeys(self.branches(left, focus) + self.branches(right, focus)))
            case Call(source, "where", (criterion,)):
                return tuple(self._where(b, criterion) for b in self._source(source, focus))
            case Call(source, "extension", (Literal(str(url)),)):
                return tuple(self._extension(b, url) for b in self._source(source, focus))
            case Call(source, "first", ()):
                return tuple(_nth(b, 0) for b in self._source(source, focus))
            case Index(source, Literal(int(position))):
                return tuple(_nth(b, position) for b in self._source(source, focus))
        return (replace(focus, steps=(Computed(node, self._evaluate(node, focus)),), shape=shape_of("boolean")),)

    def _source(self, source: Node | None, focus: Branch) -> Branches:
        return (focus,) if source is None else self.branches(source, focus)

    def _below(self, sources: Branches, name: str) -> Branches:
        found = tuple(
            Branch((*source.steps, Key(m.key, m.many)), m.shape, m.element, source.from_root)
            for source in sources
            for m in members_of(self._registry, source.shape, name)
        )
        if sources and not found:
            raise self._refused(f"{sources[0].shape.path} has no element {name!r}", "HS-FHIRPATH-ELEMENT")
        return found

    def _as(self, sources: Branches, type_name: str) -> Branches:
        wanted = type_named(self._registry, type_name)
        if wanted is None:
            raise self._refused(f"{type_name!r} is no FHIR type", "HS-FHIRPATH-TYPE")
        kept: list[Branch] = []
        for source in sources:
            if is_a(self._registry, source.type, wanted):
                kept.append(source)
            elif is_a(self._registry, wanted, source.type) and source.type in ("Resource", "DomainResource"):
                test = _is_resource(wanted)
                kept.append(Branch((*source.steps, Where(wanted, test)), shape_of(wanted), None, source.from_root))
        return tuple(kept)

    def _where(self, source: Branch, criterion: Node) -> Branch:
        test = operators.holds(self._evaluate(criterion, Branch((), source.shape)))
        match criterion:
            case Binary("=", Member(None, name), Literal(str(wanted))):
                test = self._member_is(source.shape, name, wanted) or test
            case TypeOperation("is", Call(None | This("$this"), "resolve", ()), type_name):
                test = points_to(self._registry, type_name)
        return replace(source, steps=(*source.steps, Where((criterion, source.shape), test)))

    def _member_is(self, shape: Shape, name: str, wanted: str) -> Callable[[Any], bool] | None:
        """The commonest criterion, `where(system='email')`, without any list being made."""
        members = members_of(self._registry, shape, name)
        if len(members) != 1 or members[0].many:
            return None
        key = members[0].key
        return lambda node: node.get(key) == wanted

    def _extension(self, source: Branch, url: str) -> Branch:
        steps = (*source.steps, Key("extension", True), Where(("extension", url), lambda e: e.get("url") == url))
        return Branch(steps, shape_of("Extension"), None, source.from_root)

    def _evaluate(self, node: Node, focus: Branch) -> Evaluate:
        match node:
            case Literal(value):
                constant = [] if value is None else [value]
                return lambda _: constant
            case Binary(operator, left, right) if operator != "|":
                evaluate = operators.binary(operator, self._evaluate(left, focus), self._evaluate(right, focus))
                if evaluate is not None:
                    return evaluate
            case TypeOperation("is", Call(source, "resolve", ()), type_name):
                references = self._values(self._source(source, focus))
                test = points_to(self._registry, type_name)
                return lambda focused: [test(reference) for reference in references(focused)]
            case TypeOperation("is", operand, type_name):
                operands = self.branches(operand, focus)
                typed, every = self._values(self._as(operands, type_name)), self._values(operands)
                return lambda focused: [bool(typed(focused))] if every(focused) else []
            case Call(source, "exists", (criterion,)):
                return operators.exists(self._evaluate(Call(source, "where", (criterion,)), focus))
            case Call(source, "hasExtension", (Literal(str()),) as url):
                return operators.exists(self._evaluate(Call(source, "extension", url), focus))
            case Call(None, "exists" | "empty" | "not" as name, ()):
                return _BOOLEAN_FUNCTIONS[name](self._evaluate(This("$this"), focus))
            case Call(source, "exists" | "empty" | "not" as name, ()) if source is not None:
                return _BOOLEAN_FUNCTIONS[name](self._evaluate(source, focus))
            case (
                Member()
                | This("$this")
                | Index()
                | Binary("|")
                | TypeOperation("as" | "ofType")
                | Call(_, "where" | "extension" | "first")
            ):
                return self._values(self.branches(node, focus))
        raise self._refused(f"{_named(node)} is not known in search expressions", "HS-FHIRPATH-UNKNOWN")

    def _values(self, branches: Branches) -> Evaluate:
        if any(b.from_root for b in branches):
            raise self._refused("%resource cannot stand in a criterion", "HS-FHIRPATH-UNKNOWN")
        visits = [visit_of(b.steps) for b in branches]
        if len(visits) == 1:
            return _evaluator(visits[0])

        def evaluate(node: Any) -> list[Any]:
            found: list[Any] = []
            for visit in visits:
                visit(node, found)
            return found

        return evaluate

    def _refused(self, reason: str, key: str) -> InvalidError:
        return InvalidError(f"{reason}, in the FHIRPath expression {self._expression[:200]}", key=key)


_BOOLEAN_FUNCTIONS: dict[str, Callable[[Evaluate], Evaluate]] = {
    "exists": operators.exists,
    "empty": operators.empty,
    "not": operators.negation,
}


def _nth(source: Branch, position: int) -> Branch:
    # A choice has several branches and each takes its own position; at most one of them ever finds something.
    return replace(source, steps=(Nth(source.steps, position),))


def _is_resource(wanted: str) -> Callable[[Any], bool]:
    return lambda resource: resource.get("resourceType") == wanted


def _named(node: Node) -> str:
    match node:
        case Call(_, name, _):
            return f"The function {name}() with these arguments"
        case Binary(operator, _, _):
            return f"The operator {operator!r}"
        case External(name):
            return f"The variable %{name}"
    return f"A {type(node).__name__} at this place"
