"""The grammar of `_filter`: `given eq "peter" and (birthdate ge 2014 or subject[active eq true].name co "pet")`.

`and` and `or` have no precedence: they are taken from left to right, and parentheses say what else is meant.

Spec: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from fhir_server.model.errors import InvalidError

OPERATORS = frozenset(
    ("eq", "ne", "co", "sw", "ew", "gt", "lt", "ge", "le", "ap", "sa", "eb", "pr", "po", "ss", "sb", "in", "re")
)

#: Parentheses, brackets and `not` inside each other, and comparisons in one filter.
MAX_DEPTH = 32
MAX_TESTS = 100

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[_A-Za-z][A-Za-z0-9_-]*(?::[A-Z][A-Za-z]*)?")
_WORD = re.compile(r"[a-z]+")
_TOKEN = re.compile(r"[^\s)\]]+")
_STRING = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Step:
    """One name of a path, with the filter in brackets that stands after it, if any."""

    name: str
    filter: Node | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """`path operator value`."""

    steps: tuple[Step, ...]
    operator: str
    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Logical:
    """Two filters joined."""

    operator: Literal["and", "or"]
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Negation:
    """`not (filter)`."""

    operand: Node


Node = Path | Logical | Negation


def tree_of(text: str) -> Node:
    """Read a filter.

    Raises:
        InvalidError: 400; it does not follow the grammar; the message tells where.
    """
    reader = _Reader(text)
    tree = reader.filter(0)
    reader.space()
    if reader.position < len(text):
        raise reader.refused("`and`, `or` or the end")
    return tree


def fault(text: str, at: int, why: str) -> InvalidError:
    """400: what is wrong at a place of a filter."""
    shown = text[at : at + 30] or "the end"
    return InvalidError(
        f"The filter is not valid at position {at + 1} ({shown!r}): {why}.",
        code="value",
        key="HS-SEARCH-FILTER",
        expression="http._filter",
    )


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tests = 0
        self.position = 0

    def refused(self, expected: str) -> InvalidError:
        return fault(self._text, self.position, f"expected {expected}")

    def space(self) -> int:
        """Pass over white space; tells how much there was."""
        found = _SPACE.match(self._text, self.position)
        start, self.position = self.position, found.end() if found else self.position
        return self.position - start

    def filter(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise fault(self._text, self.position, f"it is nested deeper than {MAX_DEPTH} levels")
        left = self._term(depth)
        while True:
            start = self.position
            self.space()
            word = self._word()
            if word not in ("and", "or"):
                self.position = start
                return left
            right = self._term(depth)
            left = Logical("and" if word == "and" else "or", left, right)

    def _term(self, depth: int) -> Node:
        self.space()
        if self._takes("("):
            inner = self.filter(depth + 1)
            self._require(")")
            return inner
        start = self.position
        if self._word() == "not":
            self.space()
            if self._takes("("):
                inner = self.filter(depth + 1)
                self._require(")")
                return Negation(inner)
        self.position = start
        return self._test(depth)

    def _test(self, depth: int) -> Path:
        start = self.position
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise fault(self._text, start, f"it has more than {MAX_TESTS} comparisons")
        steps = self._steps(depth)
        if not self.space():
            raise self.refused("a blank and an operator")
        before = self.position
        operator = self._word()
        if operator not in OPERATORS:
            self.position = before
            raise self.refused(f"one of the operators {', '.join(sorted(OPERATORS))}")
        if not self.space():
            raise self.refused("a blank and a value")
        return Path(steps, operator, self._value(), start)

    def _steps(self, depth: int) -> tuple[Step, ...]:
        steps: list[Step] = []
        while True:
            found = _NAME.match(self._text, self.position)
            if found is None:
                raise self.refused("the name of a search parameter")
            self.position = found.end()
            inner: Node | None = None
            if self._takes("["):
                inner = self.filter(depth + 1)
                self._require("]")
            steps.append(Step(found.group(), inner))
            if not self._takes("."):
                if inner is not None:
                    raise self.refused("`.` and the name of a search parameter after a filter in brackets")
                return tuple(steps)

    def _value(self) -> str:
        if self._text.startswith('"', self.position):
            try:
                value, self.position = _STRING.raw_decode(self._text, self.position)
            except ValueError:
                raise self.refused("a string as in JSON, closed by a quotation mark") from None
            return str(value)
        found = _TOKEN.match(self._text, self.position)
        if found is None:
            raise self.refused("a value")
        self.position = found.end()
        return found.group()

    def _word(self) -> str:
        found = _WORD.match(self._text, self.position)
        if found is None:
            return ""
        self.position = found.end()
        return found.group()

    def _takes(self, sign: str) -> bool:
        taken = self._text.startswith(sign, self.position)
        self.position += taken
        return taken

    def _require(self, sign: str) -> None:
        self.space()
        if not self._takes(sign):
            raise self.refused(f"`{sign}`, `and` or `or`")
