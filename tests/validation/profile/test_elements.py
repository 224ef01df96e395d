"""What a profile says of an element: its number, type, value, length, codes, targets and rules."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.search.ucum import canonical
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology
from tests.validation.profile.holding import (
    BASE,
    TYPES,
    Json,
    Memory,
    issues_of,
    profile,
    told,
    validator_of,
    value_set,
)

UCUM = "http://unitsofmeasure.org"
CODE = {"coding": [{"system": "http://c", "code": "a"}]}
OBSERVATION: Json = {"resourceType": "Observation", "status": "final", "code": CODE}
PATIENT: Json = {"resourceType": "Patient"}
KG = {"value": 70, "unit": "kg", "system": UCUM, "code": "kg"}


def rule(key: str, expression: str, severity: str = "error") -> Json:
    return {"constraint": [{"key": key, "severity": severity, "human": "As it should be.", "expression": expression}]}


#: type, elements of the profile, a resource that conforms, one that does not, what is told
CASES: list[tuple[str, list[Json], Json, Json, list[tuple[str, str]]]] = [
    (
        "Patient",
        [{"path": "name", "min": 1}],
        {**PATIENT, "name": [{"family": "x"}]},
        {**PATIENT, "active": True},
        [("HS-PROFILE-REQUIRED", "Patient.name")],
    ),
    (
        "Patient",
        [{"path": "name", "max": "1"}],
        {**PATIENT, "name": [{"family": "x"}]},
        {**PATIENT, "name": [{"family": "x"}, {"family": "y"}]},
        [("HS-PROFILE-MAX", "Patient.name")],
    ),
    (
        "Patient",
        [{"path": "active", "max": "0"}],
        {**PATIENT, "gender": "male"},
        {**PATIENT, "active": True},
        [("HS-PROFILE-MAX", "Patient.active")],
    ),
    (
        "Patient",
        [{"path": "name"}, {"path": "name.family", "min": 1}],
        {**PATIENT, "name": [{"family": "x"}, {"_family": {"extension": [{"url": "u", "valueCode": "c"}]}}]},
        {**PATIENT, "name": [{"family": "x"}, {"text": "y"}]},
        [("HS-PROFILE-REQUIRED", "Patient.name[1].family")],
    ),
    (
        "Observation",
        [{"path": "value[x]", "min": 1, "type": [{"code": "Quantity"}]}],
        {**OBSERVATION, "valueQuantity": KG},
        {**OBSERVATION, "valueString": "70 kg"},
        [("HS-PROFILE-TYPE", "Observation.value")],
    ),
    (
        "Observation",
        [
            {"path": "value[x]", "type": [{"code": "Quantity"}]},
            {"path": "value[x].code", "min": 1, "type": [{"code": "code"}], "fixedCode": "kg"},
        ],
        {**OBSERVATION, "valueQuantity": KG},
        {**OBSERVATION, "valueQuantity": {**KG, "code": "g"}},
        [("HS-PROFILE-FIXED", "Observation.value.code")],
    ),
    (
        "Observation",
        [{"path": "code", "fixedCodeableConcept": CODE}],
        OBSERVATION,
        {**OBSERVATION, "code": {**CODE, "text": "more"}},
        [("HS-PROFILE-FIXED", "Observation.code")],
    ),
    (
        "Observation",
        [{"path": "code", "patternCodeableConcept": CODE}],
        {
            **OBSERVATION,
            "code": {"coding": [{"code": "x"}, {"system": "http://c", "code": "a", "display": "A"}], "text": "more"},
        },
        {**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "b"}]}},
        [("HS-PROFILE-PATTERN", "Observation.code")],
    ),
    (
        "Patient",
        [{"path": "active", "fixedBoolean": True}],
        {**PATIENT, "active": True},
        {**PATIENT, "active": False},
        [("HS-PROFILE-FIXED", "Patient.active")],
    ),
    (
        "Patient",
        [{"path": "name"}, {"path": "name.family", "maxLength": 3}],
        {**PATIENT, "name": [{"family": "Lee"}]},
        {**PATIENT, "name": [{"family": "Shaw"}]},
        [("HS-PROFILE-LENGTH", "Patient.name[0].family")],
    ),
    (
        "Patient",
        [{"path": "birthDate", "minValueDate": "1900-01-01", "maxValueDate": "2020-12-31"}],
        {**PATIENT, "birthDate": "1900-01-01"},
        {**PATIENT, "birthDate": "1899-12-31"},
        [("HS-PROFILE-RANGE", "Patient.birthDate")],
    ),
    (
        "Observation",
        [{"path": "value[x]", "maxValueQuantity": {"value": 100, "system": UCUM, "code": "kg"}}],
        {**OBSERVATION, "valueQuantity": {**KG, "value": 99_000, "code": "g"}},
        {**OBSERVATION, "valueQuantity": {**KG, "value": 101_000, "code": "g"}},
        [("HS-PROFILE-RANGE", "Observation.value")],
    ),
    (
        "Observation",
        [{"path": "subject", "type": [{"code": "Reference", "targetProfile": [TYPES + "Patient"]}]}],
        {**OBSERVATION, "subject": {"reference": "http://other.example/fhir/Patient/1"}},
        {**OBSERVATION, "subject": {"reference": "Group/1"}},
        [("HS-PROFILE-TARGET", "Observation.subject")],
    ),
    (
        "Observation",
        [{"path": "subject", "type": [{"code": "Reference", "targetProfile": [TYPES + "Patient"]}]}],
        {**OBSERVATION, "subject": {"reference": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"}},
        {
            **OBSERVATION,
            "contained": [{"resourceType": "Group", "id": "g", "type": "person", "actual": False}],
            "subject": {"reference": "#g"},
        },
        [("HS-PROFILE-TARGET", "Observation.subject")],
    ),
    (
        "Patient",
        [{"path": "contact", **rule("x-1", "relationship.exists()")}],
        {**PATIENT, "contact": [{"relationship": [{"text": "son"}], "name": {"text": "n"}}]},
        {**PATIENT, "contact": [{"name": {"text": "n"}}]},
        [("HS-PROFILE-INVARIANT", "Patient.contact[0]")],
    ),
    (
        "Patient",
        [{"path": "contact"}, {"path": "contact.name", **rule("x-2", "%resource.active = true")}],
        {**PATIENT, "active": True, "contact": [{"name": {"text": "n"}}]},
        {**PATIENT, "active": False, "contact": [{"name": {"text": "n"}}]},
        [("HS-PROFILE-INVARIANT", "Patient.contact[0].name")],
    ),
    (
        "Questionnaire",
        [
            {"path": "item", "type": [{"code": "BackboneElement"}]},
            {"path": "item.text", "min": 1},
            {"path": "item.item", "contentReference": "#Questionnaire.item"},
        ],
        {
            "resourceType": "Questionnaire",
            "status": "draft",
            "item": [
                {"linkId": "1", "type": "group", "text": "t", "item": [{"linkId": "2", "type": "string", "text": "t"}]}
            ],
        },
        {
            "resourceType": "Questionnaire",
            "status": "draft",
            "item": [
                {
                    "linkId": "1",
                    "type": "group",
                    "text": "t",
                    "item": [
                        {"linkId": "2", "type": "group", "text": "t", "item": [{"linkId": "3", "type": "string"}]}
                    ],
                }
            ],
        },
        [("HS-PROFILE-REQUIRED", "Questionnaire.item[0].item[0].item[0].text")],
    ),
    (
        "Bundle",
        [
            {"path": "entry"},
            {"path": "entry.resource", "min": 1, "type": [{"code": "Patient"}]},
            {"path": "entry.resource.birthDate", "min": 1},
        ],
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a/Patient/1", "resource": {**PATIENT, "birthDate": "2000"}}],
        },
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {"fullUrl": "http://a/Patient/1", "resource": {**PATIENT, "active": True}},
                {"fullUrl": "http://a/Basic/1", "resource": {"resourceType": "Basic", "code": CODE}},
            ],
        },
        [
            ("HS-PROFILE-REQUIRED", "Bundle.entry[0].resource.birthDate"),
            ("HS-PROFILE-TYPE", "Bundle.entry[1].resource"),
            ("HS-PROFILE-REQUIRED", "Bundle.entry[1].resource.birthDate"),
        ],
    ),
    (
        "Patient",
        [{"path": "birthDate"}, {"path": "birthDate.extension", "min": 1}],
        {**PATIENT, "birthDate": "2000", "_birthDate": {"extension": [{"url": "u", "valueCode": "c"}]}},
        {**PATIENT, "birthDate": "2000"},
        [("HS-PROFILE-REQUIRED", "Patient.birthDate.extension")],
    ),
]


@pytest.mark.parametrize(
    ("type_name", "elements", "right", "wrong", "expected"),
    [pytest.param(*case, id=f"{at}-{case[4][0][0]}-{case[4][0][1]}") for at, case in enumerate(CASES)],
)
def test_an_element_is_held_to_what_the_profile_says(
    type_name: str, elements: list[Json], right: Json, wrong: Json, expected: list[tuple[str, str]]
) -> None:
    definition = profile(type_name, *elements)
    assert issues_of(right, definition) == []
    found = issues_of(wrong, definition)
    assert told(found) == expected
    assert all(issue.severity == "error" and "expected" in issue.diagnostics for issue in found)


def test_an_issue_names_the_profile_with_its_version_and_the_element() -> None:
    definition = profile("Patient", {"path": "name", "min": 1}, version="2.0")
    (issue,) = issues_of({**PATIENT, "active": True}, definition)
    assert issue.diagnostics == f"Found no name; expected at least 1, by {BASE}p|2.0 (Patient.name)."
    assert issue.as_json()["details"]["coding"] == [
        {"system": "urn:healthsphere:message", "code": "HS-PROFILE-REQUIRED"},
        {"system": f"{BASE}p", "version": "2.0", "code": "Patient.name"},
    ]


def test_an_invariant_names_its_key_what_was_found_and_its_words() -> None:
    definition = profile("Patient", {"path": "contact", **rule("x-1", "relationship.exists() or name.text = 'x'")})
    (issue,) = issues_of({**PATIENT, "contact": [{"name": {"text": "n"}}]}, definition)
    assert issue.rule == (f"{BASE}p", "x-1")
    assert issue.diagnostics.startswith("Found no relationship, name with 1 members; expected as As it should be (")


def test_an_invariant_of_severity_warning_is_a_warning() -> None:
    definition = profile("Patient", {"path": "contact", **rule("x-1", "relationship.exists()", "warning")})
    (issue,) = issues_of({**PATIENT, "contact": [{"name": {"text": "n"}}]}, definition)
    assert issue.severity == "warning"


@pytest.mark.parametrize("expression", ["nonsense(", "name.unknownFunction()", "1 / 'x' = 2"])
def test_an_invariant_that_cannot_be_evaluated_is_told_and_no_error(expression: str) -> None:
    definition = profile("Patient", {"path": "contact", **rule("x-1", expression)})
    (issue,) = issues_of({**PATIENT, "contact": [{"name": {"text": "n"}}]}, definition)
    assert (issue.key, issue.severity) == ("HS-PROFILE-UNCHECKED", "information")
    assert "x-1" in issue.diagnostics


def test_invariants_of_the_base_type_are_not_asked_again() -> None:
    definition = profile(
        "Patient",
        {
            "path": "contact",
            "constraint": [
                {
                    "key": "pat-1",
                    "severity": "error",
                    "human": "x",
                    "expression": "name.exists() or telecom.exists() or address.exists() or organization.exists()",
                },
                {"key": "ele-1", "severity": "error", "human": "x", "expression": "false"},
            ],
        },
    )
    assert issues_of({**PATIENT, "contact": [{"name": {"text": "n"}}]}, definition) == []


def bound(strength: str, url: str = "http://e.example/ValueSet/v") -> Json:
    return profile("Observation", {"path": "code", "binding": {"strength": strength, "valueSet": url}})


@pytest.mark.parametrize(
    ("strength", "severity"), [("required", "error"), ("extensible", "warning"), ("preferred", "information")]
)
def test_a_binding_is_as_strict_as_it_says(strength: str, severity: str) -> None:
    held = value_set("v", ("http://c", "b"), ("http://c", "a"))
    assert issues_of(OBSERVATION, bound(strength), held) == []
    (issue,) = issues_of(
        {**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "z"}]}}, bound(strength), held
    )
    assert (issue.key, issue.severity, issue.expression) == ("HS-PROFILE-BINDING", severity, "Observation.code")
    assert "http://c|z" in issue.diagnostics
    assert "http://c|a | http://c|b" in issue.diagnostics


def test_an_example_binding_binds_nobody() -> None:
    other = {**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "z"}]}}
    assert issues_of(other, bound("example"), value_set("v", ("http://c", "a"))) == []


@pytest.mark.parametrize(("strength", "count"), [("required", 1), ("extensible", 0), ("preferred", 0)])
def test_text_alone_is_no_code_where_one_is_required(strength: str, count: int) -> None:
    text = {**OBSERVATION, "code": {"text": "x"}}
    assert len(issues_of(text, bound(strength), value_set("v", ("http://c", "a")))) == count


@pytest.mark.parametrize("url", ["http://e.example/ValueSet/unknown", "http://hl7.org/fhir/ValueSet/observation-codes"])
def test_a_value_set_whose_codes_are_not_known_is_told_as_not_checked(url: str) -> None:
    coded = {**OBSERVATION, "code": {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}}
    (issue,) = issues_of(coded, bound("required", url))
    assert (issue.key, issue.severity) == ("HS-PROFILE-UNCHECKED", "information")
    assert url in issue.diagnostics


@pytest.mark.parametrize(("strength", "severity"), [("required", "error"), ("extensible", "warning")])
def test_what_is_known_of_a_value_set_may_tell_enough(strength: str, severity: str) -> None:
    url = "http://hl7.org/fhir/ValueSet/observation-codes"  # all of LOINC, and nothing else
    (issue,) = issues_of(OBSERVATION, bound(strength, url))
    assert (issue.key, issue.severity) == ("HS-PROFILE-BINDING", severity)
    partly = value_set("v", ("http://c", "a"))
    partly["compose"]["include"].append(
        {"system": "http://unknown", "filter": [{"property": "p", "op": "=", "value": "x"}]}
    )
    assert issues_of(OBSERVATION, bound(strength), partly) == []
    foreign = {**OBSERVATION, "code": {"coding": [{"system": "http://unknown", "code": "b"}]}}
    assert [issue.key for issue in issues_of(foreign, bound(strength), partly)] == ["HS-PROFILE-UNCHECKED"]


@pytest.mark.parametrize(
    ("verdict", "keys"), [(True, []), (False, ["HS-PROFILE-BINDING"]), (None, ["HS-PROFILE-UNCHECKED"])]
)
def test_what_is_not_known_here_is_asked_elsewhere(verdict: bool | None, keys: list[str]) -> None:
    class Elsewhere:
        def __init__(self) -> None:
            self.asked: list[tuple[str, str | None, str]] = []

        async def member_of(self, value_set: str, system: str | None, code: str) -> bool | None:
            self.asked.append((value_set, system, code))
            return verdict

    elsewhere, url = Elsewhere(), "http://e.example/ValueSet/unknown"
    held = Memory([bound("required", url)])
    validator = ProfileValidator(registry(), terminology(), canonical, held, elsewhere)
    issues = asyncio.run(validator.issues_of(OBSERVATION, [f"{BASE}p"]))
    assert [issue.key for issue in issues] == keys
    assert elsewhere.asked == [(url, "http://c", "a")]


def test_stored_value_sets_may_draw_on_others_and_on_stored_code_systems() -> None:
    outer = value_set("v")
    outer["compose"] = {"include": [{"valueSet": ["http://e.example/ValueSet/w"]}, {"system": "http://e.example/cs"}]}
    system = {
        "resourceType": "CodeSystem",
        "id": "cs",
        "url": "http://e.example/cs",
        "status": "active",
        "content": "complete",
        "concept": [{"code": "one"}, {"code": "two"}],
    }
    held = (bound("required"), outer, value_set("w", ("http://c", "a")), system)
    assert issues_of(OBSERVATION, *held) == []
    assert (
        issues_of({**OBSERVATION, "code": {"coding": [{"system": "http://e.example/cs", "code": "two"}]}}, *held) == []
    )
    (issue,) = issues_of({**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "x"}]}}, *held)
    assert issue.key == "HS-PROFILE-BINDING"


def test_a_maximum_value_set_binds_as_a_required_one() -> None:
    definition = bound("preferred")
    definition["snapshot"]["element"][1]["binding"]["extension"] = [
        {
            "url": "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet",
            "valueCanonical": "http://e.example/ValueSet/most",
        }
    ]
    held = (definition, value_set("v", ("http://c", "a")), value_set("most", ("http://c", "a"), ("http://c", "b")))
    assert issues_of(OBSERVATION, *held) == []
    other = issues_of({**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "b"}]}}, *held)
    assert [issue.severity for issue in other] == ["information"]
    neither = issues_of({**OBSERVATION, "code": {"coding": [{"system": "http://c", "code": "z"}]}}, *held)
    assert sorted(issue.severity for issue in neither) == ["error", "information"]


def test_what_the_profile_must_support_may_be_missing() -> None:
    assert issues_of({**PATIENT, "active": True}, profile("Patient", {"path": "name", "mustSupport": True})) == []


def test_the_type_of_a_profile_is_that_of_the_resource() -> None:
    (issue,) = issues_of({"resourceType": "Basic", "code": CODE}, profile("Patient", {"path": "name", "min": 1}))
    assert (issue.key, issue.expression) == ("HS-PROFILE-TYPE", "Basic")


@pytest.mark.parametrize(("name", "count"), [("Observation", 0), ("DomainResource", 0), ("Patient", 1)])
def test_a_type_of_the_specification_is_a_profile_too(name: str, count: int) -> None:
    found = issues_of(OBSERVATION, asked=[TYPES + name])
    assert [issue.key for issue in found] == ["HS-PROFILE-TYPE"] * count


def test_a_datatype_is_held_to_the_profile_that_the_element_names() -> None:
    part = profile("Quantity", {"path": "unit", "min": 1}, name="unit")
    whole = profile("Observation", {"path": "value[x]", "type": [{"code": "Quantity", "profile": [part["url"]]}]})
    assert issues_of({**OBSERVATION, "valueQuantity": KG}, whole, part) == []
    (issue,) = issues_of({**OBSERVATION, "valueQuantity": {"value": 1}}, whole, part)
    assert (issue.expression, issue.rule) == ("Observation.value.unit", (f"{BASE}unit", "Quantity.unit"))
    (unknown,) = issues_of({**OBSERVATION, "valueQuantity": KG}, whole)
    assert (unknown.key, unknown.severity) == ("HS-PROFILE-UNCHECKED", "information")
    assert part["url"] in unknown.diagnostics


def test_of_several_profiles_of_a_type_one_is_enough() -> None:
    unit = profile("Quantity", {"path": "unit", "min": 1}, name="unit")
    code = profile("Quantity", {"path": "code", "min": 1}, name="code")
    types = [{"code": "Quantity", "profile": [unit["url"], code["url"]]}]
    whole = profile("Observation", {"path": "value[x]", "type": types})
    assert issues_of({**OBSERVATION, "valueQuantity": {"value": 1, "unit": "x"}}, whole, unit, code) == []
    (issue,) = issues_of({**OBSERVATION, "valueQuantity": {"value": 1}}, whole, unit, code)
    assert issue.key == "HS-PROFILE-TYPE"


def test_a_target_profile_that_is_not_held_may_be_of_any_type() -> None:
    types = [{"code": "Reference", "targetProfile": ["http://e.example/unknown"]}]
    assert (
        issues_of(
            {**OBSERVATION, "subject": {"reference": "Group/1"}},
            profile("Observation", {"path": "subject", "type": types}),
        )
        == []
    )


def test_a_target_profile_that_is_held_says_its_type() -> None:
    target = profile("Patient", {"path": "name", "min": 1}, name="target")
    types = [{"code": "Reference", "targetProfile": [target["url"]]}]
    whole = profile("Observation", {"path": "subject", "type": types})
    assert issues_of({**OBSERVATION, "subject": {"reference": "Patient/1"}}, whole, target) == []
    (issue,) = issues_of({**OBSERVATION, "subject": {"reference": "Group/1"}}, whole, target)
    assert issue.key == "HS-PROFILE-TARGET"


def test_conforms_to_in_an_invariant_asks_other_profiles() -> None:
    other = profile("Patient", {"path": "name", "min": 1}, name="other")
    whole = profile("Patient", {"path": "id", **rule("x-1", f"%resource.conformsTo('{other['url']}')")})
    resource: Json = {**PATIENT, "id": "a"}
    assert issues_of({**resource, "name": [{"family": "x"}]}, whole, other) == []
    assert [issue.rule for issue in issues_of(resource, whole, other)] == [(f"{BASE}p", "x-1")]


def test_member_of_in_an_invariant_asks_stored_value_sets() -> None:
    whole = profile("Observation", {"path": "code", **rule("x-1", "memberOf('http://e.example/ValueSet/v')")})
    assert issues_of(OBSERVATION, whole, value_set("v", ("http://c", "a"))) == []
    assert [issue.rule for issue in issues_of(OBSERVATION, whole, value_set("v", ("http://c", "b")))] == [
        (f"{BASE}p", "x-1")
    ]


def test_an_invariant_that_asks_for_its_own_profile_ends() -> None:
    whole = profile(
        "Patient", {"path": "name", "min": 1}, {"path": "active", **rule("x-1", f"%resource.conformsTo('{BASE}p')")}
    )
    (issue,) = issues_of({**PATIENT, "active": True}, whole)
    assert issue.key == "HS-PROFILE-REQUIRED"
    assert issues_of({**PATIENT, "active": True, "name": [{"family": "x"}]}, whole) == []


def test_a_profile_that_asks_for_itself_ends() -> None:
    whole = profile(
        "Patient",
        {"path": "contained", "type": [{"code": "Patient", "profile": [f"{BASE}p"]}]},
        {"path": "name", "min": 1},
    )
    inner: Any = {"resourceType": "Patient", "id": "i", "link": [{"other": {"reference": "#"}, "type": "seealso"}]}
    resource = {**PATIENT, "contained": [inner], "link": [{"other": {"reference": "#i"}, "type": "seealso"}]}
    assert ("HS-PROFILE-REQUIRED", "Patient.contained[0].name") in told(issues_of(resource, whole))


def test_what_must_be_supported_and_is_not_there_is_told_when_it_is_asked_for() -> None:
    definition = profile(
        "Patient",
        {"path": "name", "mustSupport": True},
        {"path": "name.family", "mustSupport": True},
        {"path": "gender", "min": 1, "mustSupport": True},
    )
    resource = {"resourceType": "Patient", "name": [{"text": "x"}], "gender": "male"}
    validator = validator_of(definition)
    assert asyncio.run(validator.issues_of(resource, [f"{BASE}p"])) == []
    (issue,) = asyncio.run(validator.issues_of(resource, [f"{BASE}p"], support=True))
    assert (issue.key, issue.severity, issue.expression) == (
        "HS-PROFILE-SUPPORT",
        "information",
        "Patient.name[0].family",
    )


TARGETED = [{"path": "subject", "type": [{"code": "Reference", "targetProfile": [f"{BASE}named", TYPES + "Group"]}]}]


@pytest.mark.parametrize(
    ("patient", "keys"),
    [({"name": [{"family": "x"}]}, []), ({"gender": "male"}, ["HS-PROFILE-TARGET"])],
)
def test_what_a_reference_leads_to_in_the_same_document_conforms_to_a_target_profile(
    patient: Json, keys: list[str]
) -> None:
    definitions = (profile("Observation", *TARGETED), profile("Patient", {"path": "name", "min": 1}, name="named"))
    contained = {**OBSERVATION, "contained": [{**PATIENT, "id": "a", **patient}], "subject": {"reference": "#a"}}
    found = issues_of(contained, *definitions)
    assert [issue.key for issue in found] == keys
    assert all(f"{BASE}named" in issue.diagnostics and issue.expression == "Observation.subject" for issue in found)
    claiming = {**OBSERVATION, "meta": {"profile": [f"{BASE}p"]}, "subject": {"reference": "Patient/a"}}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": "http://a/Observation/o", "resource": claiming},
            {"fullUrl": "http://a/Patient/a", "resource": {**PATIENT, "id": "a", **patient}},
        ],
    }
    found = asyncio.run(validator_of(*definitions).issues_of(bundle))
    assert [issue.key for issue in found] == keys


def test_a_type_among_the_targets_asks_for_nothing_more_and_what_is_elsewhere_is_not_looked_at() -> None:
    named = profile("Patient", {"path": "name", "min": 1}, name="named")
    types = [{"code": "Reference", "targetProfile": [f"{BASE}named", TYPES + "Patient"]}]
    contained = {**OBSERVATION, "contained": [{**PATIENT, "id": "a", "active": True}], "subject": {"reference": "#a"}}
    assert issues_of(contained, profile("Observation", {"path": "subject", "type": types}), named) == []
    elsewhere = {**OBSERVATION, "subject": {"reference": "Patient/a"}}
    assert issues_of(elsewhere, profile("Observation", *TARGETED), named) == []


def test_resources_that_refer_to_each_other_are_looked_at_once() -> None:
    to_patient = {"path": "subject", "type": [{"code": "Reference", "targetProfile": [f"{BASE}linked"]}]}
    link = [{"code": "Reference", "targetProfile": [f"{BASE}linked"]}]
    linked = profile("Patient", {"path": "link"}, {"path": "link.other", "type": link}, name="linked")
    entries = [
        {
            "resourceType": "Patient",
            "id": str(at),
            "link": [{"other": {"reference": f"Patient/{(at + 1) % 300}"}, "type": "seealso"}],
        }
        for at in range(300)
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "fullUrl": "http://a/Observation/o",
                "resource": {**OBSERVATION, "meta": {"profile": [f"{BASE}p"]}, "subject": {"reference": "Patient/0"}},
            },
            *(
                {
                    "fullUrl": f"http://a/Patient/{one['id']}",
                    "resource": {**one, "meta": {"profile": [f"{BASE}linked"]}},
                }
                for one in entries
            ),
        ],
    }
    assert asyncio.run(validator_of(profile("Observation", to_patient), linked).issues_of(bundle)) == []
