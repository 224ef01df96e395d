"""The words of verifications: the Task of an application, its claims as VerificationResults, and what was decided.

One application of each Practitioner, under an id that follows from theirs, so that there cannot be two. Each claim is a
VerificationResult: who they are, each licence, each degree.

Spec: https://hl7.org/fhir/R4/verificationresult.html, https://hl7.org/fhir/R4/task.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.model import codec
from resources.codings import codings_of
from resources.verification.licence import is_degree, is_licence

Json = dict[str, Any]

TASKS: Final = "urn:healthsphere:task"
CODE: Final = "verify-practitioner"
ROLES: Final = "urn:healthsphere:role"
ADMINISTRATOR: Final = "administrator"

#: Kinds of claims.
CLAIMS: Final = "urn:healthsphere:CodeSystem:claim"
IDENTITY, LICENCE, EDUCATION = "identity", "licence", "education"

#: Accounts, as identifiers of people who decide and have no resource.
ACCOUNTS: Final = "urn:healthsphere:account"
DECISION: Final = "urn:healthsphere:StructureDefinition:verification-decision"
#: What was claimed, as a digest: whoever approves approves this and nothing that came later.
EVIDENCE: Final = "urn:healthsphere:StructureDefinition:verification-evidence"

#: The contained Practitioner that has what is handed in.
PROPOSED: Final = "proposed"

APPLY: Final = "apply"
APPROVE: Final = "approve"
REFUSE: Final = "refuse"
REVALIDATE: Final = "revalidate"
EXPIRE: Final = "expire"
#: What is written along so that roles say of their Practitioner what is true.
MARK: Final = "mark"

#: The operations of this part, to whose writes the rules for people do not apply.
BY: Final = frozenset({APPLY, APPROVE, REFUSE, REVALIDATE, EXPIRE, MARK})

#: The word of programs and of who runs the server is believed; of all others it is not.
SYSTEMS: Final = frozenset({"system", "operator"})

State = Literal["applied", "verified", "rejected"]

VALID: Final = "validated"
#: Claims that wait for a decision.
OPEN: Final = frozenset({"attested", "in-process", "req-revalid"})


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a Practitioner says of themselves.

    Attributes:
        kind: `identity`, `licence`, `education`
        id: of its VerificationResult
        place: where it stands, as FHIRPath
        evidence: a digest of what is claimed
        qualification: the licence or the degree
        proposed: whether it was handed in, and is no part of the Practitioner until it is approved
    """

    kind: str
    id: str
    place: str
    evidence: str
    qualification: Json | None = None
    proposed: bool = False


def name_of(practitioner: str) -> str:
    """The id of the Task of a Practitioner's application, with which those of its claims begin."""
    return f"verify-{hashlib.sha256(practitioner.encode()).hexdigest()[:24]}"


def claims_of(practitioner: Json, proposed: Sequence[Json] = ()) -> list[Claim]:
    """What a Practitioner claims: who they are, their licences, their degrees; with those that are handed in."""
    name = name_of(f"Practitioner/{practitioner['id']}")
    found = {
        f"{name}-identity": Claim(IDENTITY, f"{name}-identity", "Practitioner.name", _digest(practitioner.get("name")))
    }
    for row in with_qualifications(practitioner, proposed).get("qualification", ()):
        if kind := kind_of_qualification(row):
            key = f"{name}-{_digest([kind, *_naming(row)])[:12]}"
            found[key] = Claim(kind, key, "Practitioner.qualification", _digest(row), row, row in proposed)
    return list(found.values())


def kind_of_qualification(row: Json) -> str:
    """Which kind of claim a qualification is; empty where it is none that anybody verifies."""
    return LICENCE if is_licence(row) else EDUCATION if is_degree(row) else ""


def with_qualifications(practitioner: Json, more: Sequence[Json]) -> Json:
    """The Practitioner with further qualifications; one of the same identifier stands in place of what was there."""
    if not more:
        return practitioner
    names = [_naming(row) for row in more]
    rows = [row for row in practitioner.get("qualification", ()) if _naming(row) not in names]
    return {**practitioner, "qualification": [*rows, *more]}


def _naming(row: Json) -> list[Any]:
    """What one qualification is told from others by: the same licence is the same, whatever is said of it today."""
    identifiers = row.get("identifier") or ()
    named: list[Any] = [[one.get("system", ""), one.get("value", "")] for one in identifiers if type(one) is dict]
    return named or [row.get("code")]


def _digest(value: Any) -> str:
    return hashlib.sha256(codec.encode(value)).hexdigest()[:32]


# --- tasks ------------------------------------------------------------------------------------------------------------


def is_application(task: Json | None) -> bool:
    return any(c.get("system") == TASKS and c.get("code") == CODE for c in codings_of((task or {}).get("code")))


def claims_in(task: Json) -> list[str]:
    """The ids of the VerificationResults of an application."""
    values = (row.get("valueReference", {}).get("reference", "") for row in task.get("input", ()))
    return [value.partition("/")[2] for value in values if value.startswith("VerificationResult/")]


def state_of(practitioner: Json, task: Json | None) -> State:
    """How somebody stands. Who hands in a new licence while the old one holds stays verified."""
    if practitioner.get("active") is not False:
        return "verified"
    return "rejected" if (task or {}).get("status") == "rejected" else "applied"


# --- claims -----------------------------------------------------------------------------------------------------------


def is_claim(result: Json | None) -> bool:
    return bool(kind_of(result))


def kind_of(result: Json | None) -> str:
    """Which kind of claim a VerificationResult of this process is about; empty of those of others."""
    processes = (result or {}).get("validationProcess")
    for process in processes if type(processes) is list else ():
        for coding in codings_of(process):
            if coding.get("system") == CLAIMS:
                return str(coding.get("code", ""))
    return ""


def evidence_of(result: Json) -> str:
    """The digest of what was claimed."""
    return next((str(row.get("valueString")) for row in result.get("extension", ()) if row.get("url") == EVIDENCE), "")


def proposal_in(result: Json) -> Json | None:
    """The qualification that a claim hands in; None where the Practitioner has it already."""
    for inside in result.get("contained", ()):
        if inside.get("id") == PROPOSED:
            return next(iter(inside.get("qualification", ())), None)
    return None


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision on a claim.

    Attributes:
        who: the id of the account
        what: `approve`, `refuse`, `revalidate`, `apply`, `expire`
    """

    who: str
    what: str
    at: str
    note: str = ""


def decisions_in(result: Json) -> list[Decided]:
    """What was decided on a claim, in order."""
    found: list[Decided] = []
    for row in result.get("extension", ()):
        if row.get("url") == DECISION:
            parts = {part.get("url"): part for part in row.get("extension", ())}
            who = parts.get("who", {}).get("valueReference", {}).get("identifier", {}).get("value", "")
            texts = (parts.get(k, {}).get(v, "") for k, v in _TEXTS)
            found.append(Decided(who, *texts))
    return found


_TEXTS = (("decision", "valueCode"), ("at", "valueInstant"), ("note", "valueString"))


def decision_row(who: Json, what: str, at: str, note: str) -> Json:
    """A decision, as an extension of the claim."""
    parts: list[Json] = [
        {"url": "who", "valueReference": who},
        {"url": "decision", "valueCode": what},
        {"url": "at", "valueInstant": at},
    ]
    return {"url": DECISION, "extension": [*parts, *([{"url": "note", "valueString": note}] if note else [])]}


def approvers(decisions: Iterable[Decided]) -> set[str]:
    """Who has approved since the claim was last opened."""
    found: set[str] = set()
    for decision in decisions:
        if decision.what == APPROVE:
            found.add(decision.who)
        else:
            found.clear()
    return found


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def inputs_for(claims: Iterable[Claim]) -> Iterator[Json]:
    for claim in claims:
        reference = {"reference": f"VerificationResult/{claim.id}"}
        yield {"type": concept(CLAIMS, claim.kind), "valueReference": reference}
