"""Memberships that expressions ask for (`memberOf`), where the definitions that are held do not tell.

An expression is evaluated at one go, and what is known elsewhere (rows of big code systems, files, another server) must
be waited for. So what is not known is noted, asked when the validation is through, and the validation done again with
the answers. What nobody knows stays unknown: an expression that it decides is told as not checked.

Spec: https://hl7.org/fhir/R4/fhirpath.html#functions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

from fhir_server.fhirpath.evaluation import Terminology
from fhir_server.validation.profile.findings import MAX_FINDINGS

#: A value set, and a code with its system; without one where the element implies it.
Asked: TypeAlias = tuple[str, str | None, str]
Answers: TypeAlias = Mapping[Asked, bool | None]


class Members:
    """The memberships of one validation; `asked` are those that are to be found out.

    Args:
        answers: what was found out before; None where nobody knows
    """

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers: Answers = answers or {}
        self.asked: dict[Asked, None] = {}
        self._doubtful: dict[str, None] = {}
        self._assumed: bool | None = None

    @property
    def is_assuming(self) -> bool:
        """Whether what is found out now holds under an assumption."""
        return self._assumed is not None

    def of(self, question: Asked) -> bool | None:
        """The answer to what the definitions do not tell."""
        known = self._answers.get(question)
        if known is not None:
            return known
        if question not in self._answers and len(self.asked) < MAX_FINDINGS:
            self.asked[question] = None
        self._doubtful[question[0]] = None
        return self._assumed

    def judged(self, condition: Callable[[], bool | None]) -> tuple[bool | None, tuple[str, ...]]:
        """What a condition says, and the value sets by which it could say something else, if they were known."""
        with self._doubting() as doubtful:
            verdict = condition()
        if verdict is True or not doubtful:
            return verdict, ()
        either = set()
        for assumed in (True, False):
            with self._assuming(assumed):
                either.add(condition())
        if either == {True} or (verdict is False and either == {False}):
            return verdict, ()
        return verdict, tuple(doubtful)

    @contextmanager
    def _doubting(self) -> Iterator[dict[str, None]]:
        before, self._doubtful = self._doubtful, {}
        try:
            yield self._doubtful
        finally:
            self._doubtful = before | self._doubtful

    @contextmanager
    def _assuming(self, verdict: bool) -> Iterator[None]:
        before, self._assumed = self._assumed, verdict
        try:
            yield
        finally:
            self._assumed = before


class Asking:
    """The definitions as expressions ask them, with `members` for what these do not tell."""

    __slots__ = ("_held", "_members")

    def __init__(self, held: Terminology, members: Members) -> None:
        self._held = held
        self._members = members

    def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        verdict = self._held.member(value_set, system, code)
        return self._members.of((value_set, system, code)) if verdict is None else verdict

    def descendants(self, system: str, code: str) -> frozenset[str] | None:
        return self._held.descendants(system, code)
