"""The structure of a regular expression: what is repeated, what is chosen among, in which order.

Only the structure is read here; a single character, an escape or a class keeps its text, which Python's `re` then
understands. Back references, looking around and word boundaries are kept as what is beyond an automaton.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_REPEAT = 1000
_MAX_DEPTH = 60
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d{1,9})(?:(,)(\d{0,9}))?\})[?+]?", re.ASCII)
_ESCAPE = re.compile(r"\\(?:u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_GROUP = re.compile(r"\((?:\?(?::|P<\w+>|=|!|<=|<!|[aimsx]+:))?", re.ASCII)
_FLAGS = re.compile(r"\(\?[aimsx]+\)", re.ASCII)
_ANCHORS = {"^": "start", "$": "end", r"\A": "start", r"\Z": "end"}

#: How dear a part is: a factor that does not depend on the text, how many quantifiers do, and whether they nest.
Cost = tuple[int, int, bool]


class Irregular(ValueError):
    """The pattern has something whose cost cannot be told; the message names it."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One character; `text` is the regular expression that it must match."""

    text: str

    def cost(self) -> Cost:
        return 1, 0, False


@dataclass(frozen=True, slots=True)
class Anchor:
    """`start` or `end` of the text."""

    where: str

    def cost(self) -> Cost:
        return 1, 0, False


@dataclass(frozen=True, slots=True)
class Beyond:
    """What an automaton cannot do; `part` is what stands in its brackets."""

    text: str
    part: Part | None = None

    def cost(self) -> Cost:
        # A back reference compares as many characters as its group has matched.
        return (1, 1, False) if self.part is None else self.part.cost()


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: tuple[Part, ...]

    def cost(self) -> Cost:
        return _combined([part.cost() for part in self.parts])


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Part, ...]

    def cost(self) -> Cost:
        fixed, variable, nested = _combined([option.cost() for option in self.options])
        return fixed * len(self.options), variable, nested


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` is None where there is no end."""

    part: Part
    least: int
    most: int | None

    def cost(self) -> Cost:
        fixed, variable, nested = self.part.cost()
        if self.least == self.most:
            # The same part some times over: each of them can go its own ways.
            return min(fixed ** min(self.least, 40), 10**9), variable * self.least, nested
        if self.most == 1:
            return fixed * 2, variable, nested
        return fixed, variable + 1, nested or variable > 0 or fixed > 1


Part = Atom | Anchor | Beyond | Sequence | Choice | Repeat


def _combined(costs: list[Cost]) -> Cost:
    product = 1
    for fixed, _, _ in costs:
        product = min(product * fixed, 10**9)
    return product, sum(variable for _, variable, _ in costs), any(nested for _, _, nested in costs)


def parsed(pattern: str) -> Part:
    """The structure of a pattern that `re` accepts.

    Raises:
        Irregular: it repeats beyond reason, or has what only some engines know.
    """
    reader = _Reader(pattern)
    part = reader.choice(0)
    if reader.at < len(pattern):
        raise Irregular("a bracket that is not opened")
    return part


class _Reader:
    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    def choice(self, depth: int) -> Part:
        if depth > _MAX_DEPTH:
            raise Irregular("groups that are nested too deeply")
        options = [self._sequence(depth)]
        while self._pattern.startswith("|", self.at):
            self.at += 1
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self, depth: int) -> Part:
        parts: list[Part] = []
        while self.at < len(self._pattern) and self._pattern[self.at] not in "|)":
            parts.append(self._quantified(self._part(depth)))
        return Sequence(tuple(parts))

    def _quantified(self, part: Part) -> Part:
        while (found := _QUANTIFIER.match(self._pattern, self.at)) is not None:
            text = found.group()
            if text[-1] == "+" and len(text) > 1:
                raise Irregular("a possessive quantifier")
            self.at = found.end()
            least, most = _bounds(text[0], found[1], found[2], found[3])
            if max(least, most or 0) > _MAX_REPEAT:
                raise Irregular(f"a repetition of more than {_MAX_REPEAT} times")
            part = Repeat(part, least, most)
        return part

    def _part(self, depth: int) -> Part:
        character = self._pattern[self.at]
        if character == "(":
            return self._group(depth)
        if character == "[":
            found = _CLASS.match(self._pattern, self.at)
        elif character == "\\":
            found = _ESCAPE.match(self._pattern, self.at)
        else:
            self.at += 1
            return Anchor(_ANCHORS[character]) if character in _ANCHORS else Atom(_literal(character))
        if found is None:
            raise Irregular("a class or an escape without an end")
        self.at = found.end()
        text = found.group()
        if text in _ANCHORS:
            return Anchor(_ANCHORS[text])
        if text[0] == "\\" and text[1] in "bB123456789":
            return Beyond(text)
        return Atom(text)

    def _group(self, depth: int) -> Part:
        if (flags := _FLAGS.match(self._pattern, self.at)) is not None:
            self.at = flags.end()
            return Beyond(flags.group())
        found = _GROUP.match(self._pattern, self.at)
        assert found is not None
        if found.group() == "(" and self._pattern.startswith("?", found.end()):
            raise Irregular("a group of an unknown kind")
        self.at = found.end()
        part = self.choice(depth + 1)
        if not self._pattern.startswith(")", self.at):
            raise Irregular("a group without an end")
        self.at += 1
        is_plain = found.group() in ("(", "(?:") or found.group().startswith("(?P")
        return part if is_plain else Beyond(f"{found.group()}…)", part)


def _literal(character: str) -> str:
    return character if character == "." else re.escape(character)


def _bounds(sign: str, least: str | None, comma: str | None, most: str | None) -> tuple[int, int | None]:
    if sign == "{":
        low = int(least or 0)
        return low, low if comma is None else int(most) if most else None
    return {"*": (0, None), "+": (1, None)}.get(sign, (0, 1))
