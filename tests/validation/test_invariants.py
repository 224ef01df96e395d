"""The invariants of R4 on every write: what breaks one is told at its place, with the key and what was found."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fhir_server.fhirpath.items import Fault as PathFault
from fhir_server.fhirpath.parser import parsed
from fhir_server.model.codec import Json
from fhir_server.model.errors import Issue, outcome_of
from fhir_server.search.ucum import canonical
from fhir_server.validation import Validator
from fhir_server.validation.fault import Fault
from fhir_server.validation.invariants import GUARANTEED, Invariants, Rule, check_of
from profiles.registry import Element, Invariant, registry

UCUM = "http://unitsofmeasure.org"
TEXT = {"text": "x"}
SUBJECT = {"reference": "Patient/1"}
PERIOD = {"start": "2024-03-01", "end": "2024-02-01"}
VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": TEXT}
QUESTIONNAIRE = {"resourceType": "Questionnaire", "status": "draft"}

#: What breaks an invariant: the resource, the key, the FHIRPath.
BROKEN: list[tuple[Json, str, str]] = [
    ({**OBSERVATION, "valueString": "a", "dataAbsentReason": TEXT}, "obs-6", "Observation"),
    (
        {
            **OBSERVATION,
            "code": {"coding": [{"system": "s", "code": "c"}]},
            "valueString": "a",
            "component": [{"code": {"coding": [{"system": "s", "code": "c"}]}}],
        },
        "obs-7",
        "Observation",
    ),
    ({**OBSERVATION, "referenceRange": [{"age": {"low": {"value": 1}}}]}, "obs-3", "Observation.referenceRange[0]"),
    ({**OBSERVATION, "valueQuantity": {"value": 1, "code": "kg"}}, "qty-3", "Observation.value"),
    (
        {**OBSERVATION, "valueRange": {"low": {"value": 2}, "high": {"value": 1}}},
        "rng-2",
        "Observation.value",
    ),
    (
        {
            **OBSERVATION,
            "valueRange": {
                "low": {"value": 2, "system": UCUM, "code": "kg"},
                "high": {"value": 1999, "system": UCUM, "code": "g"},
            },
        },
        "rng-2",
        "Observation.value",
    ),
    ({**OBSERVATION, "valueRatio": {"numerator": {"value": 2}}}, "rat-1", "Observation.value"),
    ({**OBSERVATION, "effectivePeriod": PERIOD}, "per-1", "Observation.effective"),
    (
        {
            **OBSERVATION,
            "effectivePeriod": {"start": "2024-03-01T10:00:00+02:00", "end": "2024-03-01T09:00:00+02:00"},
        },
        "per-1",
        "Observation.effective",
    ),
    (
        {
            **OBSERVATION,
            "effectivePeriod": {"start": "2024-03-01T10:00:00+02:00", "end": "2024-03-01T09:59:59+03:00"},
        },
        "per-1",
        "Observation.effective",
    ),
    (
        {
            **OBSERVATION,
            "effectiveTiming": {"repeat": {"duration": 3, "boundsPeriod": {"start": "2024"}}},
        },
        "tim-1",
        "Observation.effective.repeat",
    ),
    (
        {**OBSERVATION, "effectiveTiming": {"repeat": {"offset": 3, "when": ["C"]}}},
        "tim-9",
        "Observation.effective.repeat",
    ),
    ({"resourceType": "Patient", "contact": [{"gender": "male"}]}, "pat-1", "Patient.contact[0]"),
    ({"resourceType": "Patient", "telecom": [{"value": "1"}]}, "cpt-2", "Patient.telecom[0]"),
    ({"resourceType": "Patient", "photo": [{"data": "SGVsbG8="}]}, "att-1", "Patient.photo[0]"),
    (
        {"resourceType": "Patient", "contained": [{"resourceType": "Basic", "id": "b", "code": TEXT}]},
        "dom-3",
        "Patient",
    ),
    (
        {
            "resourceType": "Patient",
            "contained": [{"resourceType": "Organization", "id": "b", "name": "B", "meta": {"versionId": "1"}}],
            "managingOrganization": {"reference": "#b"},
        },
        "dom-4",
        "Patient",
    ),
    (
        {
            "resourceType": "Patient",
            "contained": [
                {"resourceType": "Organization", "id": "b", "name": "B", "meta": {"security": [{"code": "R"}]}}
            ],
            "managingOrganization": {"reference": "#b"},
        },
        "dom-5",
        "Patient",
    ),
    ({"resourceType": "Organization", "active": True}, "org-1", "Organization"),
    (
        {"resourceType": "Organization", "name": "o", "address": [{"use": "work"}, {"use": "home"}]},
        "org-2",
        "Organization.address[1]",
    ),
    ({"resourceType": "AllergyIntolerance", "patient": SUBJECT}, "ait-1", "AllergyIntolerance"),
    (
        {
            "resourceType": "AllergyIntolerance",
            "patient": SUBJECT,
            "clinicalStatus": {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
                ]
            },
            "verificationStatus": {"coding": [{"system": VERIFICATION, "code": "entered-in-error"}]},
        },
        "ait-2",
        "AllergyIntolerance",
    ),
    (
        {
            "resourceType": "Condition",
            "subject": SUBJECT,
            "clinicalStatus": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
            },
            "abatementDateTime": "2024",
        },
        "con-4",
        "Condition",
    ),
    (
        {
            "resourceType": "CareTeam",
            "contained": [{"resourceType": "Patient", "id": "p"}],
            "participant": [{"role": [TEXT]}, {"member": {"reference": "#p"}, "onBehalfOf": {"display": "o"}}],
        },
        "ctm-1",
        "CareTeam.participant[1]",
    ),
    (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"link": [{"relation": "x", "url": "y"}]}]},
        "bdl-5",
        "Bundle.entry[0]",
    ),
    (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a/Basic/1", "resource": {**OBSERVATION, "effectivePeriod": PERIOD}}],
        },
        "per-1",
        "Bundle.entry[0].resource.effective",
    ),
    (
        {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [{"fullUrl": "http://a/Basic/1", "resource": {"resourceType": "Basic", "code": TEXT}}],
        },
        "bdl-3",
        "Bundle",
    ),
    ({**QUESTIONNAIRE, "item": [{"linkId": "1", "type": "group"}]}, "que-1", "Questionnaire.item[0]"),
    (
        {
            **QUESTIONNAIRE,
            "item": [
                {
                    "linkId": "1",
                    "type": "group",
                    "item": [
                        {
                            "linkId": "2",
                            "type": "string",
                            "enableWhen": [{"question": "1", "operator": "exists", "answerString": "x"}],
                        }
                    ],
                }
            ],
        },
        "que-7",
        "Questionnaire.item[0].item[0].enableWhen[0]",
    ),
    (
        {**QUESTIONNAIRE, "item": [{"linkId": "1", "type": "string"}, {"linkId": "1", "type": "string"}]},
        "que-2",
        "Questionnaire",
    ),
    (
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "subject": SUBJECT,
            "prediction": [{"probabilityRange": {"low": {"value": 1, "system": UCUM, "code": "1"}}}],
        },
        "ras-1",
        "RiskAssessment.prediction[0].probability",
    ),
    (
        {
            "resourceType": "StructureDefinition",
            "url": "http://e/StructureDefinition/x",
            "name": "X",
            "status": "draft",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "differential": {
                "element": [{"id": "Patient", "path": "Patient"}, {"id": "x", "path": "Patient.x", "max": "-1"}]
            },
        },
        "eld-3",
        "StructureDefinition.differential.element[1].max",
    ),
    (
        {
            "resourceType": "StructureDefinition",
            "url": "http://e/StructureDefinition/x",
            "name": "X",
            "status": "draft",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "differential": {"element": [{"id": "Basic", "path": "Basic"}]},
        },
        "sdf-8a",
        "StructureDefinition.differential",
    ),
]


def invariants(issues: list[Issue]) -> list[tuple[str, str | None]]:
    return [(issue.rule[1], issue.expression) for issue in issues if issue.rule is not None]


@pytest.fixture(scope="module")
def with_units() -> Validator:
    from profiles.terminology import terminology  # noqa: PLC0415

    return Validator(registry(), terminology(), canonical)


@pytest.mark.parametrize(
    ("resource", "key", "path"), [pytest.param(*row, id=f"{row[1]}-{at}") for at, row in enumerate(BROKEN)]
)
def test_a_broken_invariant_is_told_with_its_key_and_place(
    with_units: Validator, resource: Json, key: str, path: str
) -> None:
    issues = with_units.issues_of(resource)
    assert invariants(issues) == [(key, path)]
    (issue,) = issues
    assert (issue.key, issue.code, issue.severity) == ("HS-VAL-INVARIANT", "invariant", "error")
    assert issue.diagnostics.startswith("Found ")
    assert f"expected by {key}: " in issue.diagnostics


def test_an_issue_names_the_definition_that_states_the_invariant(validator: Validator) -> None:
    resource = {**OBSERVATION, "contained": [{"resourceType": "Basic", "id": "b", "code": TEXT}]}
    (row,) = outcome_of(validator.issues_of(resource))["issue"]
    assert row["details"]["coding"] == [
        {"system": "urn:healthsphere:message", "code": "HS-VAL-INVARIANT"},
        {"system": "http://hl7.org/fhir/StructureDefinition/DomainResource", "code": "dom-3"},
    ]


def test_what_was_found_is_told(validator: Validator) -> None:
    (issue,) = validator.issues_of({**OBSERVATION, "valueQuantity": {"value": 1, "code": "kg"}})
    assert issue.diagnostics == (
        "Found code 'kg', no system; expected by qty-3: If a code for the unit is present, the system SHALL also be "
        "present (code.empty() or system.exists())."
    )


def test_advice_is_given_only_when_it_is_asked_for(validator: Validator) -> None:
    assert validator.issues_of(OBSERVATION) == []
    (issue,) = validator.advising.issues_of(OBSERVATION)
    assert issue.severity == "warning"
    assert issue.rule == ("http://hl7.org/fhir/StructureDefinition/DomainResource", "dom-6")


def test_advice_takes_no_error_its_place(validator: Validator) -> None:
    entries = [{"fullUrl": f"http://a/{at}", "resource": OBSERVATION} for at in range(1500)]
    entries[-1] = {"fullUrl": "http://a/x", "resource": {**OBSERVATION, "status": "x"}}
    issues = validator.advising.issues_of({"resourceType": "Bundle", "type": "collection", "entry": entries})
    assert len(issues) == 1001
    assert issues[0].expression == "Bundle.entry[1499].resource.status"
    assert issues[-1].key == "HS-VAL-MORE"


def test_a_contained_resource_is_not_advised_to_have_a_narrative(validator: Validator) -> None:
    resource = {
        "resourceType": "Patient",
        "text": {"status": "empty", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
        "contained": [{"resourceType": "Basic", "id": "b", "code": TEXT}],
        "managingOrganization": {"reference": "#b", "type": "Organization"},
    }
    assert [i for i in validator.advising.issues_of(resource) if i.rule is not None] == []


def test_a_warning_is_told_and_refuses_nothing(validator: Validator) -> None:
    (issue,) = validator.issues_of({**QUESTIONNAIRE, "name": "with-hyphens"})
    assert (issue.severity, issue.rule and issue.rule[1]) == ("warning", "que-0")


@pytest.mark.parametrize(
    "resource",
    [
        # The members that the invariant reads are not of their types.
        {**OBSERVATION, "valueString": 5, "dataAbsentReason": TEXT},
        {**OBSERVATION, "valueString": "a", "valueInteger": 1, "dataAbsentReason": TEXT},
        {"resourceType": "Patient", "contact": [{"gender": "male", "name": []}]},
    ],
)
def test_an_object_that_cannot_be_read_is_not_asked(validator: Validator, resource: Json) -> None:
    issues = validator.issues_of(resource)
    assert issues
    assert invariants(issues) == []


def test_an_invariant_is_asked_beside_other_faults(validator: Validator) -> None:
    resource = {**OBSERVATION, "status": "fnal", "valeu": 1, "valueString": "a", "dataAbsentReason": TEXT}
    keys = {issue.key for issue in validator.issues_of(resource)}
    assert keys == {"HS-VAL-BINDING", "HS-VAL-UNKNOWN", "HS-VAL-INVARIANT"}


#: What the guaranteed invariants forbid, and what tells it.
FORBIDDEN: list[tuple[str, Json, str]] = [
    ("ele-1", {"resourceType": "Patient", "name": [{}]}, "HS-VAL-EMPTY"),
    ("ele-1", {"resourceType": "Patient", "name": [{"id": "x"}]}, "HS-VAL-EMPTY"),
    ("ele-1", {"resourceType": "Patient", "_birthDate": {"id": "x"}}, "HS-VAL-EMPTY"),
    ("ele-1", {**OBSERVATION, "_valueString": {"id": "x"}}, "HS-VAL-EMPTY"),
    (
        "ele-1",
        {"resourceType": "Patient", "name": [{"given": ["x", None], "_given": [None, {"id": "x"}]}]},
        "HS-VAL-EMPTY",
    ),
    ("ext-1", {"resourceType": "Patient", "extension": [{"url": "x"}]}, "HS-VAL-EXTENSION"),
    (
        "ext-1",
        {"resourceType": "Patient", "extension": [{"url": "x", "valueCode": "x", "extension": [{"url": "y"}]}]},
        "HS-VAL-EXTENSION",
    ),
    ("ref-1", {**OBSERVATION, "subject": {"reference": "#p"}}, "HS-VAL-FRAGMENT"),
    (
        "dom-2",
        {
            "resourceType": "Patient",
            "contained": [
                {
                    "resourceType": "Organization",
                    "id": "o",
                    "name": "o",
                    "contained": [{"resourceType": "Basic", "id": "b", "code": TEXT}],
                }
            ],
        },
        "HS-VAL-CONTAINED-NESTED",
    ),
    (
        "txt-1",
        {
            "resourceType": "Patient",
            "text": {
                "status": "generated",
                "div": '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>',
            },
        },
        "HS-VAL-NARRATIVE-ELEMENT",
    ),
    (
        "txt-2",
        {
            "resourceType": "Patient",
            "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"> </div>'},
        },
        "HS-VAL-NARRATIVE-EMPTY",
    ),
]


@pytest.mark.parametrize(("key", "resource", "told"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN])
def test_what_the_structure_guarantees_is_told_once(validator: Validator, key: str, resource: Json, told: str) -> None:
    issues = validator.issues_of(resource)
    assert told in {issue.key for issue in issues}
    assert key not in {found for found, _ in invariants(issues)}


def test_each_guaranteed_invariant_has_its_proof() -> None:
    assert {row[0] for row in FORBIDDEN} == set(GUARANTEED)


class _Counting(Invariants):
    """Counts which invariants are compiled, at which element."""

    def __init__(self) -> None:
        super().__init__(registry(), advice=True)
        self.asked: Counter[str] = Counter()

    def _rule(self, invariant: Invariant, node: Any, kind: Any, element: Element) -> Rule:
        self.asked[invariant.key] += 1
        return super()._rule(invariant, node, kind, element)


def test_every_invariant_is_asked_at_its_place_or_guaranteed() -> None:
    made = _Counting()
    from_root: set[str] = set()
    for definition in registry().types.values():
        for path, element in definition.elements.items():
            for kind in (path,) if not element.is_choice else [one.code for one in element.types]:
                made.of(element, kind)
        for element in definition.elements.values():
            if definition.kind == "resource" and element.path != definition.name:
                asked = made._asked(element)
                from_root |= {i.key for i, node in asked if made.reads_surroundings(node)}
    every = {i.key for t in registry().types.values() for e in t.elements.values() for i in e.invariants}
    assert set(made.asked) | from_root | set(GUARANTEED) == every
    # Only these look beyond the element they stand at; a data type has none.
    assert from_root == {"ctm-1", "sdf-8", "sdf-8a"}


def test_an_invariant_that_cannot_be_evaluated_is_a_warning() -> None:
    def fails(value: Any) -> bool:
        raise PathFault("there is no such thing")

    invariant = Invariant("x-1", "error", "X", "a.b")
    (found,) = check_of([Rule(invariant, fails, "http://e", ("a",))])({"a": 1}) or []
    assert isinstance(found, Fault)
    assert (found.key, found.severity) == ("HS-VAL-INVARIANT-FAILED", "warning")
    assert "there is no such thing" in found.diagnostics


def test_the_correction_parses() -> None:
    from fhir_server.validation.invariants import CORRECTED  # noqa: PLC0415

    every = {i.expression for t in registry().types.values() for e in t.elements.values() for i in e.invariants}
    assert set(CORRECTED) <= every
    assert all(parsed(right) for right in CORRECTED.values())


def test_an_id_beside_a_value_is_no_emptiness(validator: Validator) -> None:
    name = {"id": "n", "given": ["x", "y"], "_given": [None, {"id": "g"}]}
    assert (
        validator.issues_of({"resourceType": "Patient", "birthDate": "2000", "_birthDate": {"id": "b"}, "name": [name]})
        == []
    )
