"""Regular expressions that come from clients and profiles, in bounded time.

Python's own matcher tries one way after the other, and `(a+)+b` makes it try more of them than there is time for. It is
used only where the number of ways is small: the product of what every quantifier can do with a text of this length,
with no quantifier inside a repeated group. Every other pattern is matched by `automaton`, which follows all ways at
once in time proportional to the text. What an automaton cannot do (back references, looking around, replacing) is then
refused, with the reason.

Spec: http://hl7.org/fhirpath/N1/#matchesregex-string-boolean
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from fhir_server.fhirpath import automaton
from fhir_server.fhirpath.items import MAX_TEXT, Fault
from fhir_server.fhirpath.regular import Irregular, Part, parsed

_MAX_PATTERN = 2000
_MAX_TEXT = 1_000_000
#: So many ways are tried in a few hundredths of a second.
_MAX_WAYS = 1_000_000

_NAMED_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
_GROUP = re.compile(r"\\|\$(?:(\d{1,2})|\{(\w{1,40})\})")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """`tree` is None for a pattern that is not regular; then `quantifiers` is unknown, and so is its cost."""

    compiled: re.Pattern[str]
    tree: Part | None
    reason: str
    fixed: int
    variable: int
    is_nested: bool


@lru_cache(maxsize=512)
def _pattern(text: str) -> _Pattern:
    if len(text) > _MAX_PATTERN:
        raise Fault(f"a regular expression has at most {_MAX_PATTERN} characters, found {len(text)}")
    python = _NAMED_GROUP.sub("(?P<", text)
    tree: Part | None = None
    reason = ""
    try:
        tree = parsed(python)
    except Irregular as irregular:
        reason = str(irregular)
    try:
        compiled = re.compile(python, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise Fault(f"{text[:80]!r} is no regular expression: {error}") from None
    if tree is None:
        return _Pattern(compiled, None, reason, 0, 0, True)
    return _Pattern(compiled, tree, reason, *tree.cost())


def _is_cheap(pattern: _Pattern, text: str, searching: int) -> bool:
    if pattern.is_nested or pattern.variable + searching > 12:
        return False
    ways: int = (len(text) + 2) ** (pattern.variable + searching) * pattern.fixed
    return ways <= _MAX_WAYS


def _program(pattern: _Pattern, what: str) -> automaton.Program:
    if pattern.tree is None:
        raise Fault(f"{what} {pattern.compiled.pattern[:80]!r} could take too long: it has {pattern.reason}")
    return automaton.program(pattern.tree)


def found(pattern_text: str, text: str) -> bool:
    """Whether a pattern matches any part of a text."""
    pattern = _checked(pattern_text, text)
    if _is_cheap(pattern, text, searching=1):
        return pattern.compiled.search(text) is not None
    return automaton.matches(_program(pattern, "to match"), text, whole=False)


def matches_whole(pattern_text: str, text: str) -> bool:
    """Whether a pattern matches a whole text."""
    pattern = _checked(pattern_text, text)
    if _is_cheap(pattern, text, searching=0):
        return pattern.compiled.fullmatch(text) is not None
    return automaton.matches(_program(pattern, "to match"), text, whole=True)


def replaced(pattern_text: str, text: str, substitution: str) -> str:
    """The text with each match replaced; `$1` and `${name}` stand for groups. An empty pattern replaces nothing."""
    if not pattern_text:
        return text
    pattern = _checked(pattern_text, text)
    if not _is_cheap(pattern, text, searching=1):
        raise Fault(f"to replace {pattern_text[:80]!r} in {len(text)} characters could take too long")
    template = _GROUP.sub(lambda m: "\\\\" if m.group() == "\\" else f"\\g<{m[1] or m[2]}>", substitution)
    size = 0

    def put(match: re.Match[str]) -> str:
        nonlocal size
        piece = match.expand(template)
        size += len(piece)
        if size > MAX_TEXT:
            raise Fault(f"a string of more than {MAX_TEXT} characters")
        return piece

    try:
        return pattern.compiled.sub(put, text)
    except (re.error, IndexError) as error:
        raise Fault(f"the substitution {substitution[:80]!r} does not fit {pattern_text[:80]!r}: {error}") from None


def _checked(pattern_text: str, text: str) -> _Pattern:
    if len(text) > _MAX_TEXT:
        raise Fault(f"a text of {len(text)} characters is too long for a regular expression")
    return _pattern(pattern_text)
