"""Compile the tree of an expression to closures over items.

Every node becomes a function from the focus (`$this`, a collection) to a collection; what answers a question is
compiled to a three-valued truth beside it, so that `a.exists() and b = 'x'` makes no collections on its way.

Spec: http://hl7.org/fhirpath/N1/
"""

from __future__ import annotations

from decimal import Decimal

from fhir_server.fhirpath import binary, paths
from fhir_server.fhirpath.evaluation import Context, Evaluate, Truth
from fhir_server.fhirpath.functions import (  # noqa: F401  (they enter themselves into the table)
    aggregate,
    boundaries,
    combining,
    conversion,
    existence,
    fhir,
    filtering,
    math,
    strings,
    subsetting,
    tree,
    types,
    utility,
)
from fhir_server.fhirpath.functions.table import FUNCTIONS, Function, Site
from fhir_server.fhirpath.items import EMPTY, FALSES, TRUES, Fault, Item, Items, boolean
from fhir_server.fhirpath.kinds import DATE, DATE_TIME, DECIMAL, INTEGER, QUANTITY, STRING, TIME, Kinds
from fhir_server.fhirpath.nodes import (
    Binary,
    Call,
    External,
    Index,
    Literal,
    Measured,
    Member,
    Moment,
    Node,
    This,
    TypeOperation,
    Unary,
)
from fhir_server.fhirpath.quantities import Quantity, calendar_quantity
from fhir_server.fhirpath.specifiers import type_test
from fhir_server.fhirpath.temporal import temporal_of

_CONSTANTS = {
    "ucum": "http://unitsofmeasure.org",
    "sct": "http://snomed.info/sct",
    "loinc": "http://loinc.org",
}
_VALUE_SET = "http://hl7.org/fhir/ValueSet/"
_EXTENSION = "http://hl7.org/fhir/StructureDefinition/"


class Compiler:
    """Compiles trees for the types of one registry.

    With `traced`, a Fault is told the place of the innermost node it came from; that costs time, so it is done only
    when an expression has failed and is run again to find out where. `single_as` makes `as` refuse several items, as
    FHIRPath says and R4's own expressions do not heed.
    """

    def __init__(self, kinds: Kinds, *, single_as: bool = False, traced: bool = False) -> None:
        self.kinds = kinds
        self._single_as = single_as
        self._traced = traced

    def evaluate(self, node: Node) -> Evaluate:
        """A node as a function to a collection.

        Raises:
            Fault: the tree itself is wrong: an unknown function or type, a literal that is no date.
        """
        run = self._evaluate(node)
        at: int | None = getattr(node, "at", None)
        return _located(run, at) if self._traced and at is not None else run

    def truth(self, node: Node) -> Truth:
        """A node as a condition: of an empty collection unknown, of one item that is no boolean true."""
        run = self._truth(node)
        if run is not None and not self._traced:
            return run
        return binary.truth_of(self.evaluate(node))

    def _evaluate(self, node: Node) -> Evaluate:
        constant = self.constant(node)
        if constant is not None:
            return lambda focus, context: constant
        match node:
            case This("$this"):
                return _focus
            case This("$index"):
                return lambda focus, context: [Item(context.index, INTEGER)]
            case This("$total"):
                return lambda focus, context: context.total
            case This(name):
                raise Fault(f"{name} is no variable; there are $this, $index and $total")
            case External(name):
                return lambda focus, context: context.variable(name)
            case Member(None, name) if name[0].isupper() and name in self.kinds.registry.types:
                return paths.of_type_or_member(name)
            case Member(source, name):
                return paths.member(None if source is None else self.evaluate(source), name)
            case Index(source, index):
                return paths.indexed(self.evaluate(source), self.evaluate(index))
            case Unary(sign, operand):
                return binary.signed(sign, self.evaluate(operand))
            case TypeOperation():
                return self._type_operation(node)
            case Binary(operator, left, right):
                if operator == "|":
                    return binary.union(self.evaluate(left), self.evaluate(right))
                if operator in binary.ARITHMETIC:
                    return binary.arithmetic(operator, self.evaluate(left), self.evaluate(right))
            case Call(External(name), "descendants", ()):
                return tree.descendants_of_variable(name)
            case Call():
                return self._call(node)
        return _collected(self._required_truth(node))

    def _required_truth(self, node: Node) -> Truth:
        run = self._truth(node)
        if run is None:
            raise Fault(f"a {type(node).__name__} cannot be evaluated", getattr(node, "at", None))
        return run

    def _truth(self, node: Node) -> Truth | None:
        match node:
            case Binary("=" | "!=" as operator, left, right):
                constant = self.constant(right)
                equal = binary.equality(self.evaluate(left), self.evaluate(right), constant)
                return equal if operator == "=" else binary.negated(equal)
            case Binary("and" | "or" | "xor" | "implies" as operator, left, right):
                return binary.LOGIC[operator](self.truth(left), self.truth(right))
            case Binary("in", left, right):
                return binary.membership(self.evaluate(left), self.evaluate(right), self.constant(right))
            case Binary("contains", left, right):
                return binary.membership(self.evaluate(right), self.evaluate(left), self.constant(left))
            case Binary(operator, left, right) if operator in binary.COMPARISONS:
                return binary.comparison(operator, self.evaluate(left), self.evaluate(right))
            case TypeOperation("is", operand, type_name, at):
                test = type_test(self.kinds, type_name, exact=False, at=at)
                return binary.is_type(self.evaluate(operand), test)
            case Call(Member(None, name), "exists", ()) if not self._is_type(name):
                return paths.present(name)
            case Call(Member(None, name), "empty", ()) if not self._is_type(name):
                return binary.negated(paths.present(name))
            case Call(_, name):
                function = FUNCTIONS.get(name)
                if function is not None and function.condition is not None:
                    return function.condition(self._site(node, function))
        return None

    def _is_type(self, name: str) -> bool:
        return name[0].isupper() and name in self.kinds.registry.types

    def _type_operation(self, node: TypeOperation) -> Evaluate:
        operator, operand = node.operator, self.evaluate(node.operand)
        if operator == "is":
            return _collected(self._required_truth(node))
        test = type_test(self.kinds, node.type_name, exact=True, at=node.at)
        if operator == "as" and self._single_as:
            return binary.as_single(operand, test)
        return lambda focus, context: [item for item in operand(focus, context) if test(item)]

    def _call(self, node: Call) -> Evaluate:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise Fault(f"there is no function {node.name}()", node.at)
        site = self._site(node, function)
        if function.condition is not None:
            return _collected(function.condition(site))
        assert function.build is not None
        return function.build(site)

    def _site(self, node: Call, function: Function) -> Site:
        count = len(node.arguments)
        if not function.least <= count <= function.most:
            wanted = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
            raise Fault(f"{node.name}() takes {wanted} arguments, found {count}", node.at)
        return Site(
            _focus if node.source is None else self.evaluate(node.source),
            node.arguments,
            self.evaluate,
            self.truth,
            any(_reads(argument, "$index") for argument in node.arguments),
        )

    def constant(self, node: Node) -> Items | None:
        """The collection of a node that is the same wherever it is evaluated; None for all others."""
        match node:
            case Literal(None):
                return EMPTY
            case Literal(bool(truth)):
                return TRUES if truth else FALSES
            case Literal(str(text)):
                return [Item(text, STRING)]
            case Literal(int(number)):
                # What has more than 32 bits is written as a decimal in JSON too.
                return [Item(number, INTEGER)] if abs(number) <= 2**31 else [Item(Decimal(number), DECIMAL)]
            case Literal(Decimal() as number):
                return [Item(number, DECIMAL)]
            case Moment(text):
                return [_moment(text)]
            case Measured(value, unit, is_calendar):
                quantity = calendar_quantity(Decimal(value), unit) if is_calendar else None
                return [Item(quantity or Quantity(Decimal(value), unit), QUANTITY)]
            case External(name):
                return self._named_constant(name)
            case Binary("|", left, right):
                first, second = self.constant(left), self.constant(right)
                if first is not None and second is not None:
                    return binary.united(first, second, None)
        return None

    def _named_constant(self, name: str) -> Items | None:
        if name in _CONSTANTS:
            return [Item(_CONSTANTS[name], STRING)]
        if name.startswith("vs-"):
            return [Item(_VALUE_SET + name[3:], STRING)]
        if name.startswith("ext-"):
            return [Item(_EXTENSION + name[4:], STRING)]
        return None


def _focus(focus: Items, context: Context) -> Items:
    return focus


def _collected(truth: Truth) -> Evaluate:
    return lambda focus, context: boolean(truth(focus, context))


def _located(run: Evaluate, at: int) -> Evaluate:
    def evaluate(focus: Items, context: Context) -> Items:
        try:
            return run(focus, context)
        except Fault as fault:
            if fault.at is None:
                fault.at = at
            raise

    return evaluate


def _reads(node: Node, name: str) -> bool:
    match node:
        case This(found):
            return found == name
        case Member(source):
            return source is not None and _reads(source, name)
        case Call(source, _, arguments):
            return (source is not None and _reads(source, name)) or any(_reads(a, name) for a in arguments)
        case Index(left, right) | Binary(_, left, right):
            return _reads(left, name) or _reads(right, name)
        case Unary(_, operand) | TypeOperation(_, operand):
            return _reads(operand, name)
    return False


def _moment(text: str) -> Item:
    kind = TIME if text.startswith("T") else DATE_TIME if "T" in text else DATE
    moment = temporal_of(text.removesuffix("T"), kind.name)
    if moment is None:
        raise Fault(f"@{text} names no real {kind.name}")
    return Item(text.removeprefix("T") if kind is TIME else text.removesuffix("T"), kind)
