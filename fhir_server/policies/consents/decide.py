"""What a tree of rules hides from one reader, and what it opens to them.

With `D` what a rule denies and `A` what it allows, of the resources `R` that it is about, and `c` its exceptions:

| the rule | D | A |
|---|---|---|
| denies | R without the A of every c, and the D of every c within R | the A of every c, within R |
| permits | the D of every c, within R | R |

`A` of a rule that permits leaves out nothing, since what its exceptions deny is in `D`, which goes before `A`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        maybe: what may be one of their identifiers: it has no system, and the same value
    """

    names: frozenset[str]
    purpose: str
    now_us: int
    maybe: frozenset[str] = frozenset()


class TooIntricateError(Exception):
    """A tree of rules multiplies to more boxes than a policy may hold."""


class Tree:
    """A rule with its exceptions, and the boxes that it is about, made when they are first asked for."""

    __slots__ = ("exceptions", "moments", "names", "narrow", "purposes", "rule", "wide")

    def __init__(self, rule: Provision, boxes: Boxes, terminology: Terminology) -> None:
        self.rule = rule
        self.exceptions = tuple([Tree(exception, boxes, terminology) for exception in rule.exceptions])
        self.wide = boxes.of(rule, True)
        self.narrow = boxes.of(rule, False)
        self.purposes = frozenset(code for purpose in rule.purposes for code in _covered_by(purpose, terminology))
        #: Whom it names; to all others it says the same.
        self.names = frozenset(name for inner in rule.all() for name in inner.recipients or ())
        #: When a period within it begins or ends.
        self.moments: tuple[int, ...] = (
            *(() if rule.period is None else (rule.period.start_us, rule.period.end_us)),
            *(moment for inner in self.exceptions for moment in inner.moments),
        )

    def applies(self, reader: Recipient, *, wide: bool) -> bool:
        """Whether the rule is about this reader, now, for this purpose."""
        rule = self.rule
        names = reader.names | reader.maybe if wide else reader.names
        if rule.recipients is not None and rule.recipients.isdisjoint(names):
            return False
        if self.purposes and reader.purpose not in self.purposes:
            return False
        if rule.period is not None and not rule.period.start_us <= reader.now_us < rule.period.end_us:
            return False
        return wide or not rule.unsure

    def denied(self, reader: Recipient) -> tuple[Box, ...]:
        """What is hidden from the reader: at least what the rule means to hide."""
        try:
            return self._denied(reader)
        except TooIntricateError:
            return (Box(ANY_TYPE, DEFAULT_VERBS),)

    def allowed(self, reader: Recipient) -> tuple[Box, ...]:
        """What is opened to the reader: at most what the rule means to open."""
        try:
            return self._allowed(reader)
        except TooIntricateError:
            return ()

    def _denied(self, reader: Recipient) -> tuple[Box, ...]:
        if not self.applies(reader, wide=True):
            return ()
        if not self.exceptions:
            return () if self.rule.permits else self.wide
        within = _both(self.wide, [box for inner in self.exceptions for box in inner._denied(reader)])
        if self.rule.permits:
            return within
        unless = tuple([box for inner in self.exceptions for box in inner._allowed(reader)])
        if not unless:
            return self.wide  # what its exceptions deny is denied already
        return _bounded((*(replace(box, unless=unless) for box in self.wide), *within))

    def _allowed(self, reader: Recipient) -> tuple[Box, ...]:
        if not self.applies(reader, wide=False):
            return ()
        if self.rule.permits:
            return self.narrow
        return _both(self.narrow, [box for inner in self.exceptions for box in inner._allowed(reader)])


def _covered_by(purpose: Coding, terminology: Terminology) -> frozenset[str]:
    """A purpose with those below it: treatment covers emergency treatment."""
    system, code = purpose
    below = terminology.descendants(system, code) if system == ACT_REASON else None
    return frozenset({code, *(below or ())})


def _both(first: Sequence[Box], second: Sequence[Box]) -> tuple[Box, ...]:
    """What is in one of the first and in one of the second."""
    if len(first) * len(second) > MOST_PAIRS:
        raise TooIntricateError
    return _bounded(both for one in first for other in second if (both := meet(one, other)) is not None)


def _bounded(boxes: Iterable[Box]) -> tuple[Box, ...]:
    found = dict.fromkeys(islice(boxes, MOST + 1))
    if len(found) > MOST:
        raise TooIntricateError
    return tuple(found)
