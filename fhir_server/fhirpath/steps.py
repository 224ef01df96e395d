"""Straight paths as closures: each step visits the members below a node and hands them to the next.

A path is a tuple of steps, compared by what it means, so that equal paths can be walked once for several search
parameters. Nodes come as decoded JSON of validated resources; `null` in an array (a primitive that has only extensions)
is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Appends what a path finds below a node to a list.
Visit = Callable[[Any, list[Any]], None]
Evaluate = Callable[[Any], list[Any]]


@dataclass(frozen=True, slots=True)
class Key:
    """The member of that name; `many` where it is an array."""

    name: str
    many: bool


@dataclass(frozen=True, slots=True)
class Where:
    """Keeps the nodes that pass a test; two are equal when they come from the same words about the same type."""

    criterion: object
    test: Callable[[Any], bool] = field(compare=False)


@dataclass(frozen=True, slots=True)
class Nth:
    """The one value at a position among all that a path finds."""

    path: tuple[Step, ...]
    position: int


@dataclass(frozen=True, slots=True)
class Computed:
    """Values that no straight path leads to, such as those of `a.exists() and b != false`."""

    expression: object
    evaluate: Evaluate = field(compare=False)


Step = Key | Where | Nth | Computed


def visit_of(path: tuple[Step, ...]) -> Visit:
    """Walk a whole path, from the node it starts at."""
    visit: Visit = _append
    for step in reversed(path):
        visit = _before(step, visit)
    return visit


def visit_from_member(path: tuple[Step, ...]) -> Visit:
    """Walk a path whose first step is a key from the value of that member, already looked up."""
    first = path[0]
    assert isinstance(first, Key)
    rest = visit_of(path[1:])
    return _each(rest) if first.many else rest


def _before(step: Step, then: Visit) -> Visit:
    match step:
        case Key(name, many):
            if many:
                return _many(name, then)
            return _last(name) if then is _append else _one(name, then)
        case Where(_, test):
            return _where(test, then)
        case Nth(path, position):
            return _nth(visit_of(path), position, then)
        case Computed(_, evaluate):
            return _computed(evaluate, then)


def _append(node: Any, found: list[Any]) -> None:
    found.append(node)


def _each(then: Visit) -> Visit:
    def visit(nodes: Any, found: list[Any]) -> None:
        for node in nodes:
            if node is not None:
                then(node, found)

    return visit


def _last(name: str) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        child = node.get(name)
        if child is not None:
            found.append(child)

    return visit


def _one(name: str, then: Visit) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        child = node.get(name)
        if child is not None:
            then(child, found)

    return visit


def _many(name: str, then: Visit) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        children = node.get(name)
        if children is not None:
            for child in children:
                if child is not None:
                    then(child, found)

    return visit


def _where(test: Callable[[Any], bool], then: Visit) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        if test(node):
            then(node, found)

    return visit


def _nth(path: Visit, position: int, then: Visit) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        candidates: list[Any] = []
        path(node, candidates)
        if position < len(candidates):
            then(candidates[position], found)

    return visit


def _computed(evaluate: Evaluate, then: Visit) -> Visit:
    def visit(node: Any, found: list[Any]) -> None:
        for value in evaluate(node):
            then(value, found)

    return visit
