"""Conditions straight on JSON, for what is asked of every object that is written: the invariants of its type.

`code.empty() or system.exists()` asks whether members are there; to make items of them first would cost many times the
answer. The commonest forms are compiled to closures over the JSON object itself: whether something is there, what a
code is, `where` and `all` over such criteria, and the logic between. Every other part of an expression is left to the
engine, which is then called on the object as it is; so there is one meaning, and a test proves that both have it.

Objects must be of right structure: no nulls but beside a twin, no empty arrays, each value of its element's JSON type.

Spec: http://hl7.org/fhirpath/N1/, https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath import conditions
from fhir_server.fhirpath.conditions import Condition, Objects
from fhir_server.fhirpath.engine import Compiler
from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import Field, Kind, Kinds
from fhir_server.fhirpath.nodes import Binary, Call, External, Index, Literal, Member, Node, This, TypeOperation, Unary
from fhir_server.fhirpath.quantities import Units

#: Functions of an empty collection that give an empty one.
_NOTHING_OF_NOTHING = frozenset(
    {"where", "select", "trace", "first", "last", "tail", "skip", "take", "distinct", "intersect", "resolve"}
)
#: What always has an answer.
_QUESTIONS = frozenset({"exists", "empty", "hasValue"})
_MOMENTS = frozenset({"Date", "DateTime"})


class Direct:
    """Compiles conditions for values of the kinds of one registry."""

    def __init__(self, kinds: Kinds, units: Units | None = None) -> None:
        self._kinds = kinds
        self._units = units
        self._compiler = Compiler(kinds)

    def condition(self, node: Node, kind: Kind) -> Condition:
        """The tree of an expression as a condition on a value of a kind, a resource or an element of one.

        The closure raises what the engine does: `Fault`, `DecimalException`, `RecursionError`.

        Raises:
            Fault: the tree names a function or type that there is not.
        """
        known = self._known(node, kind)
        if known is not None:
            return known
        if kind.shape is not None and not kind.is_primitive:
            match node:
                case Binary("and" | "or" | "implies" as operator, left, right):
                    # The left side often answers alone; the engine is then not asked.
                    first = self._known(left, kind) or self._shortened(left, kind)
                    if first is not None:
                        return conditions.LOGIC[operator](first, self.condition(right, kind))
            shortened = self._shortened(node, kind)
            if shortened is not None:
                return shortened
        return self._by_engine(node, kind)

    def early(self, node: Node, kind: Kind) -> Condition | None:
        """What the left side of an `or` or `implies` says of the whole: true, or None where the right side is needed.

        It reads nothing but the value itself; so it can be asked where the right side reads the surroundings.
        """
        match node:
            case Binary("or" | "implies" as operator, left):
                known = self._known(left, kind)
                if known is not None:
                    return conditions.LOGIC[operator](known, lambda value: None)
        return None

    def _by_engine(self, node: Node, kind: Kind) -> Condition:
        truth = self._compiler.truth(node)
        kinds, units = self._kinds, self._units

        def evaluate(value: Any) -> bool | None:
            item = Item(value, kind, key=kind.name)
            return truth([item], Context(item, kinds, None, None, None, units, None, None, None, None))

        return evaluate

    def _shortened(self, node: Node, kind: Kind) -> Condition | None:
        """A path that starts at a member which most objects lack: without that member nothing need be evaluated."""
        match node:
            case Call(source, "exists" | "empty" as name, ()) if (head := _head(source)) is not None:
                fields = kind.fields_named(head)
                if not fields:
                    return None
                there, whole, without = conditions.present(fields), self._by_engine(node, kind), name == "empty"
                return lambda value: whole(value) if there(value) else without
            case Binary("<=" | ">=" as operator, Member(None, left), Member(None, right)):
                return self._ordered(node, operator, kind.fields_named(left), kind.fields_named(right), kind)
        return None

    # --- what needs no engine ---------------------------------------------------------------------------------------

    def _known(self, node: Node, kind: Kind) -> Condition | None:
        """The condition without any part of the engine; None where one would be needed."""
        if kind.shape is None or kind.is_primitive:
            return None
        match node:
            case Literal(bool(truth)):
                return lambda value: truth
            case Binary("and" | "or" | "xor" | "implies" as operator, left, right):
                first, second = self._known(left, kind), self._known(right, kind)
                return None if first is None or second is None else conditions.LOGIC[operator](first, second)
            case Binary("=" | "!=" as operator, Call(_, one), Call(_, other)) if {one, other} <= _QUESTIONS:
                first, second = self._known(node.left, kind), self._known(node.right, kind)
                return (
                    None if first is None or second is None else conditions.alike(first, second, equal=operator == "=")
                )
            case Binary("=" | "!=" as operator, left, right):
                wanted = self._text(right)
                found = self._string_at(left, kind)
                return (
                    None if found is None or wanted is None else conditions.equals(found, wanted, equal=operator == "=")
                )
            case Binary("in", left, right):
                listed = self._texts(right)
                found = self._string_at(left, kind)
                return None if found is None or listed is None else conditions.among(found, listed)
            case Binary(">", left, Literal(0)):
                counted = _counted(left)
                return None if counted is None else self._exists(counted, kind)
            case Call(_, "not", ()) if node.source is not None:
                known = self._known(node.source, kind)
                return None if known is None else conditions.negated(known)
            case Call(Member(None, name), "hasValue", ()) if len(fields := kind.fields_named(name)) == 1:
                return conditions.has_value(fields[0])
            case Call(_, "exists" | "empty" as name, ()) if node.source is not None:
                there = self._exists(node.source, kind)
                return there if there is None or name == "exists" else conditions.negated(there)
            case Call(_, "exists", (criterion,)) if node.source is not None:
                return self._exists(Call(node.source, "where", (criterion,)), kind)
            case Call(_, "all", (criterion,)) if node.source is not None:
                return self._all(node.source, criterion, kind)
        return None

    def _exists(self, source: Node, kind: Kind) -> Condition | None:
        match source:
            case Member(parent, name) if not self._is_type(name):
                above = self._objects(parent, kind)
                if above is None or not (fields := above[1].fields_named(name)):
                    return None
                there = conditions.present(fields)
                return there if parent is None else conditions.any_of(above[0], there)
            case Binary("|", left, right):
                first, second = self._exists(left, kind), self._exists(right, kind)
                return None if first is None or second is None else conditions.either(first, second)
            case Call(parent, "where", (criterion,)):
                above = self._objects(parent, kind)
                test = None if above is None else self._known(criterion, above[1])
                if above is None or test is None:
                    return None
                return conditions.passes(test) if parent is None else conditions.any_of(above[0], test)
        return None

    def _all(self, source: Node, criterion: Node, kind: Kind) -> Condition | None:
        above = self._objects(source, kind)
        test = None if above is None else self._known(criterion, above[1])
        if above is None or test is None:
            return None
        objects = above[0]
        return lambda value: all(test(item) is True for item in objects(value))

    def _objects(self, source: Node | None, kind: Kind) -> tuple[Objects, Kind] | None:
        """The objects that a path leads to, and what they are; None where it leads to a choice or a primitive."""
        match source:
            case None | This("$this"):
                return conditions.itself, kind
            case Member(None, name) if self._is_type(name):
                return (conditions.itself, kind) if kind.is_a(name) else None
            case Member(parent, name):
                above = self._objects(parent, kind)
                if above is None or len(fields := above[1].fields_named(name)) != 1:
                    return None
                (field,) = fields
                if field.kind.is_primitive:
                    return None
                # Of a resource of any type only what all have is known: `contained.meta`.
                return conditions.members(above[0], field), field.kind
            case Call(parent, "where", (criterion,)):
                above = self._objects(parent, kind)
                test = None if above is None else self._known(criterion, above[1])
                if above is None or test is None:
                    return None
                objects = above[0]
                return (lambda value: [item for item in objects(value) if test(item)]), above[1]
        return None

    def _string_at(self, source: Node, kind: Kind) -> Field | None:
        """A member that is one string, of the value itself."""
        match source:
            case Member(None | Member(None) as parent, name):
                if parent is not None and not (self._is_type(parent.name) and kind.is_a(parent.name)):
                    return None
                fields = () if parent is None and self._is_type(name) else kind.fields_named(name)
                if len(fields) == 1 and not fields[0].many and fields[0].kind.system == "String":
                    return fields[0]
        return None

    def _text(self, node: Node) -> str | None:
        texts = self._texts(node)
        return next(iter(texts)) if texts is not None and len(texts) == 1 else None

    def _texts(self, node: Node) -> frozenset[str] | None:
        """The strings of a constant; None for all else."""
        constant = self._compiler.constant(node)
        if not constant or any(item.kind.system != "String" for item in constant):
            return None
        return frozenset(item.value for item in constant)

    def _is_type(self, name: str) -> bool:
        return name[0].isupper() and name in self._kinds.registry.types

    def _ordered(
        self, node: Node, operator: str, left: tuple[Field, ...], right: tuple[Field, ...], kind: Kind
    ) -> Condition | None:
        """`start <= end` of two dates."""
        if len(left) != 1 or len(right) != 1 or not {left[0].kind.system, right[0].kind.system} <= _MOMENTS:
            return None
        one, other = (left[0].key, right[0].key) if operator == "<=" else (right[0].key, left[0].key)
        return conditions.ordered(one, other, self._by_engine(node, kind))


def _head(node: Node | None) -> str | None:
    """The member that a path starts at, if without it the path finds nothing."""
    match node:
        case Member(None, name):
            return name
        case Member(source) | Index(source) | TypeOperation("as" | "ofType", source):
            return _head(source)
        case Call(source, name) if name in _NOTHING_OF_NOTHING:
            return _head(source)
    return None


def _counted(node: Node) -> Node | None:
    """`a | b` for `a.count() + b.count()`: the sum is more than 0 if there is any of them."""
    match node:
        case Call(source, "count", ()):
            return source
        case Binary("+", left, right):
            first, second = _counted(left), _counted(right)
            return None if first is None or second is None else Binary("|", first, second)
    return None


def reads(node: Node, variables: frozenset[str]) -> bool:
    """Whether an expression reads one of some `%variables`, or resolves references: it then needs its surroundings."""
    match node:
        case External(name):
            return name in variables
        case Member(source) | TypeOperation(_, source) | Unary(_, source):
            return source is not None and reads(source, variables)
        case Call(source, name, arguments):
            below = (*arguments, *(() if source is None else (source,)))
            return name == "resolve" or any(reads(part, variables) for part in below)
        case Binary(_, left, right) | Index(left, right):
            return reads(left, variables) or reads(right, variables)
    return False
