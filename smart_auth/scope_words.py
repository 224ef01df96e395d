"""Scopes in plain words, for the people who are asked to allow them.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/best-practices.html
"""

from __future__ import annotations

import re
from typing import Final

from fhir_server.model.access import ANY_TYPE, Scope
from smart_auth import scopes

OTHER_WORDS: Final = {
    scopes.OPENID: ("Know who you are", "The app learns that it is you who signed in here, by a number."),
    scopes.FHIR_USER: ("Know your record here", "The app learns which person or professional in the records you are."),
    scopes.PROFILE: ("Know your name", "The app learns your name and which person in the records you are."),
    scopes.LAUNCH: (
        "Open with what you are looking at",
        "The app learns which patient you had open when you started it.",
    ),
    scopes.LAUNCH_PATIENT: ("Work with one patient", "The app learns which patient you choose for it."),
    scopes.LAUNCH_ENCOUNTER: ("Work with one visit", "The app learns which visit you choose for it."),
    scopes.ACCOUNTS: (
        "Manage accounts and apps in your name",
        "The app can invite and lock people, administrators among them, change what they may do, and let other apps "
        "in, as you can on the pages of the administration.",
    ),
    scopes.OFFLINE: (
        "Keep its access when you are away",
        "The app can go on using what you allow here after you have signed out, until the time you set is over or you "
        "take it back.",
    ),
    scopes.ONLINE: (
        "Keep its access while you are signed in",
        "The app can go on using what you allow here without asking again, until you sign out.",
    ),
}

#: What people call the contents of a resource type.
THINGS: Final = {
    "AllergyIntolerance": "allergies and intolerances",
    "Appointment": "appointments",
    "AuditEvent": "the log of who saw what",
    "Binary": "files",
    "CarePlan": "care plans",
    "CareTeam": "care teams",
    "Claim": "claims to insurers",
    "Communication": "messages",
    "Composition": "documents",
    "Condition": "health problems and diagnoses",
    "Consent": "consents",
    "Coverage": "insurance",
    "Device": "medical devices",
    "DiagnosticReport": "reports of tests and examinations",
    "DocumentReference": "documents and notes",
    "Encounter": "visits and hospital stays",
    "ExplanationOfBenefit": "statements of insurers",
    "FamilyMemberHistory": "the family's health history",
    "Goal": "health goals",
    "ImagingStudy": "images",
    "Immunization": "vaccinations",
    "Invoice": "invoices",
    "Location": "places of care",
    "Media": "photos, videos and sounds",
    "Medication": "medicines",
    "MedicationAdministration": "medicines that were given",
    "MedicationDispense": "medicines that were handed out",
    "MedicationRequest": "prescriptions",
    "MedicationStatement": "medicines that are taken",
    "Observation": "measurements, test results and other observations",
    "Organization": "organizations",
    "Patient": "name, address, birth date and contacts of patients",
    "Person": "persons",
    "Practitioner": "doctors and other professionals",
    "PractitionerRole": "where professionals work",
    "Procedure": "operations and other procedures",
    "Provenance": "where information comes from",
    "Questionnaire": "questionnaires",
    "QuestionnaireResponse": "answers to questionnaires",
    "RelatedPerson": "relatives and other contacts",
    "Schedule": "calendars",
    "ServiceRequest": "orders and referrals",
    "Slot": "free times in calendars",
    "Specimen": "samples",
    "Task": "tasks",
}

#: What common values of criteria mean.
VALUES: Final = {
    "activity": "activity",
    "clinical-test": "clinical tests",
    "cognitive-status": "cognitive status",
    "disability-status": "disability status",
    "encounter-diagnosis": "diagnoses of a visit",
    "exam": "physical examinations",
    "functional-status": "functional status",
    "health-concern": "health concerns",
    "imaging": "imaging",
    "laboratory": "laboratory results",
    "problem-list-item": "the problem list",
    "procedure": "procedures",
    "sdoh": "social circumstances",
    "social-history": "social history",
    "survey": "questionnaires",
    "therapy": "therapies",
    "vital-signs": "vital signs",
}

DEEDS: Final = {"c": "add", "r": "read", "u": "change", "d": "delete", "s": "look through"}


def words_of(scope: str) -> tuple[str, str]:
    """A scope as a title and a sentence; `scope` is one scope as text.

    >>> words_of("patient/Observation.rs?category=laboratory")[0]
    'Read measurements, test results and other observations: only laboratory results'
    """
    if scope in OTHER_WORDS:
        return OTHER_WORDS[scope]
    read = scopes.scope_of(scope)
    if read is None:
        return scope, "This server does not know what that means, and does not grant it."
    deeds, things, only = _deeds(read), _things(read.type), _only(read)
    title = f"{deeds[0].upper()}{deeds[1:]} {things}{f': only {only}' if only else ''}"
    return title, f"{_whose(read)}{_consequence(read)}"


def _deeds(scope: Scope) -> str:
    """What the app does, in the order in which people would say it."""
    wanted = [DEEDS[verb] for verb in "rcud" if verb in scope.verbs]
    if not wanted:
        wanted = [DEEDS["s"]]
    return wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} and {wanted[-1]}"


def _things(resource_type: str) -> str:
    if resource_type == ANY_TYPE:
        return "all health information"
    return THINGS.get(resource_type) or f"{re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', resource_type).lower()} records"


def _only(scope: Scope) -> str:
    """The criteria; of a token the code is said, without its system."""
    said = []
    for name, value in scope.criteria:
        codes = [part.rpartition("|")[2] or part for part in value.split(",")]
        meaning = " or ".join(VALUES.get(code, code) for code in codes)
        said.append(meaning if name in ("category", "_category") else f"{name.lstrip('_')} {meaning}")
    return ", ".join(said)


def _whose(scope: Scope) -> str:
    if scope.level == "patient":
        return "Of the one patient that the app works with."
    if scope.level == "user":
        return "Of everybody whose records you may see here."
    return "Of everybody whose records the app itself may see here, whoever uses it."


def _consequence(scope: Scope) -> str:
    if "d" in scope.verbs:
        return " The app can change and remove entries."
    if set(scope.verbs) & set("cu"):
        return " The app can change what stands there."
    return " The app cannot change anything."
