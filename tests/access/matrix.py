"""Cases of the access matrix, and how they are asked and compared: see `test_matrix`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.access.asking import Question, Told
from tests.access.cast import CALLERS, STAFF_ONLY, A, B, D, E, F, Person, R, S, X, Y
from tests.access.ways import Way

#: What an auditor is there to see, whoever denies what to others.
FOR_AUDITORS = frozenset({"AuditEvent", "Consent", "Provenance"})


@dataclass(frozen=True)
class Case:
    """Somebody, something that is hidden from them, and its double.

    Attributes:
        asks: who asks about the hidden thing, and who about the double
        types: those that stand for all others, since the caller has most to do with them
        but: types of which there is something to see
        only: the types that there are of the hidden thing; empty: all
        reads_alone: whether what is hidden may be changed: Consents do not hold up what a program stores
        breaks: whether the caller may break the glass, and is then told who exists
    """

    hidden: Person
    double: Person
    asks: tuple[str, str]
    types: tuple[str, ...]
    but: frozenset[str] = frozenset()
    only: tuple[str, ...] = ()
    reads_alone: bool = False
    breaks: bool = False

    def __str__(self) -> str:
        return f"{self.asks[0]}-about-{self.hidden.name}"

    @property
    def twins(self) -> bool:
        """Whether there is something to see of both."""
        return self.hidden is E

    @property
    def is_wide(self) -> bool:
        """Whether the caller could see things of most types, were they not hidden."""
        return self.hidden in (D, E) and self.asks[0] in ("patient-e", "proxy-e", "doctor", "system")

    def is_one_question(self, way: Way) -> bool:
        """Whether what is asked about the hidden thing and about its double is the same."""
        return self.asks[0] == self.asks[1] and not way.names_something

    def ways(self, world: Any, types: Iterable[str]) -> Iterator[tuple[str, Way]]:
        """The ways to ask, each with the type that it is about."""
        for name in types:
            if name in self.but or (self.only and name not in self.only):
                continue
            for way in world.ways.of_type(name, world.contents):
                # The twins are there to be seen, and stay as they are.
                if not (way.changes and (self.reads_alone or (self.twins and name == "Patient"))):
                    yield name, way
        for way in () if self.but else world.ways.of_server():
            if not (way.kind == "$break-glass" and self.breaks):
                yield "Observation", way


def case(hidden: Person, double: Person, caller: str, *types: str, **more: Any) -> Case:
    """A case of one caller, or of `patient` for the two of them whom the twins are."""
    twins = hidden is E and f"{caller}-e" in CALLERS
    asks = (f"{caller}-e", f"{caller}-f") if twins else (caller, caller)
    return Case(hidden, double, asks, types, breaks=CALLERS[asks[0]].role == "practitioner", **more)


#: Every role and whatever is hidden from it.
CASES = [
    # A stranger.
    case(B, X, "patient-a", "Patient", "Observation", "Binary"),
    case(B, X, "proxy-e", "Patient", "Provenance"),
    case(B, X, "granular-e", "Observation"),
    case(B, X, "guardian", "Patient", "Observation"),
    case(B, X, "doctor", "Encounter", "Task"),
    case(B, X, "rival", "Composition", "Communication"),
    case(B, X, "pharmacist", "MedicationRequest", "Patient"),
    case(B, X, "desk", "Appointment", "Patient"),
    case(B, X, "administrator", "Patient", "Observation"),
    case(B, X, "auditor", "Patient", "Task", but=FOR_AUDITORS),
    # Somebody in care, who denies it.
    case(D, Y, "doctor", "Patient", "Observation", "Binary"),
    case(D, Y, "pharmacist", "MedicationRequest"),
    case(D, Y, "desk", "Consent"),
    case(D, Y, "system", "Observation", "Binary", reads_alone=True),
    case(D, Y, "feed", "Observation", reads_alone=True),
    # Somebody in care of whom a part is hidden.
    case(E, F, "patient", "Patient", "Observation"),
    case(E, F, "proxy", "Consent", "Communication"),
    case(E, F, "guardian", "Observation", "Communication"),
    case(E, F, "granular", "Observation"),
    case(E, F, "doctor", "Observation", "DocumentReference", "Provenance"),
    case(E, F, "pharmacist", "MedicationRequest", "Task"),
    case(E, F, "desk", "Patient", "Appointment"),
    case(E, F, "system", "Provenance", "Group", reads_alone=True),
    case(E, F, "feed", "Observation", reads_alone=True),
    # What the staff of another organization has for itself.
    case(R, S, "patient-a", "Task", only=STAFF_ONLY),
    case(R, S, "doctor", "Communication", "Task", only=STAFF_ONLY),
    case(R, S, "pharmacist", "Communication", only=STAFF_ONLY),
    case(R, S, "desk", "Task", only=STAFF_ONLY),
    case(R, S, "feed", "List", only=STAFF_ONLY),
]

#: Who sees what after all: a guard that hides everything would pass the matrix.
SEEN = {
    "patient-a": (A, 60),
    "patient-e": (E, 1),
    "proxy-e": (E, 1),
    "guardian": (A, 60),
    "colleague": (D, 60),
    "doctor": (E, 1),
    "pharmacist": (E, 1),
    "desk": (E, 1),
    "system": (A, 67),
    "feed": (A, 1),
    "auditor": (D, 3),
    "rival": (R, 5),
}


def question(way: Way, name: str, about: Person) -> Question:
    headers = tuple((header, about.filled(value, name)) for header, value in way.headers)
    return Question(way.method, about.filled(way.url, name), about.filled(way.body, name), headers)


def of_record(types: Iterable[str], person: Person) -> list[Question]:
    """A look at all resources of a person."""
    return [Question("GET", f"{name}/{person.id_of(name)}") for name in types]


@dataclass
class Findings:
    """What a case brought to light: each a line for whoever reads why a test failed.

    Attributes:
        differing: answers that differ between the hidden thing and its double
        shown: answers to questions about nothing in particular that have something hidden in them
        failing: answers of a server that failed
    """

    differing: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    failing: list[str] = field(default_factory=list)
    ways: set[str] = field(default_factory=set)

    @property
    def leaks(self) -> list[str]:
        return [*self.differing, *self.shown, *self.failing]


def asked(world: Any, of: Case, rows: Iterable[tuple[str, Way]]) -> Findings:
    """Ask everything of a case: what only reads side by side, then in turn what would change something."""
    found, everything = Findings(), list(rows)
    for changes in (False, True):
        ways = [(name, way) for name, way in everything if way.changes is changes]
        ask: Callable[[list[tuple[str, Question]]], list[Told]]
        ask = world.asker.in_turn if changes else world.asker.all_of
        asks = [of.asks[: 1 if of.is_one_question(way) else 2] for _, way in ways]
        questions = [
            (who, question(way, name, about))
            for (name, way), both in zip(ways, asks, strict=True)
            for who, about in zip(both, (of.hidden, of.double), strict=False)
        ]
        told = iter(ask(questions))
        for (name, way), both in zip(ways, asks, strict=True):
            compare(world, of, name, way, [next(told) for _ in both], found)
    return found


def compare(world: Any, of: Case, name: str, way: Way, answers: list[Told], found: Findings) -> None:
    """Look at the answers about the hidden thing and about its double, and at the pages that follow."""
    where = f"{name}: {way.method} {way.url} {dict(way.headers) or ''} {way.body[:150]}"
    first, second = answers[0], answers[-1]
    if first.status >= 500 or second.status >= 500:
        found.failing.append(f"{where}: {first.status} {first.text[:300]}")
    one, other = first.plain(of.hidden.names), second.plain(of.double.names)
    if one != other and len(answers) > 1:
        found.differing.append(f"{where}:\n      {told_apart(one, other)}")
        found.ways.add(way.kind)
    if not way.names_something and of.hidden.secret.lower() in first.text.lower():
        found.shown.append(f"{where}")
        found.ways.add(way.kind)
    if way.pages and first.status == second.status == 200:
        following = [next_of(told) for told in answers]
        if any(following):
            asks = zip(of.asks, following, strict=False)
            pages = [world.asker.ask(who, Question("GET", url)) if url else Told(0) for who, url in asks]
            compare(world, of, name, way, pages, found)


def next_of(told: Told) -> str:
    return next((link["url"] for link in told.json().get("link", ()) if link["relation"] == "next"), "")


def told_apart(one: tuple[object, ...], other: tuple[object, ...]) -> str:
    """Where two answers begin to differ."""
    for part, counterpart in zip(one, other, strict=True):
        if part != counterpart:
            texts = str(part), str(counterpart)
            start = next((n for n, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), min(map(len, texts)))
            return " <> ".join(text[max(0, start - 150) : start + 150] for text in texts)
    return ""
