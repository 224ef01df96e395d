"""What a tree of rules hides from one reader, and what it opens to them.

With `D` what a rule denies and `A` what it allows, of the resources `R` that it is about, and `c` its exceptions:

| the rule | D | A |
|---|---|---|
| denies | R without the A of every c, and the D of every c within R | the A of every c, within R |
| permits | the D of every c, within R | R |

`A` of a rule that permits leaves out nothing, since what its exceptions deny is in `D`, which goes before `A`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

from fhir_server.model.access import ANY_TYPE
from fhir_server.policies.consents.boxes import DEFAULT_VERBS, Box, Boxes, meet
from fhir_server.policies.consents.provision import Coding, Provision
from profiles.terminology import Terminology

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

#: Boxes of one rule, and pairs of them that are looked at; what would need more is hidden whole, and opens nothing.
MOST = 2000
MOST_PAIRS = 100_000


@dataclass(frozen=True, slots=True)
class Recipient:
    """A reader, as Consents look at them.

    Attributes:
        names: references and identifiers of the reader, of the reader's roles, teams, organizations
        purpose: why they read: a code of v3-ActReason
        now_us: when
    """

    names: frozenset[str]
    purpose: str
    now_us: int


class TooIntricateError(Exception):
    """A tree of rules multiplies to more boxes than a policy may hold."""


class Decisions:
    """Decides by trees of rules."""

    def __init__(self, boxes: Boxes, terminology: Terminology) -> None:
        self._boxes = boxes
        self._terminology = terminology

    def denied(self, rule: Provision, reader: Recipient) -> tuple[Box, ...]:
        """What is hidden from the reader: at least what the rule means to hide."""
        try:
            return self._denied(rule, reader)
        except TooIntricateError:
            return (Box(ANY_TYPE, DEFAULT_VERBS),)

    def allowed(self, rule: Provision, reader: Recipient) -> tuple[Box, ...]:
        """What is opened to the reader: at most what the rule means to open."""
        try:
            return self._allowed(rule, reader)
        except TooIntricateError:
            return ()

    def _denied(self, rule: Provision, reader: Recipient) -> tuple[Box, ...]:
        if not self._applies(rule, reader, wide=True):
            return ()
        own = self._boxes.of(replace(rule, exceptions=()), True)
        within = _both(own, (box for exception in rule.exceptions for box in self._denied(exception, reader)))
        if rule.permits:
            return within
        unless = tuple([box for exception in rule.exceptions for box in self._allowed(exception, reader)])
        return _bounded((*(replace(box, unless=unless) for box in own), *within))

    def _allowed(self, rule: Provision, reader: Recipient) -> tuple[Box, ...]:
        if not self._applies(rule, reader, wide=False):
            return ()
        own = self._boxes.of(replace(rule, exceptions=()), False)
        if rule.permits:
            return own
        return _both(own, (box for exception in rule.exceptions for box in self._allowed(exception, reader)))

    def _applies(self, rule: Provision, reader: Recipient, *, wide: bool) -> bool:
        """Whether a rule is about this reader, now, for this purpose."""
        if rule.unsure and not wide:
            return False
        if rule.period is not None and not rule.period.start_us <= reader.now_us < rule.period.end_us:
            return False
        if rule.recipients is not None and rule.recipients.isdisjoint(reader.names):
            return False
        return not rule.purposes or any(self._covers(purpose, reader.purpose) for purpose in rule.purposes)

    def _covers(self, purpose: Coding, actual: str) -> bool:
        """Whether a purpose is the actual one, or above it: treatment covers emergency treatment."""
        system, code = purpose
        if code == actual:
            return True
        return system == ACT_REASON and actual in (self._terminology.descendants(system, code) or ())


def _both(some: Iterable[Box], others: Iterable[Box]) -> tuple[Box, ...]:
    """What is in one of the first and in one of the second."""
    first, second = tuple(some), tuple(others)
    if len(first) * len(second) > MOST_PAIRS:
        raise TooIntricateError
    return _bounded(both for one in first for other in second if (both := meet(one, other)) is not None)


def _bounded(boxes: Iterable[Box]) -> tuple[Box, ...]:
    found = dict.fromkeys(islice(boxes, MOST + 1))
    if len(found) > MOST:
        raise TooIntricateError
    return tuple(found)
