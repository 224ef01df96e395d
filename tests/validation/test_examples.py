"""Real resources: the specification's own examples and 120 generated patients.

The data is found by the environment variable HEALTHSPHERE_TEST_DATA; without it these tests are skipped.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from carebundle import generate_cohort, to_json

from fhir_server.model.codec import Json, decode
from fhir_server.model.errors import Issue
from fhir_server.validation import Validator
from tests.official_examples import DEFINITIONAL

#: Examples that break the specification's own rules, each looked at: file, the keys of its issues.
FAULTY: dict[str, set[str]] = {
    # Many display items have no linkId, which is 1..1.
    "Questionnaire-qs1": {"HS-VAL-REQUIRED"},
}

#: Examples whose name no program can use as an identifier (pdf-0, tst-0 and the like).
NAMED_WITH_HYPHENS = {
    *(f"PlanDefinition-opioidcds-{number}" for number in ("04", "05", "07", "08", "10", "11")),
    *("Bundle-searchParams", "Bundle-terminologies", "Bundle-types", "TestScript-testscript-example-multisystem"),
}

#: Examples with what a server may accept and should tell.
QUESTIONABLE: dict[str, set[str]] = {
    # `text.div` holds white space only (constraint txt-2).
    "ActivityDefinition-blood-tubes-supply": {"HS-VAL-NARRATIVE-EMPTY"},
    "ActivityDefinition-heart-valve-replacement": {"HS-VAL-NARRATIVE-EMPTY"},
    "EventDefinition-example": {"HS-VAL-NARRATIVE-EMPTY"},
    "Questionnaire-zika-virus-exposure-assessment": {"HS-VAL-NARRATIVE-EMPTY"},
    # DeviceMetric.parent is a Reference(Device); the example refers to a DeviceDefinition.
    "DeviceMetric-example": {"HS-VAL-TARGET"},
    # DeviceUseStatement.reasonReference does not allow a Procedure.
    "DeviceUseStatement-example": {"HS-VAL-TARGET"},
    # MedicationRequest.dispenseRequest.performer is a Reference(Organization); the example refers to a Practitioner.
    "MedicationRequest-medrx0301": {"HS-VAL-TARGET"},
    # Observation.performer does not allow an Encounter.
    "Observation-clinical-gender": {"HS-VAL-TARGET"},
    **{name: {"HS-VAL-INVARIANT"} for name in NAMED_WITH_HYPHENS},
}

#: The same of the definitions.
FAULTY_DEFINITIONS: dict[str, set[str]] = {
    # Logical models without a base that do not call themselves abstract (sdf-4).
    **{f"StructureDefinition-{name}": {"HS-VAL-INVARIANT"} for name in ("Definition", "Event", "FiveWs", "Request")},
    # A guide in the making: no name, no status; it refers to the SearchParameter below.
    "ImplementationGuide-fhir": {"HS-VAL-REQUIRED", "HS-VAL-REFERENCE"},
    "ig-r4": {"HS-VAL-REQUIRED", "HS-VAL-REFERENCE"},
    # `base` is 1..*; these ten have none.
    **{
        f"SearchParameter-{name.lower()}-extensions-{name}-{code}": {"HS-VAL-REQUIRED"}
        for name in ("CodeSystem", "ValueSet")
        for code in ("author", "effective", "end", "keyword", "workflow")
    },
    # An id of 67 characters; 64 are allowed.
    "SearchParameter-questionnaireresponse-extensions-QuestionnaireResponse-item-subject": {"HS-VAL-ID"},
}


def examples(folder: Path, *, definitional: bool) -> Iterator[tuple[str, Json]]:
    for path in sorted((folder / "r4-examples").glob("*.json")):
        resource = decode(path.read_bytes())
        name = resource.get("resourceType")  # package.json is none
        if name and (name in DEFINITIONAL) is definitional:
            yield path.stem, resource


def errors_of(issues: list[Issue]) -> list[Issue]:
    return [issue for issue in issues if issue.severity == "error"]


def keys(issues: list[Issue]) -> set[str | None]:
    return {issue.key for issue in errors_of(issues)}


def test_the_clinical_examples_are_valid_but_for_the_faulty_ones(validator: Validator, data_folder: Path) -> None:
    found = {name: keys(validator.issues_of(r)) for name, r in examples(data_folder, definitional=False)}
    assert len(found) >= 715
    assert {name: faults for name, faults in found.items() if faults} == FAULTY


def test_what_a_server_may_accept_is_told_as_a_warning(validator: Validator, data_folder: Path) -> None:
    found = {
        name: {issue.key for issue in validator.issues_of(r) if issue.severity == "warning"}
        for name, r in examples(data_folder, definitional=False)
    }
    assert {name: told for name, told in found.items() if told} == QUESTIONABLE


@pytest.mark.slow
def test_the_definitions_are_valid_but_for_the_faulty_ones(validator: Validator, data_folder: Path) -> None:
    found = {name: keys(validator.issues_of(r)) for name, r in examples(data_folder, definitional=True)}
    assert len(found) > 4500
    assert {name: faults for name, faults in found.items() if faults} == FAULTY_DEFINITIONS


def test_the_patients_that_come_with_the_server_are_valid(validator: Validator) -> None:
    cohort = generate_cohort(count=20, seed=42, sex="mixed", age_range=(18, 90))
    bundles = [decode(to_json(patient).encode()) for patient in cohort]
    assert [issue for bundle in bundles for issue in validator.issues_of(bundle)] == []
    assert sum(len(bundle["entry"]) for bundle in bundles) > 300


@pytest.mark.slow
def test_all_resources_of_the_generated_patients_are_valid(validator: Validator, data_folder: Path) -> None:
    count = 0
    for path in sorted((data_folder / "synthea-blaze").glob("*.json")):
        bundle = decode(path.read_bytes())
        count += len(bundle["entry"])
        assert validator.issues_of(bundle) == [], path.name
    assert count == 92_114
