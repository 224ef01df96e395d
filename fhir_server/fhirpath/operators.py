"""The operators and functions that give a boolean, over collections of values.

A boolean result is a collection too: `[True]`, `[False]` or `[]` where FHIRPath says *empty*.

Spec: http://hl7.org/fhirpath/N1/#equality, http://hl7.org/fhirpath/N1/#boolean-logic
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.fhirpath.steps import Evaluate

Truth = bool | None


def truth_of(values: list[Any]) -> Truth:
    """A collection as a condition: empty is unknown, a single value that is no boolean is true by being there."""
    if not values:
        return None
    return values[0] if isinstance(values[0], bool) and len(values) == 1 else True


def holds(evaluate: Evaluate) -> Callable[[Any], bool]:
    """The test of a `where`: what is empty does not hold."""
    return lambda node: truth_of(evaluate(node)) is True


def _collected(truth: Truth) -> list[Any]:
    return [] if truth is None else [truth]


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) is not isinstance(right, bool):
        return False  # in Python True == 1
    return bool(left == right)


def _equality(left: list[Any], right: list[Any]) -> Truth:
    if not left or not right:
        return None
    return len(left) == len(right) and all(map(_equal, left, right))


def _and(left: Truth, right: Truth) -> Truth:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _or(left: Truth, right: Truth) -> Truth:
    return _not(_and(_not(left), _not(right)))


def _xor(left: Truth, right: Truth) -> Truth:
    return None if left is None or right is None else left is not right


def _implies(left: Truth, right: Truth) -> Truth:
    return _or(_not(left), right)


_LOGIC: dict[str, Callable[[Truth, Truth], Truth]] = {"and": _and, "or": _or, "xor": _xor, "implies": _implies}


def binary(operator: str, left: Evaluate, right: Evaluate) -> Evaluate | None:
    """The evaluation of an operator over two operands; None for one that search expressions do not have."""
    if operator == "=":
        return lambda node: _collected(_equality(left(node), right(node)))
    if operator == "!=":
        return lambda node: _collected(_not(_equality(left(node), right(node))))
    logic = _LOGIC.get(operator)
    if logic is None:
        return None
    return lambda node: _collected(logic(truth_of(left(node)), truth_of(right(node))))


def exists(operand: Evaluate) -> Evaluate:
    """`operand.exists()`"""
    return lambda node: [bool(operand(node))]


def empty(operand: Evaluate) -> Evaluate:
    """`operand.empty()`"""
    return lambda node: [not operand(node)]


def negation(operand: Evaluate) -> Evaluate:
    """`operand.not()`"""
    return lambda node: _collected(_not(truth_of(operand(node))))
