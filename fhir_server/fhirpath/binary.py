"""Operators as closures over their compiled operands.

Spec: http://hl7.org/fhirpath/N1/#operations
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from fhir_server.fhirpath import arithmetic as numbers
from fhir_server.fhirpath.equality import compared, equal, equivalent, key_of
from fhir_server.fhirpath.evaluation import Context, Evaluate, Truth
from fhir_server.fhirpath.items import EMPTY, Fault, Item, Items, string
from fhir_server.fhirpath.quantities import Units


def truth_of(evaluate: Evaluate) -> Truth:
    """A collection as a condition."""

    def truth(focus: Items, context: Context) -> bool | None:
        return as_truth(evaluate(focus, context))

    return truth


def as_truth(items: Items) -> bool | None:
    """One boolean is itself; one item of another type is true by being there; several are a fault."""
    if not items:
        return None
    if len(items) > 1:
        raise Fault(f"a condition must be a single item, found {len(items)}")
    item = items[0]
    if item.kind.system == "Boolean":
        return item.value if item.value is None else bool(item.value)
    return True


def negated(truth: Truth) -> Truth:
    def evaluate(focus: Items, context: Context) -> bool | None:
        found = truth(focus, context)
        return None if found is None else not found

    return evaluate


def _and(left: Truth, right: Truth) -> Truth:
    def evaluate(focus: Items, context: Context) -> bool | None:
        first = left(focus, context)
        if first is False:
            return False
        second = right(focus, context)
        if second is False:
            return False
        return None if first is None or second is None else True

    return evaluate


def _or(left: Truth, right: Truth) -> Truth:
    def evaluate(focus: Items, context: Context) -> bool | None:
        first = left(focus, context)
        if first is True:
            return True
        second = right(focus, context)
        if second is True:
            return True
        return None if first is None or second is None else False

    return evaluate


def _xor(left: Truth, right: Truth) -> Truth:
    def evaluate(focus: Items, context: Context) -> bool | None:
        first, second = left(focus, context), right(focus, context)
        return None if first is None or second is None else first is not second

    return evaluate


def _implies(left: Truth, right: Truth) -> Truth:
    def evaluate(focus: Items, context: Context) -> bool | None:
        first = left(focus, context)
        if first is False:
            return True
        second = right(focus, context)
        if second is True or first is True:
            return second
        return None

    return evaluate


LOGIC: dict[str, Callable[[Truth, Truth], Truth]] = {"and": _and, "or": _or, "xor": _xor, "implies": _implies}


def equality(left: Evaluate, right: Evaluate, constant: Items | None) -> Truth:
    """`left = right`; a comparison with one constant string, the commonest, is made without ado."""
    if constant is not None and len(constant) == 1 and constant[0].kind.system == "String":
        text = constant[0].value

        def is_text(focus: Items, context: Context) -> bool | None:
            items = left(focus, context)
            if not items:
                return None
            return len(items) == 1 and items[0].kind.system == "String" and bool(items[0].value == text)

        return is_text

    def evaluate(focus: Items, context: Context) -> bool | None:
        return equal(left(focus, context), right(focus, context), context.units)

    return evaluate


def membership(left: Evaluate, right: Evaluate, constant: Items | None) -> Truth:
    """`left in right`; unknown where left is empty."""
    fixed = None if constant is None else _keys(constant, None)

    def evaluate(focus: Items, context: Context) -> bool | None:
        items = left(focus, context)
        if len(items) > 1:
            raise Fault(f"the item to look for must be a single one, found {len(items)}")
        units = context.units
        among = fixed if fixed is not None and units is None else _keys(right(focus, context), units)
        return key_of(items[0], units) in among if items else None

    def among_strings(focus: Items, context: Context) -> bool | None:
        items = left(focus, context)
        if len(items) == 1 and items[0].kind.system == "String" and fixed is not None:
            return items[0].value in fixed
        return evaluate(focus, context)

    return evaluate if fixed is None else among_strings


def _keys(items: Items, units: Units | None) -> frozenset[Hashable]:
    return frozenset(key_of(item, units) for item in items)


_ORDER: dict[str, Callable[[int], bool]] = {
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


COMPARISONS = frozenset((*_ORDER, "~", "!~"))


def comparison(operator: str, left: Evaluate, right: Evaluate) -> Truth:
    """One of COMPARISONS."""
    if operator == "~":
        return lambda focus, context: equivalent(left(focus, context), right(focus, context), context.units)
    if operator == "!~":
        return lambda focus, context: not equivalent(left(focus, context), right(focus, context), context.units)
    holds = _ORDER[operator]

    def evaluate(focus: Items, context: Context) -> bool | None:
        pair = _pair(left(focus, context), right(focus, context), operator)
        if pair is None:
            return None
        order = compared(*pair, context.units)
        return None if order is None else holds(order)

    return evaluate


def _pair(left: Items, right: Items, operator: str) -> tuple[Item, Item] | None:
    if len(left) > 1 or len(right) > 1:
        raise Fault(f"{operator!r} needs single items, found {len(left)} and {len(right)}")
    return (left[0], right[0]) if left and right else None


ARITHMETIC = frozenset((*numbers.OPERATIONS, "&"))


def arithmetic(operator: str, left: Evaluate, right: Evaluate) -> Evaluate:
    """One of ARITHMETIC."""
    if operator == "&":
        return _concatenation(left, right)
    operation = numbers.OPERATIONS[operator]

    def evaluate(focus: Items, context: Context) -> Items:
        pair = _pair(left(focus, context), right(focus, context), operator)
        if pair is None or pair[0].value is None or pair[1].value is None:
            return EMPTY
        return operation(*pair, context.units)

    return evaluate


def _concatenation(left: Evaluate, right: Evaluate) -> Evaluate:
    def evaluate(focus: Items, context: Context) -> Items:
        return string(_text(left(focus, context)) + _text(right(focus, context)))

    return evaluate


def _text(items: Items) -> str:
    if not items:
        return ""
    if len(items) > 1:
        raise Fault(f"'&' needs single items, found {len(items)}")
    if items[0].kind.system != "String":
        raise Fault(f"'&' joins strings, found a {items[0].type}")
    return items[0].value or ""


def signed(sign: str, operand: Evaluate) -> Evaluate:
    """`+operand`, `-operand`"""

    def evaluate(focus: Items, context: Context) -> Items:
        items = operand(focus, context)
        if not items:
            return EMPTY
        if len(items) > 1:
            raise Fault(f"a sign needs a single item, found {len(items)}")
        opposite = numbers.negative(items[0])
        return opposite if sign == "-" else items

    return evaluate


def is_type(operand: Evaluate, test: Callable[[Item], bool]) -> Truth:
    """`operand is Type`"""

    def evaluate(focus: Items, context: Context) -> bool | None:
        items = operand(focus, context)
        if not items:
            return None
        if len(items) > 1:
            raise Fault(f"'is' needs a single item, found {len(items)}")
        return test(items[0])

    return evaluate


def as_single(operand: Evaluate, test: Callable[[Item], bool]) -> Evaluate:
    """`operand as Type` where several items are a fault."""

    def evaluate(focus: Items, context: Context) -> Items:
        items = operand(focus, context)
        if len(items) > 1:
            raise Fault(f"'as' needs a single item, found {len(items)}")
        return items if items and test(items[0]) else EMPTY

    return evaluate


def union(left: Evaluate, right: Evaluate) -> Evaluate:
    """`left | right`"""
    return lambda focus, context: united(left(focus, context), right(focus, context), context.units)


def united(left: Items, right: Items, units: Units | None) -> Items:
    """All items of both, each once, in order."""
    return distinct((*left, *right), units)


def distinct(items: Items | tuple[Item, ...], units: Units | None) -> Items:
    """Each item once, the first of those that are equal."""
    if len(items) < 2:
        return list(items)
    found: dict[Hashable, Item] = {}
    for item in items:
        found.setdefault(key_of(item, units), item)
    return list(found.values())
