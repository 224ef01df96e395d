"""What only the whole resource decides: contained resources, references among parts, Bundles, odd documents."""

import time
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.model.codec import Json
from fhir_server.model.errors import outcome_of
from fhir_server.validation import Validator
from profiles.registry import registry


def keys_of(validator: Validator, resource: Any) -> list[tuple[str | None, str | None]]:
    return [(issue.key, issue.expression) for issue in validator.issues_of(resource)]


def with_subject(reference: str) -> Json:
    """An Observation whose focus (any type) is the reference."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "focus": [{"reference": reference}],
    }


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Patient/1/_history/2",
        "http://example.org/fhir/Patient/1",
        "https://example.org:8443/a/b/Patient/1/_history/3",
        "https://example.org/elsewhere?id=5",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "urn:uuid:C757873D-EC9A-4326-A141-556F43239520",
        "urn:oid:1.2.3",
    ],
)
def test_well_formed_references_pass(validator: Validator, reference: str) -> None:
    assert validator.issues_of(with_subject(reference)) == []


@pytest.mark.parametrize(
    "reference",
    [
        "Patient",
        "patient/1",
        "Patient/",
        "/Patient/1",
        "Patient/1/2",
        "Patient/a_b",
        "ftp://example.org/Patient/1",
        "javascript:alert(1)",
        "urn:x:1",
        "http://",
        "Patient/1/_history/",
        "Patient/" + "x" * 65,
        " ",
        "HumanName/1",
    ],
)
def test_malformed_references_are_refused(validator: Validator, reference: str) -> None:
    issues = [i for i in validator.issues_of(with_subject(reference)) if i.severity == "error"]
    assert [(i.key, i.expression) for i in issues] == [("HS-VAL-REFERENCE", "Observation.focus[0].reference")]


def test_a_conditional_reference_to_another_type_is_refused_too_where_nobody_resolves_it(validator: Validator) -> None:
    slot = {
        "resourceType": "Slot",
        "schedule": {"reference": "Patient?identifier=1"},
        "status": "free",
        "start": "2024-01-01T10:00:00Z",
        "end": "2024-01-01T10:30:00Z",
    }
    told = [(i.severity, i.key, i.expression) for i in validator.issues_of(slot)]
    assert told == [
        ("warning", "HS-VAL-TARGET", "Slot.schedule.reference"),
        ("error", "HS-VAL-CONDITIONAL", "Slot.schedule.reference"),
    ]
    entry = {"resource": slot, "request": {"method": "POST", "url": "Slot"}}
    transaction = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert keys_of(validator, transaction) == [("HS-VAL-TARGET", "Bundle.entry[0].resource.schedule.reference")]


def test_a_reference_with_only_an_identifier_or_display_passes(validator: Validator) -> None:
    for reference in ({"identifier": {"value": "1"}}, {"display": "Amy"}, {"type": "Patient", "display": "Amy"}):
        resource = {**with_subject("x"), "focus": [reference]}
        assert validator.issues_of(resource) == []


def test_contained_resources_are_validated_as_their_own_types(validator: Validator) -> None:
    resource = {"resourceType": "Patient", "contained": [{"resourceType": "Organization", "id": "o", "name": 5}]}
    assert keys_of(validator, resource) == [("HS-VAL-JSON-TYPE", "Patient.contained[0].name")]


def test_a_contained_resource_needs_an_id_of_its_own(validator: Validator) -> None:
    own = {"managingOrganization": {"reference": "#o"}}
    basic = {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "#"}}
    resource = {"resourceType": "Patient", "contained": [basic]}
    assert keys_of(validator, resource) == [("HS-VAL-CONTAINED-ID", "Patient.contained[0].id")]
    one = {"resourceType": "Organization", "id": "o", "name": "a"}
    assert keys_of(validator, {"resourceType": "Patient", "contained": [one, one], **own}) == [
        ("HS-VAL-CONTAINED-ID", "Patient.contained[1].id")
    ]


def test_contained_resources_refer_to_each_other_and_to_their_container(validator: Validator) -> None:
    resource = {
        "resourceType": "Patient",
        "contained": [
            {"resourceType": "Organization", "id": "a", "name": "A", "partOf": {"reference": "#b"}},
            {"resourceType": "Organization", "id": "b", "name": "B"},
            {
                "resourceType": "Observation",
                "id": "c",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": "#"},
            },
        ],
        "managingOrganization": {"reference": "#a"},
    }
    assert validator.issues_of(resource) == []


def test_each_entry_of_a_bundle_has_its_own_contained_resources(validator: Validator) -> None:
    medication = {"resourceType": "Medication", "id": "m"}
    administration = {
        "resourceType": "MedicationStatement",
        "status": "active",
        "medicationReference": {"reference": "#m"},
        "subject": {"reference": "Patient/1"},
    }
    entries = [{"resource": {**administration, "contained": [medication]}}, {"resource": administration}]
    assert keys_of(validator, {"resourceType": "Bundle", "type": "collection", "entry": entries}) == [
        ("HS-VAL-FRAGMENT", "Bundle.entry[1].resource.medication.reference")
    ]


def test_questionnaires_recurse_to_any_depth(validator: Validator) -> None:
    item: Json = {"linkId": "x", "type": "string", "bogus": 1}
    for level in range(30):
        item = {"linkId": str(level), "type": "group", "item": [item]}
    resource = {"resourceType": "Questionnaire", "status": "draft", "item": [item]}
    path = "Questionnaire.item[0]" + ".item[0]" * 30
    assert keys_of(validator, resource) == [("HS-VAL-UNKNOWN", f"{path}.bogus")]


def test_nesting_beyond_reason_is_an_issue_and_no_crash(validator: Validator) -> None:
    extension: Json = {"url": "x", "valueString": "x"}
    for _ in range(5000):
        extension = {"url": "x", "extension": [extension]}
    assert keys_of(validator, {"resourceType": "Patient", "extension": [extension]}) == [("HS-VAL-DEPTH", "Patient")]


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "x", [], {}, [[]], [{}], {"a": 1}, {"resourceType": None}])
def test_what_is_no_resource_is_one_issue(validator: Validator, value: Any) -> None:
    (issue,) = validator.issues_of(value)
    assert issue.severity == "error"


@pytest.mark.parametrize(
    "name", ["Resource", "DomainResource", "HumanName", "string", "patient", "", "\ud800", "x" * 9999]
)
def test_only_concrete_resource_types_are_resources(validator: Validator, name: str) -> None:
    (issue,) = validator.issues_of({"resourceType": name})
    assert issue.key == "HS-VAL-RESOURCE-TYPE"


def test_issues_become_an_operation_outcome_that_is_itself_valid(validator: Validator) -> None:
    broken: Json = {"resourceType": "Patient", "gender": "x\ud800", "birthDate": 10**6000, "\ud800": 1, "name": [[]]}
    outcome = outcome_of(validator.issues_of(broken))
    assert len(outcome["issue"]) == 4
    assert validator.issues_of(outcome) == []


def test_every_resource_type_has_a_check(validator: Validator) -> None:
    for name in registry().resource_types:
        issues = validator.issues_of({"resourceType": name})
        assert all(i.key in ("HS-VAL-REQUIRED", "HS-VAL-INVARIANT") for i in issues), name


def test_text_alone_is_no_concept_of_a_required_value_set(validator: Validator) -> None:
    resource = {
        "resourceType": "Condition",
        "subject": {"reference": "Patient/1"},
        "clinicalStatus": {"text": "active"},
    }
    assert keys_of(validator, resource) == [("HS-VAL-BINDING", "Condition.clinicalStatus")]
    absent = {"extension": [{"url": "http://example.org/absent", "valueCode": "unknown"}]}
    assert validator.issues_of({**resource, "clinicalStatus": absent}) == []


def test_exact_decimals_pass_and_binary_floats_do_not(validator: Validator) -> None:
    resource = {**with_subject("Patient/1"), "valueQuantity": {"value": Decimal("1.10")}}
    assert validator.issues_of(resource) == []
    resource["valueQuantity"] = {"value": 1.1}
    assert keys_of(validator, resource) == [("HS-VAL-JSON-TYPE", "Observation.value.value")]


@pytest.mark.parametrize(
    "reference",
    [
        "http://" + "a" * 500_000 + " ",
        "http://" + "a/" * 300_000 + "Patient/" + "x" * 65,
        "http://x" + "/Patient/1" * 50_000 + " ",
        "urn:oid:1" + ".1" * 300_000 + "x",
        "Patient?" + "a" * 1_000_000 + "?",
    ],
    ids=["host", "path", "types", "oid", "criteria"],
)
def test_no_reference_takes_long_to_refuse(validator: Validator, reference: str) -> None:
    start = time.process_time()
    validator.issues_of(with_subject(reference))
    assert time.process_time() - start < 1
