"""What a validation against profiles finds, and where.

Spec: https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

from dataclasses import dataclass

from fhir_server.fhirpath.items import Item
from fhir_server.model.errors import Issue, Severity

#: An outcome must not become larger than what it is about.
MAX_FINDINGS = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Who says it: the canonical of the profile, and the id of its element or the key of its invariant."""

    canonical: str
    element: str


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a value set has one of some codes, which is not known here and may be known elsewhere."""

    value_set: str
    codings: tuple[tuple[str | None, str], ...]
    path: str
    place: Place
    severity: Severity
    expected: str
    strength: str


class Findings:
    """Collects the issues of one validation; the same one, said by an element and by its slice, is told once."""

    def __init__(self) -> None:
        self._issues: dict[tuple[str, str, str], Issue] = {}
        self.questions: dict[Question, None] = {}
        self.left_out = 0

    def tell(
        self, key: str, code: str, path: str, text: str, place: Place | None, *, severity: Severity = "error"
    ) -> None:
        """Add an issue; `text` says what was found and expected, without a full stop, and `place` who says so."""
        identity = (key, path, text)
        if identity in self._issues:
            return
        if len(self._issues) >= MAX_FINDINGS:
            self.left_out += 1
            return
        said = "" if place is None else f", by {place.canonical} ({place.element})"
        rule = None if place is None else (place.canonical, place.element)
        self._issues[identity] = Issue(code, f"{text}{said}.", path, key, severity, rule)

    def add(self, other: Findings) -> None:
        """Take over what was found apart."""
        for identity, issue in other._issues.items():
            if len(self._issues) < MAX_FINDINGS:
                self._issues.setdefault(identity, issue)
            else:
                self.left_out += 1
        self.questions |= other.questions
        self.left_out += other.left_out

    def ask(self, question: Question) -> None:
        """Leave a question open, which is answered when all else is done."""
        if len(self.questions) < MAX_FINDINGS:
            self.questions[question] = None

    def answer(self, question: Question, is_member: bool | None) -> None:
        """Tell what comes of a question: nothing, codes that are not in the value set, or that it was not checked."""
        if is_member is None:
            text = f"Not checked: the codes of the value set {question.value_set} ({question.strength}) are not all "
            text += "known here"
            self.tell(
                "HS-PROFILE-UNCHECKED", "informational", question.path, text, question.place, severity="information"
            )
        elif not is_member:
            found = ", ".join(f"{s}|{c}" if s is not None else c for s, c in question.codings[:3])
            text = f"Found {found}; expected {question.expected}"
            self.tell(
                "HS-PROFILE-BINDING", "code-invalid", question.path, text, question.place, severity=question.severity
            )

    def issues(self) -> list[Issue]:
        return list(self._issues.values())

    def has_errors(self) -> bool:
        return any(issue.severity == "error" for issue in self._issues.values())


def path_of(item: Item) -> str:
    """The FHIRPath of an item: `Observation.component[0].value`, where JSON has `valueQuantity`."""
    if item.parent is None:
        return item.key
    field = item.parent.kind.by_key("*").get(item.key)
    name = item.key
    if field is not None and field.element is not None and field.element.is_choice:
        name = field.element.name.removesuffix("[x]")
    step = f"{path_of(item.parent)}.{name}"
    return step if item.at < 0 else f"{step}[{item.at}]"
