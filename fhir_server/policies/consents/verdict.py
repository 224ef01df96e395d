"""What all Consents together hide from a reader, and, where nothing is permitted by itself, what they open.

Rules that hide alike are one grant with all their patients, so that ten thousand equal Consents make one condition.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fhir_server.model.access import ANY_TYPE, VERBS, Grant, Layer, verbs_of
from fhir_server.policies.consents.book import ConsentBook, Entry
from fhir_server.policies.consents.boxes import Box
from fhir_server.policies.consents.decide import Recipient
from fhir_server.policies.reach import Reach
from fhir_server.policies.relations import NOTHING

NEVER_US = 2**62

#: Purposes of use for which the general verdict is kept.
MOST_PURPOSES = 64

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


@dataclass(slots=True)
class _General:
    """What the rules say to whom none of them names, for one purpose: most readers, of most rules."""

    epoch: int
    until_us: int
    denied: dict[Box, dict[int, Entry]]
    allowed: dict[Box, dict[int, Entry]]
    grants: dict[tuple[Box, str], Layer]
    verdicts: dict[str, Verdict]


class Consents:
    """Judges by the rules of a book.

    What the rules say to whom they do not name is judged once and shared; for others, the few rules that name them are
    judged beside that.
    """

    def __init__(self, book: ConsentBook, reach: Reach, *, base_permits: bool) -> None:
        self._book = book
        self._reach = reach
        self._general: dict[str, _General] = {}
        self.base_permits = base_permits

    def verdict(self, reader: Recipient, verbs: str, without: frozenset[str]) -> Verdict:
        """What the rules hide from a reader, and what they open.

        Args:
            verbs: what Consents can take from this reader
            without: patients whose Consents do not count, since the glass is broken for them
        """
        general = self._general_of(reader)
        naming = self._book.naming(reader.names | reader.maybe)
        if not naming and not without:
            return self._plain(general, verbs)
        denied, allowed = dict(general.denied), dict(general.allowed)
        changed: set[Box] = set()
        nobody = Recipient(NOTHING, reader.purpose, reader.now_us)
        for entry in naming:
            tree = entry[0]
            changed |= _exchanged(denied, entry, tree.denied(nobody), tree.denied(reader))
            if not self.base_permits:
                _exchanged(allowed, entry, tree.allowed(nobody), tree.allowed(reader))
        grants: list[Grant] = []
        for box, entries in denied.items():
            if box in changed or (without and any(not without.isdisjoint(whose) for _, whose in entries.values())):
                grants += self._hidden(box, _patients(entries) - without, verbs)
            else:
                grants += self._shared(general, box, verbs)
        return Verdict(tuple(dict.fromkeys(grants)), _opened(allowed), general.until_us)

    def _general_of(self, reader: Recipient) -> _General:
        general = self._general.get(reader.purpose)
        if general is not None and general.epoch == self._book.epoch and reader.now_us < general.until_us:
            return general
        nobody = Recipient(NOTHING, reader.purpose, reader.now_us)
        general = _General(self._book.epoch, NEVER_US, {}, {}, {}, {})
        for entry in self._book.entries:
            tree = entry[0]
            for box in tree.denied(nobody):
                general.denied.setdefault(box, {})[id(tree)] = entry
            if not self.base_permits:
                for box in tree.allowed(nobody):
                    general.allowed.setdefault(box, {})[id(tree)] = entry
            for moment in tree.moments:
                if reader.now_us < moment < general.until_us:
                    general.until_us = moment
        if len(self._general) >= MOST_PURPOSES:
            self._general.clear()
        self._general[reader.purpose] = general
        return general

    def _plain(self, general: _General, verbs: str) -> Verdict:
        """The verdict of all whom nothing names."""
        verdict = general.verdicts.get(verbs)
        if verdict is None:
            grants = [grant for box in general.denied for grant in self._shared(general, box, verbs)]
            verdict = Verdict(tuple(dict.fromkeys(grants)), _opened(general.allowed), general.until_us)
            general.verdicts[verbs] = verdict
        return verdict

    def _shared(self, general: _General, box: Box, verbs: str) -> Layer:
        layer = general.grants.get((box, verbs))
        if layer is None:
            layer = tuple(self._hidden(box, _patients(general.denied[box]), verbs))
            general.grants[box, verbs] = layer
        return layer

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


def _exchanged(
    boxes: dict[Box, dict[int, Entry]], entry: Entry, before: Iterable[Box], after: Iterable[Box]
) -> set[Box]:
    """Put what a rule says to one reader in place of what it says to others; the boxes that this changed."""
    old, new = set(before), set(after)
    key = id(entry[0])
    for box in old - new:
        boxes[box] = {k: e for k, e in boxes[box].items() if k != key}
        if not boxes[box]:
            del boxes[box]
    for box in new - old:
        boxes[box] = {**boxes.get(box, {}), key: entry}
    return old ^ new


def _patients(entries: dict[int, Entry]) -> set[str]:
    return set().union(*(patients for _, patients in entries.values()))


def _opened(allowed: dict[Box, dict[int, Entry]]) -> tuple[tuple[Box, frozenset[str]], ...]:
    return tuple([(box, frozenset(_patients(entries))) for box, entries in allowed.items()])


def _exception(box: Box) -> Grant:
    """An exception stands within a grant that says whose it is."""
    return Grant(box.type, box.verbs, None, box.criteria, box.ids, tuple(_exception(inner) for inner in box.unless))


def _could_meet(box: Box, other: Box) -> bool:
    return ANY_TYPE in (box.type, other.type) or box.type == other.type
