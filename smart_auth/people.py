"""The FHIR resources that accounts are made with, and the ties between the two.

Spec: https://hl7.org/fhir/R4/patient.html, https://hl7.org/fhir/R4/practitioner.html,
https://hl7.org/fhir/R4/relatedperson.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fhir_server.model.access import Role

#: Of which types the resource of a user with that role is.
TYPES_OF_ROLE: dict[Role, tuple[str, ...]] = {
    "patient": ("Patient",),
    "proxy": ("RelatedPerson", "Patient"),
    "practitioner": ("Practitioner", "PractitionerRole"),
    "pharmacy": ("Practitioner", "PractitionerRole"),
    "front-desk": ("Practitioner", "PractitionerRole"),
    "administrator": ("Practitioner", "PractitionerRole"),
    "auditor": ("Practitioner", "PractitionerRole"),
}

_REFERENCE = re.compile(r"([A-Z][A-Za-z]{2,63})/[A-Za-z0-9\-.]{1,64}")


@dataclass(frozen=True, slots=True)
class PersonName:
    """The name of somebody as a form asks for it."""

    given: str
    family: str

    def __str__(self) -> str:
        return f"{self.given} {self.family}".strip()

    def as_json(self) -> dict[str, Any]:
        name: dict[str, Any] = {"text": str(self), "family": self.family}
        if self.given:
            name["given"] = self.given.split()
        return name


@dataclass(frozen=True, slots=True)
class Application:
    """What a doctor says of themselves; somebody verifies it.

    Attributes:
        until: the last day of the licence; empty where it does not end
    """

    specialty: str
    licence: str
    issuer: str
    organization: str = ""
    until: str = ""

    def as_row(self) -> dict[str, str]:
        return {
            "specialty": self.specialty,
            "licence": self.licence,
            "issuer": self.issuer,
            "organization": self.organization,
            "until": self.until,
        }


def type_of(reference: str) -> str | None:
    """The type of a reference such as `Patient/3`; None when it is no such reference."""
    match = _REFERENCE.fullmatch(reference)
    return match[1] if match else None


def name_of(text: str) -> PersonName:
    """A whole name taken apart: the last word is the family name."""
    given, _, family = text.strip().rpartition(" ")
    return PersonName(given.strip(), family)


def patient(name: PersonName, birth_date: str, email: str) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "active": True,
        "name": [{"use": "official", **name.as_json()}],
        "telecom": [_email(email)],
        "birthDate": birth_date,
    }


def practitioner(
    name: PersonName, email: str, *, active: bool, application: Application | None = None
) -> dict[str, Any]:
    resource: dict[str, Any] = {
        "resourceType": "Practitioner",
        "active": active,
        "name": [{"use": "official", **name.as_json()}],
        "telecom": [{**_email(email), "use": "work"}],
    }
    if application is not None:
        resource["qualification"] = [
            {
                "identifier": [{"value": application.licence}],
                "code": {"text": application.specialty},
                "issuer": {"display": application.issuer},
                **({"period": {"end": application.until}} if application.until else {}),
            }
        ]
    return resource


def related_person(name: PersonName, email: str, patient_reference: str) -> dict[str, Any]:
    return {
        "resourceType": "RelatedPerson",
        "active": True,
        "patient": {"reference": patient_reference},
        "name": [name.as_json()],
        "telecom": [_email(email)],
    }


def _email(email: str) -> dict[str, Any]:
    return {"system": "email", "value": email}
