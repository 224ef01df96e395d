"""Who is there, whose records there are, and what is hidden from whom: one server for the whole matrix.

Persons are named by letters. Each hidden thing has a **double** that says what the answer must be:

| | hidden | its double |
|---|---|---|
| a stranger | `person-b`, with whom nobody here has to do | `person-x`, whom nobody ever stored |
| denied | `person-d`, cared for here, who denies it to all of them | `person-y`, never stored |
| in part | `person-e`, cared for, of whom most is hidden, each type for another reason | `person-f`, without that |
| another organization's | `person-r`: what the staff of a rival made, of no patient | `person-s`, never stored |

Whatever is asked of the one and of the other must be answered alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhir_server.model.access import Identity, Scope
from profiles.registry import registry

Json = dict[str, Any]

ORGANIZATION = "urn:healthsphere:organization"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
VITAL_SIGNS = "http://terminology.hl7.org/CodeSystem/observation-category|vital-signs"

#: What only the staff of one organization sees.
STAFF_ONLY = ("Basic", "Communication", "CommunicationRequest", "Flag", "List", "Task")

#: Types that belong to patients and have a place in no compartment.
BESIDE = ("Contract", "Device", "GuidanceResponse", "Task")

DESK_NUMBER = ("urn:test:staff", "4711")


@dataclass(frozen=True, slots=True)
class Person:
    """One letter of the cast."""

    letter: str

    @property
    def name(self) -> str:
        return f"person-{self.letter}"

    @property
    def secret(self) -> str:
        """What is written in all that is hidden of them."""
        return f"Zyxsecret{self.letter}"

    @property
    def names(self) -> dict[str, str]:
        """What stands for them in an answer that is compared."""
        return {self.name: "person-who", self.secret: "zyxsecretwho", f"zyxplain{self.letter}": "zyxplainwho"}

    def id_of(self, resource_type: str) -> str:
        return self.name if resource_type == "Patient" else f"{self.name}-{resource_type.lower()}"

    def filled(self, text: str, resource_type: str) -> str:
        """A text of the ways about one resource of theirs."""
        for name, value in (("{who}", self.name), ("{id}", self.id_of(resource_type)), ("{mark}", self.secret.lower())):
            text = text.replace(name, value)
        return text


A, B, D, E, F, R, S, X, Y = map(Person, "abdefrsxy")


def ref(reference: str) -> Json:
    return {"reference": reference}


def coding(system: str, *codes: str) -> list[Json]:
    return [{"system": system, "code": code} for code in codes]


# --- who asks ---------------------------------------------------------------------------------------------------------


def scopes(level: Any, verbs: str = "cruds", name: str = "*", **criteria: str) -> tuple[Scope, ...]:
    return (Scope(level, name, verbs, tuple(criteria.items())),)


def in_person(person: Person, role: Any, what: tuple[Scope, ...]) -> Identity:
    """A patient, or who acts for them."""
    user = f"Patient/{person.name}" if role == "patient" else f"RelatedPerson/{person.name}-proxy"
    return Identity(f"{role}-{person.letter}", "app", role, what, "s", user, patient=f"Patient/{person.name}")


def at_work(name: str, role: Any, organization: str | None, what: tuple[Scope, ...] = scopes("user")) -> Identity:
    return Identity(name, "app", role, what, "s", f"Practitioner/{name}", organization)


def program(name: str, what: tuple[Scope, ...], organization: str | None = None) -> Identity:
    return Identity(name, name, "system", what, "s", organization=organization)


GRANULAR = (*scopes("patient", "rs", "Observation", category=VITAL_SIGNS), *scopes("patient", "rs", "Patient"))

CALLERS: dict[str, Identity] = {
    "operator": Identity("operator", "operator", "operator", scope="system/*.cruds"),
    **{f"patient-{p.letter}": in_person(p, "patient", scopes("patient")) for p in (A, B, E, F)},
    **{f"proxy-{p.letter}": in_person(p, "proxy", scopes("patient")) for p in (E, F)},
    **{f"granular-{p.letter}": in_person(p, "patient", GRANULAR) for p in (E, F)},
    # A patient whose account acts for two others, too: a parent, say.
    "guardian": Identity(
        *("guardian", "app", "patient", scopes("user"), "s", f"Patient/{A.name}"),
        patients=(f"Patient/{E.name}", f"Patient/{F.name}"),
    ),
    "doctor": at_work("doctor", "practitioner", "Organization/ours"),
    "colleague": at_work("colleague", "practitioner", "Organization/ours"),
    "rival": at_work("rival", "practitioner", "Organization/theirs"),
    "pharmacist": at_work("pharmacist", "pharmacy", "Organization/pharmacy"),
    "desk": at_work("desk", "front-desk", "Organization/ours"),
    "administrator": at_work("administrator", "administrator", "Organization/ours"),
    "auditor": at_work("auditor", "auditor", "Organization/ours"),
    "system": program("system", scopes("system")),
    "feed": program("feed", scopes("system", "rs", "Observation"), "Organization/ours"),
}


# --- what is stored ---------------------------------------------------------------------------------------------------


def example_of(folder: Path, resource_type: str) -> Json | None:
    """An official example of a type that is about a patient."""
    for path in sorted(folder.glob(f"{resource_type}-*.json")):
        text = path.read_text()
        if len(text) < 60_000 and re.search(r'"reference"\s*:\s*"Patient/', text):
            resource: Json = json.loads(text)
            if resource.get("resourceType") == resource_type:
                return resource
    return None


def belonging(resource: Any, owner: str) -> Any:
    """The same resource about another patient."""
    if isinstance(resource, dict):
        return {
            name: f"Patient/{owner}"
            if name == "reference" and isinstance(value, str) and value.startswith("Patient/")
            else belonging(value, owner)
            for name, value in resource.items()
        }
    return [belonging(value, owner) for value in resource] if isinstance(resource, list) else resource


def contents(folder: Path) -> dict[str, str]:
    """A resource of each type that can belong to a patient, as JSON with `{who}` and `{id}` in it."""
    inside = (name for name, codes in registry().compartments["Patient"].types.items() if codes)
    found: dict[str, str] = {}
    for name in sorted({*inside, *BESIDE} - {"Patient"}):
        resource = example_of(folder, name)
        if resource is None:
            continue
        resource = belonging(resource, "{who}")
        resource["id"] = "{id}"
        if name == "Consent":
            resource["status"] = "rejected"  # it shall be hidden, and say nothing
        if name == "Provenance":
            resource["target"] = [ref("Observation/{who}-observation")]
        resource.pop("meta", None)
        resource.pop("text", None)
        found[name] = json.dumps(resource)
    found["Patient"] = json.dumps(
        {
            "resourceType": "Patient",
            "id": "{id}",
            "identifier": [{"system": "urn:test:mrn", "value": "{mark}-1"}],
            "name": [{"family": "{mark}", "given": ["Kim"]}],
            "birthDate": "1970-01-01",
            "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">{mark} words</div>'},
        }
    )
    found["Binary"] = json.dumps(
        {
            "resourceType": "Binary",
            "id": "{id}",
            "contentType": "text/plain",
            "securityContext": ref("Observation/{who}-observation"),
            "data": "d29yZHM=",
        }
    )
    return found


@dataclass(frozen=True, slots=True)
class Hidden:
    """Why the parts of a record are hidden that has a double without them; each type has one of the reasons."""

    types: tuple[str, ...]

    def reason_of(self, name: str) -> int:
        """0: label V; 1: the Consent names a label; 2: its class; 3: class, in a time; 4: class, for a purpose, now."""
        if name in ("MedicationRequest", "Observation", "Patient"):
            return self.types.index(name) % 2  # some of these types are shown
        return self.types.index(name) % 5

    def labels_of(self, name: str) -> list[Json]:
        """The labels of a hidden resource; `NOPAT` hides it from the patient and the proxy."""
        found = coding(ACT_CODE, "NOPAT")
        match self.reason_of(name):
            case 0:
                found += coding(CONFIDENTIALITY, "V")
            case 1:
                found += coding(ACT_CODE, "PSY")
        return found

    def provisions(self) -> Iterator[Json]:
        """The rules of the Consent, each of which is one of the reasons."""
        deny: Json = {"type": "deny"}
        by_reason = [[t for t in self.types if self.reason_of(t) == reason] for reason in range(5)]
        classes = [coding(RESOURCE_TYPES, *names) for names in by_reason]
        yield {**deny, "securityLabel": [*coding(CONFIDENTIALITY, "V"), *coding(ACT_CODE, "PSY")]}
        yield {**deny, "class": classes[2]}
        yield {**deny, "class": classes[3], "dataPeriod": {"start": "1900", "end": "2100"}}
        # A standing record has no time of care: of these types the class alone.
        yield {**deny, "class": coding(RESOURCE_TYPES, *(t for t in by_reason[3] if t in TIMELESS))}
        now = {"start": "2020-01-01", "end": "2100-01-01"}
        yield {**deny, "class": classes[4], "period": now, "purpose": coding(ACT_REASON, "TREAT", "HOPERAT")}


#: What no time is a property of.
TIMELESS = frozenset({"RelatedPerson", "Person", "Coverage", "Account", "Group"})


def consent(person: Person, number: int, provision: Json) -> Json:
    scope = {"coding": coding("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")}
    return {
        "resourceType": "Consent",
        "id": f"{person.name}-rule-{number}",
        "status": "active",
        "scope": scope,
        "category": [{"coding": coding("http://loinc.org", "59284-0")}],
        "patient": ref(f"Patient/{person.name}"),
        "policy": [{"uri": "http://example.org/policies/base"}],
        "provision": provision,
    }


def in_care(person: Person) -> list[Json]:
    """What puts a person into the care of the doctor, the colleague, the pharmacy and the front desk."""
    patient = f"Patient/{person.name}"
    order = {
        "dispenseRequest": {"performer": ref("Organization/pharmacy")},
        "authoredOn": datetime.now(UTC).date().isoformat(),
    }
    return [
        {
            "resourceType": "MedicationRequest",
            "id": f"{person.name}-rx",
            "status": "active",
            "intent": "order",
            "subject": ref(patient),
            "medicationCodeableConcept": {"text": "x"},
            **order,
        },
        {"resourceType": "RelatedPerson", "id": f"{person.name}-proxy", "patient": ref(patient), "active": True},
        {
            "resourceType": "CareTeam",
            "id": f"{person.name}-team",
            "status": "active",
            "subject": ref(patient),
            "participant": [{"member": ref("Practitioner/doctor")}, {"member": ref("Practitioner/colleague")}],
        },
        {
            "resourceType": "Observation",
            "id": f"{person.name}-pulse",
            "status": "final",
            "category": [{"coding": coding(*VITAL_SIGNS.split("|"))}],
            "code": {"coding": coding("http://loinc.org", "8867-4")},
            "subject": ref(patient),
            "encounter": ref(f"Encounter/{person.name}-encounter"),
        },
    ]


def staff() -> Iterator[Json]:
    for name in ("ours", "theirs", "pharmacy"):
        yield {"resourceType": "Organization", "id": name, "name": name}
    for name in ("doctor", "colleague", "rival", "pharmacist", "desk", "administrator", "auditor"):
        number = [{"system": DESK_NUMBER[0], "value": DESK_NUMBER[1]}] if name == "desk" else []
        yield {"resourceType": "Practitioner", "id": name, **({"identifier": number} if number else {})}


def record_of(person: Person, made: Mapping[str, str], marks: Mapping[str, Json] | None = None) -> Iterator[Json]:
    """One resource of each type, each with the person's tag and with the labels that `marks` gives its type."""
    for name, text in made.items():
        resource = json.loads(person.filled(text, name))
        tag = {"system": "urn:test:owner", "code": person.secret.lower()}
        resource["meta"] = {"tag": [tag], **((marks or {}).get(name, {}))}
        if marks and "tag" in marks.get(name, {}):
            resource["meta"]["tag"] = [tag, *marks[name]["tag"]]
        yield resource


def shown_patient(person: Person, **more: Any) -> Json:
    """A patient whom those who care for them may see: nothing secret in it."""
    return {
        "resourceType": "Patient",
        "id": person.name,
        "identifier": [{"system": "urn:test:mrn", "value": f"Zyxplain{person.letter}-1"}],
        "name": [{"family": f"Zyxplain{person.letter}", "given": ["Kim"]}],
        "birthDate": "1970-01-01",
        "generalPractitioner": [ref("Practitioner/doctor"), ref("Practitioner/colleague")],
        "managingOrganization": ref("Organization/ours"),
        **more,
    }


def everything_stored(made: Mapping[str, str]) -> Iterator[Json]:
    """All resources of the world."""
    yield from staff()
    yield from record_of(A, made)
    yield from record_of(B, made)

    # Denied: of the actors by reference and by identifier alone; of programs by purpose.
    care = {"generalPractitioner": "", "managingOrganization": ""}
    for resource in record_of(D, made):
        if resource["resourceType"] == "Patient":
            resource |= {name: shown_patient(D)[name] for name in care}
        yield resource
    yield from in_care(D)
    role = {"coding": coding("http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP")}
    number = {"identifier": {"system": DESK_NUMBER[0], "value": DESK_NUMBER[1]}}
    denied = [ref("Practitioner/doctor"), ref("Organization/pharmacy"), number]
    yield consent(D, 1, {"type": "deny", "actor": [{"role": role, "reference": who} for who in denied]})
    yield consent(D, 2, {"type": "deny", "purpose": coding(ACT_REASON, "HOPERAT")})

    # In part.
    hidden = Hidden(tuple(made))
    marks: dict[str, Json] = {name: {"security": hidden.labels_of(name)} for name in made}
    for name in STAFF_ONLY:
        if name in marks:
            marks[name] |= {"tag": coding(ORGANIZATION, "theirs")}
    yield from (r for r in record_of(E, made, marks) if r["resourceType"] != "Patient")

    # Another organization's, of no patient.
    for name in STAFF_ONLY:
        resource = json.loads(R.filled(made.get(name, "{}"), name)) or {}
        if resource and name != "Flag":
            for element in ("subject", "for", "patient"):
                resource.pop(element, None)
            tags = [*coding(ORGANIZATION, "theirs"), *coding("urn:test:owner", R.secret.lower())]
            yield resource | {"meta": {"tag": tags}}


def shown_of_doubles(made: Mapping[str, str]) -> Iterator[Json]:
    """What is to be seen of the one and of the other of whom most is hidden, or is not there."""
    for person in (E, F):
        yield shown_patient(person)
        yield from in_care(person)
        yield from (consent(person, n, rule) for n, rule in enumerate(Hidden(tuple(made)).provisions(), 1))
