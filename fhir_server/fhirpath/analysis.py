"""What can be known of an expression before it is evaluated: that a name on a path is the name of no element.

Each node is given the kinds that its items can have. Where that cannot be told (`resolve()`, `%variable`, a resource of
any type) nothing is refused. A choice is one element, `value`; `valueQuantity` is a name in JSON only.

Spec: http://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.fhirpath import kinds as system
from fhir_server.fhirpath.items import Fault
from fhir_server.fhirpath.kinds import Kind, Kinds
from fhir_server.fhirpath.nodes import (
    Binary,
    Call,
    Index,
    Literal,
    Measured,
    Member,
    Node,
    This,
    TypeOperation,
    Unary,
)


@dataclass(frozen=True, slots=True)
class Known:
    """The kinds that the items of a collection can have (None: any), and whether the collection has an order."""

    kinds: frozenset[Kind] | None
    ordered: bool = True


ANYTHING = Known(None)
_BOOLEAN = Known(frozenset({system.BOOLEAN}))

#: Functions that give some of their input's items.
_SAME = frozenset(
    (
        *("where", "first", "last", "tail", "skip", "take", "single", "distinct", "trace", "exclude", "intersect"),
        *("sort", "checkModifiers"),
    )
)
#: Functions whose arguments are evaluated with each item of the input as their focus.
_PER_ITEM = frozenset(("where", "select", "exists", "all", "repeat", "repeatAll", "sort", "aggregate", "iif", "trace"))
_BY_PLACE = frozenset(("first", "last", "tail", "skip", "take"))
_UNORDERED = frozenset(("children", "descendants"))
_TRUTHS = frozenset(
    (
        *("exists", "empty", "not", "all", "allTrue", "anyTrue", "allFalse", "anyFalse", "subsetOf", "supersetOf"),
        *("isDistinct", "hasValue", "startsWith", "endsWith", "contains", "matches", "matchesFull", "memberOf"),
        *("hasExtension", "htmlChecks", "conformsTo", "subsumes", "subsumedBy", "comparable"),
    )
)
_OF_STRINGS = frozenset(
    (
        *("indexOf", "lastIndexOf", "substring", "startsWith", "endsWith", "contains", "upper", "lower", "replace"),
        *("matches", "matchesFull", "replaceMatches", "length", "toChars", "trim", "split"),
    )
)
_OPEN = frozenset(("Resource", "DomainResource", "Element"))
_ARITHMETIC = frozenset(("+", "-", "*", "/", "div", "mod", "&"))


def check(node: Node, root: Kind, kinds: Kinds, *, check_order: bool = False) -> None:
    """Refuse what cannot mean anything on an item of the root's kind.

    Raises:
        Fault: with the place.
    """
    _Analysis(kinds, check_order).known(node, Known(frozenset({root})))


class _Analysis:
    def __init__(self, kinds: Kinds, check_order: bool) -> None:
        self._kinds = kinds
        self._check_order = check_order

    def known(self, node: Node, focus: Known) -> Known:
        match node:
            case This("$this"):
                return focus
            case This("$index"):
                return Known(frozenset({system.INTEGER}))
            case Literal(None):
                return Known(frozenset())
            case Literal(bool()):
                return _BOOLEAN
            case Literal(str()):
                return Known(frozenset({system.STRING}))
            case Literal(int()):
                return Known(frozenset({system.INTEGER, system.DECIMAL}))
            case Literal():
                return Known(frozenset({system.DECIMAL}))
            case Measured():
                return Known(frozenset({system.QUANTITY}))
            case Member(source, name, at):
                return self._member(focus if source is None else self.known(source, focus), name, at, source is None)
            case Index(source, index, at):
                self.known(index, focus)
                found = self.known(source, focus)
                self._require_order(found, "[]", at)
                return found
            case Unary(_, operand):
                return Known(self.known(operand, focus).kinds)
            case TypeOperation(operator, operand, type_name):
                found = self.known(operand, focus)
                return _BOOLEAN if operator == "is" else Known(self._named(type_name), found.ordered)
            case Binary(operator, left, right):
                return self._operation(operator, self.known(left, focus), self.known(right, focus))
            case Call():
                return self._call(node, focus)
        return ANYTHING

    def _member(self, source: Known, name: str, at: int, starts: bool) -> Known:
        if source.kinds is None:
            return ANYTHING
        if starts and name[0].isupper() and name in self._kinds.registry.types:
            of_type = frozenset(kind for kind in source.kinds if kind.is_a(name))
            if of_type or any(_is_open(kind) for kind in source.kinds):
                return Known(of_type or self._named(name), source.ordered)
        if any(_is_open(kind) for kind in source.kinds):
            return ANYTHING
        found = frozenset(field.kind for kind in source.kinds for field in kind.fields_named(name))
        if source.kinds and not found:
            owners = ", ".join(sorted(str(kind) for kind in source.kinds))
            raise Fault(f"{owners[:200]} has no element {name!r}", at)
        return Known(None if any(_is_open(kind) for kind in found) else found, source.ordered)

    def _named(self, type_name: str) -> frozenset[Kind] | None:
        namespace, _, name = type_name.rpartition(".")
        found = None if namespace == "System" else self._kinds.named(name)
        candidates = (found, system.SYSTEM_KINDS.get(name))
        named = frozenset(kind for kind in candidates if kind is not None)
        return None if not named or any(_is_open(kind) for kind in named) else named

    def _operation(self, operator: str, left: Known, right: Known) -> Known:
        if operator == "|":
            return _both(left, right)
        return ANYTHING if operator in _ARITHMETIC else _BOOLEAN

    def _call(self, node: Call, focus: Known) -> Known:
        name = node.name
        source = focus if node.source is None else self.known(node.source, focus)
        if name in _BY_PLACE:
            self._require_order(source, f"{name}()", node.at)
        if name in _OF_STRINGS and source.kinds and not any(_is_stringlike(kind) for kind in source.kinds):
            owners = ", ".join(sorted(str(kind) for kind in source.kinds))
            raise Fault(f"{name}() works on strings, not on {owners[:200]}", node.at)
        inner = source if name in _PER_ITEM else focus
        arguments = [self.known(argument, inner) for argument in node.arguments]
        if name in _SAME:
            return source
        if name in _TRUTHS:
            return _BOOLEAN
        if name in ("select", "repeat", "repeatAll") and arguments:
            return Known(arguments[0].kinds, source.ordered and arguments[0].ordered)
        if name in ("union", "combine") and arguments:
            return _both(source, arguments[0])
        if name == "extension":
            return Known(self._named("Extension"))
        if name == "type":
            return Known(frozenset({system.TYPE_INFO}))
        return Known(None, name not in _UNORDERED)

    def _require_order(self, source: Known, what: str, at: int) -> None:
        if self._check_order and not source.ordered:
            raise Fault(f"{what} takes items by their place, and these have no order", at)


def _both(left: Known, right: Known) -> Known:
    kinds = None if left.kinds is None or right.kinds is None else left.kinds | right.kinds
    return Known(kinds, left.ordered and right.ordered)


def _is_open(kind: Kind) -> bool:
    """Whether an item of it can have members that the kind does not tell of: any resource, any element."""
    return kind is system.UNKNOWN or (kind.namespace == "FHIR" and kind.name in _OPEN)


def _is_stringlike(kind: Kind) -> bool:
    return kind.system not in (None, "Boolean", "Integer", "Decimal", "Quantity")
