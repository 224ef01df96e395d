"""Match a regular expression by following all its ways at once.

The pattern becomes a nondeterministic automaton, whose sets of states are made deterministic as the text asks for them,
and kept. The time is at most the length of the text times the size of the automaton; a budget ends what would
nevertheless take seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from fhir_server.fhirpath.items import Fault
from fhir_server.fhirpath.regular import Anchor, Atom, Beyond, Choice, Part, Repeat, Sequence

_MAX_STATES = 4000
_MAX_WORK = 2_000_000
_MAX_KEPT = 100_000

States = frozenset[int]


@dataclass(slots=True)
class Program:
    """States by number: the character test that leads on to the next number, or the numbers to go on to at once.

    The last state is the end. `anchors` must hold at the place where they are passed. `steps` keeps what was found,
    as far as its size, `kept`, allows.
    """

    tests: list[re.Pattern[str] | None] = field(default_factory=list)
    jumps: list[tuple[int, ...]] = field(default_factory=list)
    anchors: dict[int, str] = field(default_factory=dict)
    steps: dict[tuple[States, str, bool], States] = field(default_factory=dict)
    kept: int = 0

    @property
    def end(self) -> int:
        return len(self.tests) - 1


@lru_cache(maxsize=16)
def program(part: Part) -> Program:
    """The automaton of a pattern.

    Raises:
        Fault: it would have too many states.
    """
    made = Program()
    _add(made, part)
    _state(made, None)
    return made


def _state(made: Program, test: re.Pattern[str] | None) -> int:
    if len(made.tests) >= _MAX_STATES:
        raise Fault(f"a regular expression of more than {_MAX_STATES} states")
    made.tests.append(test)
    made.jumps.append(())
    return len(made.tests) - 1


def _add(made: Program, part: Part) -> None:
    """Append the states of a part; what follows it starts at the next number."""
    match part:
        case Atom(text):
            _state(made, re.compile(text, re.DOTALL))
        case Anchor(where):
            at = _state(made, None)
            made.anchors[at] = where
            made.jumps[at] = (at + 1,)
        case Beyond(text):
            raise Fault(f"to match a regular expression with {text} in it could take too long")
        case Sequence(parts):
            for one in parts:
                _add(made, one)
        case Choice(options):
            _add_choice(made, options)
        case Repeat(repeated, least, most):
            for _ in range(least):
                _add(made, repeated)
            _add_optional(made, repeated, None if most is None else most - least)


def _add_choice(made: Program, options: tuple[Part, ...]) -> None:
    fork = _state(made, None)
    starts, ends = [], []
    for option in options:
        starts.append(len(made.tests))
        _add(made, option)
        ends.append(_state(made, None))
    made.jumps[fork] = tuple(starts)
    for end in ends:
        made.jumps[end] = (len(made.tests),)


def _add_optional(made: Program, part: Part, most: int | None) -> None:
    if most is None:
        fork = _state(made, None)
        _add(made, part)
        back = _state(made, None)
        made.jumps[back] = (fork,)
        made.jumps[fork] = (fork + 1, len(made.tests))
        return
    forks = []
    for _ in range(most):
        forks.append(_state(made, None))
        _add(made, part)
    for fork in forks:
        made.jumps[fork] = (fork + 1, len(made.tests))


def _closed(made: Program, states: set[int], at_start: bool, at_end: bool) -> States:
    """All states that can be reached without a character."""
    found: set[int] = set()
    waiting = list(states)
    while waiting:
        state = waiting.pop()
        if state in found:
            continue
        found.add(state)
        anchor = made.anchors.get(state)
        if anchor is None or (at_start if anchor == "start" else at_end):
            waiting += made.jumps[state]
    return frozenset(found)


def matches(made: Program, text: str, *, whole: bool) -> bool:
    """Whether the pattern matches the whole text, or any part of it.

    Raises:
        Fault: it takes too long.
    """
    end, work = made.end, 0
    states = _closed(made, {0}, at_start=True, at_end=not text)
    restart = frozenset() if whole else _closed(made, {0}, at_start=False, at_end=False)
    for character in text:
        if not whole and end in states:
            return True
        following = made.steps.get((states, character, whole))
        if following is None:
            work += len(states) + 10
            if work > _MAX_WORK:
                raise Fault("to match a regular expression took too long")
            reached = {s + 1 for s in states if (test := made.tests[s]) is not None and test.match(character)}
            following = _closed(made, reached, at_start=False, at_end=False) | restart
            made.kept += len(states) + len(following)
            if made.kept > _MAX_KEPT:
                made.steps.clear()
                made.kept = 0
            made.steps[states, character, whole] = following
        states = following
        if not states:
            return False
    return end in states or end in _closed(made, set(states), at_start=not text, at_end=True)
