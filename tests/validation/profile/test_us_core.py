"""US Core: its examples conform to the profiles they claim, but for what is explained, and single faults are found."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.model.errors import Issue
from fhir_server.validation.profile.definition import Node, structure_of
from fhir_server.validation.profile.validator import ProfileValidator, is_readable
from tests.us_core import Package
from tests.validation.profile.holding import STRUCTURE, Json, validator_of

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/"
DROP = object()

SDC = ("AUDIT-C", "TAPS", "exercise-vital-sign", "hunger-vital-sign-example", "phq-9-example", "prapare-example")

#: What is found in the examples of each version, each looked at: the file, the severity, the key and the element.
FOUND: dict[str, set[tuple[str, str, str, str]]] = {
    "3.1.1": {
        # R4 binds every component of a vital sign to units that have no L/min, which the flow rate is in.
        ("Observation-satO2-fiO2", "error", "HS-PROFILE-BINDING", "Observation.component.value[x]"),
        # An annotation of UCUM has no spaces.
        ("Observation-usg", "error", "HS-CONTENT-UNIT", "code"),
        # The id of the Endpoint is 71, its address ends in Endpoint-71.
        ("Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2", "error", "HS-CONTENT-BUNDLE", "Bundle.entry"),
        # Codes beyond extensible value sets of vital signs, of provider roles, and of the formats of IHE.
        ("Observation-satO2-fiO2", "warning", "HS-PROFILE-BINDING", "Observation.component.code"),
        ("Observation-length", "warning", "HS-PROFILE-BINDING", "Observation.code"),
        ("Observation-oxygen-saturation", "warning", "HS-PROFILE-BINDING", "Observation.code"),
        ("Observation-ofc-percentile", "warning", "HS-PROFILE-BINDING", "Observation.code"),
        ("Observation-pediatric-bmi-example", "warning", "HS-PROFILE-BINDING", "Observation.code"),
        ("Observation-pediatric-wt-example", "warning", "HS-PROFILE-BINDING", "Observation.code"),
        ("Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2", "warning", "HS-PROFILE-BINDING", "PractitionerRole.code"),
        ("DocumentReference-episode-summary", "warning", "HS-PROFILE-BINDING", "DocumentReference.content.format"),
        # "SHOULD have a translation to the NDC value set": the expression says the contrary of its text.
        ("Immunization-imm-1", "warning", "HS-PROFILE-INVARIANT", "us-core-1"),
    },
    "6.1.0": {
        ("Bundle-66c8856b-ba11-4876-8aa8-467aad8c11a2", "error", "HS-CONTENT-BUNDLE", "Bundle.entry"),
        # The id of the DocumentReference is `discharge`, its address ends in discharge-summary789.
        ("Bundle-docref-example-2", "error", "HS-CONTENT-BUNDLE", "Bundle.entry"),
        # The categories of the profile are slices with codes of their own; the base value set is extensible.
        ("Condition-condition-SDOH-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        ("Condition-health-concern-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        # The member number, which the profile itself demands, is none of the base type's extensible codes.
        ("Coverage-coverage-example", "warning", "HS-PROFILE-BINDING", "Coverage.identifier:memberid.type"),
        # The value set of R4 has another system for the format codes of IHE than IHE has by now.
        ("DocumentReference-episode-summary", "warning", "HS-PROFILE-BINDING", "DocumentReference.content.format"),
        ("Bundle-docref-example-1", "warning", "HS-PROFILE-BINDING", "DocumentReference.content.format"),
        ("Immunization-imm-1", "warning", "HS-PROFILE-INVARIANT", "us-core-5"),
        ("Observation-satO2-fiO2", "warning", "HS-PROFILE-BINDING", "Observation.component.value[x]"),
        # Profiles of another guide (SDC), which is not loaded.
        *((f"Questionnaire-{name}", "warning", "HS-PROFILE-UNKNOWN", "") for name in SDC[3:]),
    },
    "7.0.0": {
        ("Condition-condition-SDOH-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        ("Condition-health-concern-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        ("Coverage-coverage-example", "warning", "HS-PROFILE-BINDING", "Coverage.identifier:memberid.type"),
        # A heading among the codes of HL7, which is no place.
        ("Location-hl7east", "warning", "HS-PROFILE-BINDING", "Location.type"),
        ("Observation-satO2-fiO2", "warning", "HS-PROFILE-BINDING", "Observation.component.value[x]"),
        # Agents with codes beyond the extensible value set of the guide.
        ("Bundle-c887e62f-6166-419f-8268-b5ecd6c7b901", "warning", "HS-PROFILE-BINDING", "Provenance.agent.type"),
        ("Provenance-example-targeted-provenance", "warning", "HS-PROFILE-BINDING", "Provenance.agent.type"),
        *((f"Questionnaire-{name}", "warning", "HS-PROFILE-UNKNOWN", "") for name in SDC),
    },
    "8.0.0": {
        ("Condition-condition-SDOH-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        ("Condition-health-concern-example", "warning", "HS-PROFILE-BINDING", "Condition.category"),
        ("Coverage-coverage-example", "warning", "HS-PROFILE-BINDING", "Coverage.identifier:memberid.type"),
        # A code of CDC, where R4's extensible value set has those of HL7.
        ("Location-hl7east", "warning", "HS-PROFILE-BINDING", "Location.type"),
        ("Observation-satO2-fiO2", "warning", "HS-PROFILE-BINDING", "Observation.component.value[x]"),
        *((f"Questionnaire-{name}", "warning", "HS-PROFILE-UNKNOWN", "") for name in SDC),
    },
}

#: Examples whose structure is at fault, so that their profiles come second: a hash that is not base64.
BROKEN: dict[str, set[str]] = {"3.1.1": {"DiagnosticReport-cardiology-report"}}


def profile_issues(validator: ProfileValidator, resource: Json, *asked: str) -> list[Issue]:
    return asyncio.run(validator.issues_of(resource, asked))


@pytest.fixture(scope="module")
def validators(us_core: Callable[[str], Package]) -> dict[str, ProfileValidator]:
    """A validator for each version, which holds its definitions, and the Questionnaires among its examples."""

    def made(version: str) -> ProfileValidator:
        package = us_core(version)
        asked = [example for example in package.examples.values() if example["resourceType"] == "Questionnaire"]
        return validator_of(*package.definitions, *asked)

    return {version: made(version) for version in FOUND}


@pytest.mark.parametrize("version", ["3.1.1", "6.1.0", "7.0.0", "8.0.0"])
def test_the_definitions_of_the_guide_can_be_stored(us_core: Callable[[str], Package], version: str) -> None:
    definitions = us_core(version).definitions
    assert len(definitions) > 60
    errors = [i for d in definitions for i in STRUCTURE.issues_of(d) if i.severity == "error"]
    assert errors == []


@pytest.mark.parametrize(
    "version", [v if v in ("6.1.0", "8.0.0") else pytest.param(v, marks=pytest.mark.slow) for v in FOUND]
)
def test_the_examples_conform_to_what_they_claim_but_for_what_is_explained(
    us_core: Callable[[str], Package], validators: dict[str, ProfileValidator], version: str
) -> None:
    found, broken, claimed = set(), set(), 0
    for name, resource in us_core(version).examples.items():
        issues = STRUCTURE.issues_of(resource)
        if any(issue.severity == "error" for issue in issues):
            broken.add(name)
        assert is_readable(issues), name
        claimed += bool(resource.get("meta", {}).get("profile"))
        validator = validators[version]
        for issue in (*profile_issues(validator, resource), *asyncio.run(validator.contents_of(resource))):
            if issue.severity != "information":
                found.add((name, issue.severity, issue.key or "", issue.rule[1] if issue.rule else ""))
    assert claimed > 50
    assert broken == BROKEN.get(version, set())
    assert found == FOUND[version]


RACE = f"{US_CORE}us-core-race"
LABORATORY = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]
}

#: One fault: example of 6.1.0, place (steps by "/"), new value or DROP, key, FHIRPath, element or invariant.
FAULTS: list[tuple[str, str, Any, str, str, str]] = [
    ("Patient-example", "identifier", DROP, "REQUIRED", "identifier", "Patient.identifier"),
    ("Patient-example", "identifier/0/system", DROP, "REQUIRED", "identifier[0].system", "Patient.identifier.system"),
    ("Patient-example", "identifier/0/value", DROP, "REQUIRED", "identifier[0].value", "Patient.identifier.value"),
    ("Patient-example", "gender", DROP, "REQUIRED", "gender", "Patient.gender"),
    ("Patient-example", "name", DROP, "REQUIRED", "name", "Patient.name"),
    ("Patient-example", "name", [{"use": "official"}], "INVARIANT", "name[0]", "us-core-6"),
    ("Patient-example", "telecom/0/value", DROP, "REQUIRED", "telecom[0].value", "Patient.telecom.value"),
    (
        "Patient-example",
        "extension/0/extension/5",
        DROP,
        "REQUIRED",
        "extension[0].extension",
        "Extension.extension:text",
    ),
    (
        *("Patient-example", "extension/0/extension/5", {"url": "text", "valueCode": "x"}),
        *("TYPE", "extension[0].extension[5].value", "Extension.extension:text.value[x]"),
    ),
    (
        *("Patient-example", "extension/0/extension/0", {"url": "ombCategory", "extension": [{"url": "x"}]}),
        *("REQUIRED", "extension[0].extension[0].value", "Extension.extension:ombCategory.value[x]"),
    ),
    ("Patient-example", "extension/1/url", RACE, "MAX", "extension", "Patient.extension:race"),
    ("Patient-example", "extension/3/valueCode", DROP, "REQUIRED", "extension[3].value", "Extension.value[x]"),
    ("Observation-blood-pressure", "component/1", DROP, "REQUIRED", "component", "Observation.component:diastolic"),
    (
        *("Observation-blood-pressure", "component/0/valueQuantity/code", "kPa"),
        *("FIXED", "component[0].value.code", "Observation.component:systolic.value[x].code"),
    ),
    (
        *("Observation-blood-pressure", "component/0/valueQuantity/unit", DROP),
        *("REQUIRED", "component[0].value.unit", "Observation.component:systolic.value[x].unit"),
    ),
    ("Observation-blood-pressure", "component/0/valueQuantity", DROP, "INVARIANT", "component[0]", "vs-3"),
    ("Observation-blood-pressure", "effectiveDateTime", "1999", "INVARIANT", "effective", "vs-1"),
    ("Observation-blood-pressure", "effectiveDateTime", DROP, "REQUIRED", "effective", "Observation.effective[x]"),
    ("Observation-blood-pressure", "category/0", LABORATORY, "REQUIRED", "category", "Observation.category:VSCat"),
    ("Observation-blood-pressure", "code/coding/0/code", "8480-6", "PATTERN", "code", "Observation.code"),
    ("Observation-blood-pressure", "subject", DROP, "REQUIRED", "subject", "Observation.subject"),
    ("Observation-blood-pressure", "subject/reference", "Group/1", "TARGET", "subject", "Observation.subject"),
    (
        "Observation-serum-calcium",
        "category/0/coding/0/code",
        "x",
        "REQUIRED",
        "category",
        "Observation.category:us-core",
    ),
    ("Observation-observation-occupation", "code/coding/0/code", "1", "PATTERN", "code", "Observation.code"),
    ("Observation-pregnancy-status", "effectiveDateTime", DROP, "REQUIRED", "effective", "Observation.effective[x]"),
    ("Observation-some-day-smoker", "valueCodeableConcept", DROP, "REQUIRED", "value", "Observation.value[x]"),
    ("CarePlan-colonoscopy", "category/0/coding/0/code", "x", "REQUIRED", "category", "CarePlan.category:AssessPlan"),
    ("CarePlan-colonoscopy", "category", DROP, "REQUIRED", "category", "CarePlan.category"),
    ("Condition-condition-duodenal-ulcer", "code", DROP, "REQUIRED", "code", "Condition.code"),
    (
        *("Condition-condition-SDOH-example", "category/0/coding/0/code", "x"),
        *("REQUIRED", "category", "Condition.category:us-core"),
    ),
    ("Coverage-coverage-example", "payor/0/reference", "Location/1", "TARGET", "payor[0]", "Coverage.payor"),
    ("Coverage-coverage-example", "class/1/type/coding/0/code", "group", "MAX", "class", "Coverage.class:group"),
    ("Encounter-example-1", "type", DROP, "REQUIRED", "type", "Encounter.type"),
    ("Device-udi-1", "type", DROP, "REQUIRED", "type", "Device.type"),
    ("Specimen-specimen-example-serum", "type", DROP, "REQUIRED", "type", "Specimen.type"),
    ("RelatedPerson-shaw-niece", "active", DROP, "REQUIRED", "active", "RelatedPerson.active"),
    ("CareTeam-example", "participant/0/role", DROP, "REQUIRED", "participant[0].role", "CareTeam.participant.role"),
    ("ServiceRequest-rehab", "code", DROP, "REQUIRED", "code", "ServiceRequest.code"),
    ("Procedure-rehab", "performedDateTime", DROP, "INVARIANT", "", "us-core-7"),
    ("Organization-acme-lab", "name", DROP, "REQUIRED", "name", "Organization.name"),
    ("Location-hospital", "name", DROP, "REQUIRED", "name", "Location.name"),
    ("DocumentReference-discharge-summary", "category", DROP, "REQUIRED", "category", "DocumentReference.category"),
]


def changed(resource: Json, place: str, value: Any) -> Json:
    resource = copy.deepcopy(resource)
    *steps, last = [int(step) if step.isdigit() else step for step in place.split("/")]
    node: Any = resource
    for step in steps:
        node = node[step]
    if value is DROP:
        del node[last]
    else:
        node[last] = value
    return resource


@pytest.mark.parametrize(
    ("name", "place", "value", "key", "path", "element"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in FAULTS],
)
def test_a_single_fault_is_found_where_it_is(
    us_core: Callable[[str], Package],
    validators: dict[str, ProfileValidator],
    name: str,
    place: str,
    value: Any,
    key: str,
    path: str,
    element: str,
) -> None:
    resource = changed(us_core("6.1.0").examples[name], place, value)
    errors = [i for i in profile_issues(validators["6.1.0"], resource) if i.severity == "error"]
    found = {(issue.key, issue.expression, issue.rule[1]) for issue in errors if issue.rule}
    whole = resource["resourceType"]
    assert (f"HS-PROFILE-{key}", f"{whole}.{path}".rstrip("."), element) in found, found
    assert all("us-core" in issue.diagnostics or "vitalsigns" in issue.diagnostics for issue in errors)


def required_members(node: Node, value: Any, place: str) -> Iterator[tuple[str, str]]:
    """The places of members that the tree of a profile demands and that are there, with their FHIRPath."""
    for child in node.children:
        keys = [key for key in value if key == child.name or (child.is_choice and key.startswith(child.name))]
        if child.min > 0 and keys and f"_{keys[0]}" not in value:  # with a twin it would still be there
            yield f"{place}{keys[0]}", child.name
        inner = value.get(child.name)
        for at, row in enumerate(inner if isinstance(inner, list) else [inner]):
            if isinstance(row, dict):
                here = f"{place}{child.name}/" + (f"{at}/" if isinstance(inner, list) else "")
                yield from required_members(child, row, here)


@pytest.mark.slow
def test_each_member_that_a_profile_demands_is_missed(
    us_core: Callable[[str], Package], validators: dict[str, ProfileValidator]
) -> None:
    package = us_core("6.1.0")
    structures = {d["url"]: d for d in package.definitions if d["resourceType"] == "StructureDefinition"}
    dropped = 0
    for resource in package.examples.values():
        for canonical in resource.get("meta", {}).get("profile", []):
            if canonical not in structures:
                continue
            for place, name in required_members(structure_of(structures[canonical]).root, resource, ""):
                faulty = changed(resource, place, DROP)
                issues = STRUCTURE.issues_of(faulty)
                if is_readable(issues):
                    issues += profile_issues(validators["6.1.0"], faulty)
                missed = [i for i in issues if i.severity == "error" and (i.expression or "").endswith(name)]
                assert missed or any(i.key == "HS-VAL-EMPTY" for i in issues), (canonical, resource["id"], place)
                dropped += 1
    assert dropped > 700
