"""The profiles of R4 itself: all compile, the specification's examples conform to what they claim, faults are found."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.validation.profile.definition import UnusableError, structure_of
from fhir_server.validation.profile.validator import is_readable
from profiles.registry import registry
from tests.validation.profile.holding import STRUCTURE, TYPES, Json, issues_of, validator_of
from tests.validation.test_examples import examples
from tests.validation.test_fuzz import mutated

CORE = validator_of()
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
VITAL = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}


def measured(code: str, unit: str, value: int) -> Json:
    return {
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "valueQuantity": {"value": value, "unit": unit, "system": UCUM, "code": unit},
    }


PRESSURE: Json = {
    "resourceType": "Observation",
    "status": "final",
    "category": [VITAL],
    "code": {"coding": [{"system": LOINC, "code": "85354-9"}]},
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2026-01-02",
    "component": [measured("8480-6", "mm[Hg]", 120), measured("8462-4", "mm[Hg]", 80)],
}
WEIGHT: Json = {
    "resourceType": "Observation",
    "status": "final",
    "category": [VITAL],
    "subject": {"reference": "Patient/1"},
    "effectiveDateTime": "2026-01-02",
    **measured("29463-7", "kg", 70),
}


def test_all_profiles_and_extensions_of_the_specification_are_held() -> None:
    held = registry().profiles
    assert len(held) > 430
    assert {
        f"{TYPES}{name}" for name in ("vitalsigns", "bp", "bodyweight", "SimpleQuantity", "patient-birthPlace")
    } <= set(held)
    shelf = asyncio.run(validator_of().shelf_for([]))
    assert [url for url in held if shelf.check_of(url) is None] == []


def test_the_digest_leaves_out_what_the_base_types_say() -> None:
    root = structure_of(registry().profiles[f"{TYPES}vitalsigns"]).root
    assert {constraint.key for constraint in root.constraints} == {"vs-2"}


@pytest.mark.parametrize(("name", "resource"), [("bp", PRESSURE), ("vitalsigns", PRESSURE), ("bodyweight", WEIGHT)])
def test_a_vital_sign_conforms(name: str, resource: Json) -> None:
    assert [i for i in issues_of(resource, asked=[TYPES + name]) if i.severity != "information"] == []


@pytest.mark.parametrize(
    ("resource", "name", "change", "key", "path"),
    [
        (PRESSURE, "bp", {"component": PRESSURE["component"][:1]}, "REQUIRED", "component"),
        (PRESSURE, "bp", {"category": [{"text": "x"}]}, "REQUIRED", "category"),
        (PRESSURE, "bp", {"valueQuantity": WEIGHT["valueQuantity"]}, "MAX", "value"),
        (PRESSURE, "bp", {"effectiveDateTime": "2026"}, "INVARIANT", "effective"),
        (WEIGHT, "bodyweight", {"valueQuantity": {**WEIGHT["valueQuantity"], "code": "st"}}, "BINDING", "value.code"),
        (WEIGHT, "bodyweight", {"valueQuantity": {"value": 70}}, "REQUIRED", "value.unit"),
        (WEIGHT, "bodyweight", {"valueString": "70 kg", "valueQuantity": None}, "TYPE", "value"),
        (WEIGHT, "bodyweight", {"code": {"coding": [{"system": LOINC, "code": "1-1"}]}}, "REQUIRED", "code.coding"),
    ],
)
def test_a_fault_of_a_vital_sign_is_found(resource: Json, name: str, change: Json, key: str, path: str) -> None:
    faulty = {name: value for name, value in {**resource, **change}.items() if value is not None}
    found = {(i.key, i.expression) for i in issues_of(faulty, asked=[TYPES + name]) if i.severity == "error"}
    assert (f"HS-PROFILE-{key}", f"Observation.{path}") in found


def test_the_examples_of_the_specification_conform_to_what_they_claim(test_data: Path) -> None:
    validator = validator_of()
    unknown = set()
    for name, resource in examples(test_data, definitional=False):
        if is_readable(STRUCTURE.issues_of(resource)):
            for issue in asyncio.run(validator.issues_of(resource)):
                # Structured data capture is a guide of its own.
                assert issue.key == "HS-PROFILE-UNKNOWN", (name, issue)
                assert "/us/sdc/" in issue.diagnostics
                unknown.add(name)
    assert unknown == {"Bundle-ussg-fht"}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(resource=mutated() | st.sampled_from([PRESSURE, WEIGHT]))
def test_no_resource_of_right_structure_makes_a_profile_fail(resource: Any) -> None:
    issues = STRUCTURE.issues_of(resource)
    if is_readable(issues) and isinstance(resource, dict):
        asked = [
            TYPES + name for name in ("bp", "SimpleQuantity", "patient-birthPlace", "shareablevalueset", "lipidprofile")
        ]
        for issue in asyncio.run(CORE.issues_of(copy.deepcopy(resource), asked)):
            assert (issue.key or "").startswith("HS-PROFILE-")
            assert issue.expression


@pytest.mark.parametrize(
    "definition",
    [
        {
            "url": "http://e/d",
            "type": "Patient",
            "kind": "resource",
            "differential": {"element": [{"path": "Patient"}]},
        },
        {"url": "http://e/d", "type": "Thing", "kind": "logical", "snapshot": {"element": [{"path": "Thing"}]}},
        {
            "url": "http://e/d",
            "type": "Patient",
            "kind": "resource",
            "snapshot": {"element": [{"path": "Patient"}, {"path": "Basic.code"}]},
        },
        {
            "url": "http://e/d",
            "type": "Patient",
            "kind": "resource",
            "snapshot": {"element": [{"path": "Patient"}, {"path": "Patient.http://e/d", "max": "many"}]},
        },
    ],
)
def test_a_definition_that_cannot_be_used_says_why(definition: Json) -> None:
    with pytest.raises(UnusableError, match="http://e/d"):
        structure_of(definition)
