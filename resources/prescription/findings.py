"""What speaks against a prescription: allergies, duplicates, interactions, doses. Pure: all that is needed is given.

Only what is severe interrupts; the rest informs. What could not be looked at is said as plainly as what was found.

Spec: https://hl7.org/fhir/R4/detectedissue.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fhir_server.model.clock import instant_of, now_us
from resources.dispensing.codes import concept, ref
from resources.prescription.doses import UnclearError, daily
from resources.prescription.medicines import Meant, Medicines

Json = dict[str, Any]

Severity = Literal["high", "moderate", "low"]

ISSUES = "urn:healthsphere:prescription-issue"
_ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

#: The kinds of findings, as codes of HL7.
KINDS = {
    "allergy": ("ALGY", "Allergy Alert"),
    "related-allergy": ("RALG", "Related Allergy Alert"),
    "duplicate": ("DUPTHPGEN", "duplicate generic alert"),
    "duplicate-class": ("DUPTHPCLS", "duplicate therapeutic alass alert"),
    "interaction": ("DRG", "Drug Interaction Alert"),
    "dose": ("DOSEH", "High Dose Alert"),
}

#: Clinical and verification states of allergies that no longer speak against anything.
OVER = frozenset({"inactive", "resolved", "refuted", "entered-in-error"})


@dataclass(frozen=True, slots=True)
class Line:
    """A prescription, as the checks see it.

    Attributes:
        reference: `MedicationRequest/1`; of one that is not stored yet, empty
        strength: what one piece holds, where that is said
    """

    reference: str
    meant: Meant
    instructions: Sequence[Json] = ()
    strength: Json | None = None


@dataclass(frozen=True, slots=True)
class Allergy:
    """An allergy or intolerance of the patient."""

    reference: str
    meant: Meant
    category: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that speaks against a prescription.

    Attributes:
        kind: one of `KINDS`
        line: the prescription
        against: the allergy or the other prescription, where it is one
        detail: for people
    """

    kind: str
    severity: Severity
    line: str
    against: str
    detail: str

    @property
    def id(self) -> str:
        """Names the finding: the same each time it is found, so that it can be answered."""
        text = "|".join((self.kind, self.line, self.against, self.detail))
        return f"{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def issue(self, patient: str, mitigation: tuple[str, str | None] | None = None) -> Json:
        """As a DetectedIssue; `mitigation` is the reason for which it is overridden, and by whom."""
        code, words = KINDS[self.kind]
        resource: Json = {
            "resourceType": "DetectedIssue",
            "identifier": [{"system": ISSUES, "value": self.id}],
            "status": "preliminary" if mitigation is None else "final",
            "code": concept(_ACT, code, words),
            "severity": self.severity,
            "patient": ref(patient),
            "identifiedDateTime": instant_of(now_us()),
            "implicated": [ref(one) for one in (self.line, self.against) if one],
            "detail": self.detail,
        }
        if mitigation is not None:
            reason, author = mitigation
            row: Json = {"action": {"text": reason}, "date": instant_of(now_us())}
            if author is not None:
                row["author"] = ref(author)
            resource["mitigation"] = [row]
        return {name: value for name, value in resource.items() if value not in ([], "")}


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, and what was not looked at."""

    findings: tuple[Finding, ...]
    unchecked: tuple[str, ...]

    @property
    def interrupting(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "high"]


def report_of(table: Medicines, lines: Sequence[Line], allergies: Sequence[Allergy], others: Sequence[Line]) -> Report:
    """Look at prescriptions that are to be signed together.

    Args:
        others: the patient's other medicines, in force
    """
    findings: list[Finding] = []
    unchecked: list[str] = []
    for line in lines:
        if not line.meant.known:
            unchecked.append(
                f"{line.meant.label or line.reference}: the table does not know it; only allergies of that very name "
                "or code and the very same medicine were looked for"
            )
        findings += [f for allergy in allergies if (f := _allergic(table, line, allergy)) is not None]
        unchecked += _dosed(table, line, findings)
    for position, line in enumerate(lines):
        for other in (*lines[position + 1 :], *others):
            findings += _together(table, line, other)
    for allergy in allergies:
        if not allergy.meant.known and allergy.category in ((), ("medication",), ("biologic",)):
            unchecked.append(
                f"allergy {allergy.meant.label or allergy.reference}: the table does not know it; only its very name "
                "and code were looked for"
            )
    for other in others:
        if not other.meant.known:
            unchecked.append(f"together with {other.meant.label or other.reference}: the table does not know it")
    return Report(tuple(dict.fromkeys(findings)), (*dict.fromkeys(unchecked), f"Coverage: {table.coverage}"))


def _allergic(table: Medicines, line: Line, allergy: Allergy) -> Finding | None:
    mine, theirs = line.meant, allergy.meant
    named = theirs.label or allergy.reference

    def found(kind: str, severity: Severity, how: str) -> Finding:
        detail = f"{mine.label}: the patient is allergic to {named} ({how})."
        return Finding(kind, severity, line.reference, allergy.reference, detail)

    if shared := mine.ingredients & theirs.ingredients:
        return found("allergy", "high", f"the same ingredient, {', '.join(sorted(shared))}")
    if mine.codings & theirs.codings or _names(theirs, mine):
        return found("allergy", "high", "the same name or code")
    if shared := mine.classes & theirs.classes:
        return found("allergy", "high", f"the same class, {', '.join(sorted(shared))}")
    crossing = {b for a, b in table.cross if a in theirs.classes and b in mine.classes}
    if crossing:
        return found("related-allergy", "moderate", f"a related class, {', '.join(sorted(crossing))}")
    return None


def _names(one: Meant, other: Meant) -> bool:
    """Whether a word of one is in the texts of the other: of names that the table does not know."""
    return not one.known and any(len(a.strip()) > 3 and a in b for a in one.texts for b in other.texts)


def _together(table: Medicines, line: Line, other: Line) -> list[Finding]:
    mine, theirs = line.meant, other.meant
    found: list[Finding] = []

    def add(kind: str, severity: Severity, detail: str) -> None:
        found.append(Finding(kind, severity, line.reference, other.reference, detail))

    if shared := mine.ingredients & theirs.ingredients:
        add("duplicate", "moderate", f"{mine.label} and {theirs.label} both hold {', '.join(sorted(shared))}.")
    elif shared := mine.classes & theirs.classes & table.therapies:
        add("duplicate-class", "moderate", f"{mine.label} and {theirs.label} are both {', '.join(sorted(shared))}.")
    elif not mine.known and mine.codings & theirs.codings:
        add("duplicate", "moderate", f"{mine.label} is prescribed already.")
    ours, others = mine.ingredients | mine.classes, theirs.ingredients | theirs.classes
    for a, b, why in table.interactions:
        if (a in ours and b in others) or (b in ours and a in others):
            add("interaction", "high", f"{mine.label} together with {theirs.label} ({a}, {b}): {why}.")
            break
    return found


def _dosed(table: Medicines, line: Line, findings: list[Finding]) -> list[str]:
    """Add to the findings where a dose is too high; what could not be told."""
    limits = {name: most for name in line.meant.ingredients if (most := table.ingredients[name].most) is not None}
    label = line.meant.label or line.reference
    if not limits:
        return [f"{label}: the table has no highest dose of it"]
    if len(line.meant.ingredients) > 1:
        return [f"{label}: its dose, since it holds several ingredients"]
    ((name, most),) = limits.items()
    try:
        if daily(line.instructions, line.strength).exceeds(most):
            detail = f"{label}: the dosage comes to more than {most[0]} {most[1]} of {name} in a day."
            findings.append(Finding("dose", "high", line.reference, "", detail))
    except UnclearError as unclear:
        return [f"{label}: its dose; {unclear}"]
    return []
