"""What all Consents together hide from a reader, and, where nothing is permitted by itself, what they open.

Rules that hide alike are one grant with all their patients, so that ten thousand equal Consents make one condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from fhir_server.model.access import ANY_TYPE, VERBS, Grant, Layer, verbs_of
from fhir_server.policies.consents.boxes import Box
from fhir_server.policies.consents.decide import Decisions, Recipient
from fhir_server.policies.consents.provision import Provision
from fhir_server.policies.reach import Reach

#: What staff write to each other may be about no patient.
NOBODYS = ("Communication", "CommunicationRequest", "List", "Task")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one reader, at one moment.

    Attributes:
        denials: what is hidden
        allowed: the boxes that permissions open, with their patients; empty where everything is permitted by itself
        until_us: when a period of some rule begins or ends, so that the verdict may be another one
    """

    denials: Layer
    allowed: tuple[tuple[Box, frozenset[str]], ...]
    until_us: int


class Consents:
    """Judges by the rules of a book."""

    def __init__(self, decisions: Decisions, reach: Reach, *, base_permits: bool) -> None:
        self._decisions = decisions
        self._reach = reach
        self.base_permits = base_permits

    def verdict(
        self, rules: Mapping[Provision, set[str]], reader: Recipient, verbs: str, without: frozenset[str]
    ) -> Verdict:
        """What the rules hide from a reader, and what they open.

        Args:
            verbs: what Consents can take from this reader
            without: patients whose Consents do not count, since the glass is broken for them
        """
        denied: dict[Box, set[str]] = {}
        allowed: dict[Box, set[str]] = {}
        for rule, patients in rules.items():
            for box in self._decisions.denied(rule, reader):
                denied.setdefault(box, set()).update(patients)
            if not self.base_permits:
                for box in self._decisions.allowed(rule, reader):
                    allowed.setdefault(box, set()).update(patients)
        grants = [grant for box, whose in denied.items() for grant in self._hidden(box, whose - without, verbs)]
        opened = tuple([(box, frozenset(whose)) for box, whose in allowed.items()])
        return Verdict(tuple(dict.fromkeys(grants)), opened, _next_change(rules, reader.now_us))

    def _hidden(self, box: Box, patients: set[str], verbs: str) -> Iterator[Grant]:
        taken = verbs_of(set(box.verbs) & set(verbs))
        if not taken or not patients:
            return
        unless = tuple([_exception(inner) for inner in box.unless if _could_meet(box, inner)])
        if box.type == ANY_TYPE and box.ids is None:
            yield from self._reach.whole(taken, frozenset(patients), box.criteria, unless)
        else:
            yield from self._reach.seen(box.type, taken, frozenset(patients), box.criteria, box.ids, unless)

    def permitting_layer(self, verdict: Verdict, broken: frozenset[str], free_types: Iterable[str]) -> Layer:
        """Where nothing is permitted by itself: what permissions open, and what is nobody's record.

        Args:
            broken: patients for whom the glass is broken
            free_types: types that hold nothing of patients
        """
        grants: list[Grant] = [Grant(ANY_TYPE, "c")]
        grants += [Grant(name, VERBS) for name in sorted(free_types)]
        grants += [Grant(name, VERBS, criteria=(("subject:missing", "true"),)) for name in NOBODYS]
        grants += self._reach.whole(VERBS, broken)
        for box, patients in verdict.allowed:
            if box.type == ANY_TYPE and box.ids is None:
                grants += self._reach.whole(box.verbs, patients, box.criteria)
            else:
                grants += self._reach.seen(box.type, box.verbs, patients, box.criteria, box.ids)
        return tuple(dict.fromkeys(grants))


def _exception(box: Box) -> Grant:
    """An exception stands within a grant that says whose it is."""
    return Grant(box.type, box.verbs, None, box.criteria, box.ids, tuple(_exception(inner) for inner in box.unless))


def _could_meet(box: Box, other: Box) -> bool:
    return ANY_TYPE in (box.type, other.type) or box.type == other.type


def _next_change(rules: Iterable[Provision], now_us: int) -> int:
    """The next moment at which a period of some rule begins or ends."""
    moments = (
        moment
        for rule in rules
        for inner in rule.all()
        if inner.period is not None
        for moment in (inner.period.start_us, inner.period.end_us)
    )
    return min((moment for moment in moments if moment > now_us), default=2**62)
