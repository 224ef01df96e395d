"""Slices: told apart by each kind of discriminator, counted, ordered, closed or open, and held to what they say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.validation.profile.holding import BASE, TYPES, Json, issues_of, profile, sliced, told, value_set

A = {"system": "http://c", "code": "a"}
B = {"system": "http://c", "code": "b"}
C = {"system": "http://c", "code": "c"}
PATIENT: Json = {"resourceType": "Patient"}
OBSERVATION: Json = {"resourceType": "Observation", "status": "final", "code": {"coding": [A]}}


def identifiers(*systems: str) -> Json:
    return {**PATIENT, "identifier": [{"system": system, "value": "1"} for system in systems]}


def by_system(rules: str = "open", *, ordered: bool = False, least: int = 0, most: str = "*") -> Json:
    """Identifiers sliced by their system: `a` and `b`."""
    rows: list[Json] = [{"path": "identifier", **sliced(("value", "system"), rules=rules, ordered=ordered)}]
    for name in ("a", "b"):
        rows.append({"path": "identifier", "sliceName": name, "min": least, "max": most})
        rows.append({"path": "identifier.system", "fixedUri": f"http://{name}"})
    return profile("Patient", *rows)


def test_items_of_no_slice_are_right_in_open_slicing() -> None:
    assert issues_of(identifiers("http://a", "http://z", "http://b"), by_system()) == []


def test_items_of_no_slice_are_wrong_in_closed_slicing() -> None:
    found = issues_of(identifiers("http://a", "http://z"), by_system("closed"))
    assert told(found) == [("HS-PROFILE-SLICE", "Patient.identifier[1]")]
    assert "a | b" in found[0].diagnostics


def test_items_of_no_slice_stand_at_the_end_where_it_is_open_at_the_end() -> None:
    assert issues_of(identifiers("http://a", "http://b", "http://z"), by_system("openAtEnd")) == []
    found = issues_of(identifiers("http://a", "http://z", "http://b"), by_system("openAtEnd"))
    assert told(found) == [("HS-PROFILE-SLICE", "Patient.identifier[2]")]


def test_ordered_slices_come_in_their_order() -> None:
    definition = by_system(ordered=True)
    assert issues_of(identifiers("http://a", "http://a", "http://z", "http://b"), definition) == []
    found = issues_of(identifiers("http://b", "http://a"), definition)
    assert told(found) == [("HS-PROFILE-SLICE", "Patient.identifier[1]")]


def test_each_slice_has_its_own_number() -> None:
    definition = by_system(least=1, most="1")
    assert issues_of(identifiers("http://a", "http://b"), definition) == []
    found = issues_of(identifiers("http://a", "http://a"), definition)
    assert told(found) == [("HS-PROFILE-MAX", "Patient.identifier"), ("HS-PROFILE-REQUIRED", "Patient.identifier")]
    assert [issue.rule for issue in found] == [
        (f"{BASE}p", "Patient.identifier:a"),
        (f"{BASE}p", "Patient.identifier:b"),
    ]
    assert len(issues_of({**PATIENT, "active": True}, definition)) == 2


def test_a_slice_is_held_to_its_members() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("value", "system"))},
        {"path": "identifier", "sliceName": "a"},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier.value", "min": 1},
    )
    resource = {**PATIENT, "identifier": [{"system": "http://b"}, {"system": "http://a"}]}
    assert told(issues_of(resource, definition)) == [("HS-PROFILE-REQUIRED", "Patient.identifier[1].value")]


def categories(*codings: Json) -> Json:
    return {**OBSERVATION, "category": [{"coding": [coding]} for coding in codings]}


#: How the slice `a` of `category` says what it is: elements below it, and the discriminators.
TELLING: dict[str, tuple[list[tuple[str, str]], Json, list[Json]]] = {
    "a pattern of the slice": ([("pattern", "$this")], {"patternCodeableConcept": {"coding": [A]}}, []),
    "a value of the slice": ([("value", "$this")], {"patternCodeableConcept": {"coding": [A]}}, []),
    "fixed values below": (
        [("value", "coding.code"), ("value", "coding.system")],
        {},
        [
            {"path": "category.coding", "min": 1},
            {"path": "category.coding.system", "fixedUri": "http://c"},
            {"path": "category.coding.code", "fixedCode": "a"},
        ],
    ),
    "a part of the slice's pattern": ([("value", "coding.code")], {"patternCodeableConcept": {"coding": [A]}}, []),
    "fixed values below the discriminating element": (
        [("value", "$this")],
        {},
        [
            {"path": "category.coding", "min": 1},
            {"path": "category.coding.system", "fixedUri": "http://c"},
            {"path": "category.coding.code", "fixedCode": "a"},
        ],
    ),
    "a required slice of the discriminating element": (
        [("value", "coding.code")],
        {},
        [
            {"path": "category.coding", **sliced(("value", "code"))},
            {"path": "category.coding", "sliceName": "x", "min": 1},
            {"path": "category.coding.code", "fixedCode": "a"},
        ],
    ),
    "a value set": (
        [("value", "$this")],
        {"binding": {"strength": "required", "valueSet": "http://e.example/ValueSet/v"}},
        [],
    ),
}


@pytest.mark.parametrize("name", TELLING)
def test_a_slice_is_told_by(name: str) -> None:
    discriminators, own, below = TELLING[name]
    definition = profile(
        "Observation",
        {"path": "category", **sliced(*discriminators)},
        {"path": "category", "sliceName": "a", "min": 1, "max": "1", **own},
        *below,
    )
    held = value_set("v", ("http://c", "a"))
    assert issues_of(categories(B, A), definition, held) == []
    assert told(issues_of(categories(B), definition, held)) == [("HS-PROFILE-REQUIRED", "Observation.category")]
    assert told(issues_of(categories(A, A), definition, held)) == [("HS-PROFILE-MAX", "Observation.category")]


def test_a_slice_is_told_by_the_type_of_its_value() -> None:
    definition = profile(
        "Observation",
        {"path": "value[x]", **sliced(("type", "$this"), rules="closed")},
        {"path": "value[x]", "sliceName": "valueQuantity", "type": [{"code": "Quantity"}]},
        {"path": "value[x].unit", "min": 1},
    )
    assert issues_of({**OBSERVATION, "valueQuantity": {"value": 1, "unit": "x"}}, definition) == []
    found = issues_of({**OBSERVATION, "valueQuantity": {"value": 1}}, definition)
    assert told(found) == [("HS-PROFILE-REQUIRED", "Observation.value.unit")]
    assert told(issues_of({**OBSERVATION, "valueString": "x"}, definition)) == [
        ("HS-PROFILE-SLICE", "Observation.value")
    ]


def test_the_slices_of_a_choice_are_told_by_type_without_a_word() -> None:
    definition = profile(
        "Observation",
        {"path": "value[x]"},
        {"path": "value[x]", "sliceName": "valueQuantity", "min": 1, "type": [{"code": "Quantity"}]},
    )
    assert issues_of({**OBSERVATION, "valueQuantity": {"value": 1}}, definition) == []
    assert told(issues_of({**OBSERVATION, "valueString": "x"}, definition)) == [
        ("HS-PROFILE-REQUIRED", "Observation.value")
    ]


def test_a_slice_is_told_by_what_is_there() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("exists", "period"))},
        {"path": "identifier", "sliceName": "past", "max": "1"},
        {"path": "identifier.period", "min": 1},
        {"path": "identifier", "sliceName": "present", "min": 1, "max": "1"},
        {"path": "identifier.period", "max": "0"},
    )
    one, other = {"value": "1", "period": {"end": "2020"}}, {"value": "2"}
    assert issues_of({**PATIENT, "identifier": [one, other]}, definition) == []
    assert told(issues_of({**PATIENT, "identifier": [one]}, definition)) == [
        ("HS-PROFILE-REQUIRED", "Patient.identifier")
    ]
    assert told(issues_of({**PATIENT, "identifier": [other, other]}, definition)) == [
        ("HS-PROFILE-MAX", "Patient.identifier")
    ]


def test_a_slice_is_told_by_a_value_or_by_its_absence() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("value", "system"))},
        {"path": "identifier", "sliceName": "a"},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier", "sliceName": "bare", "min": 1, "max": "1"},
        {"path": "identifier.system", "max": "0"},
    )
    assert issues_of({**PATIENT, "identifier": [{"value": "1"}, {"system": "http://z"}]}, definition) == []
    assert told(issues_of(identifiers("http://a", "http://z"), definition)) == [
        ("HS-PROFILE-REQUIRED", "Patient.identifier")
    ]


def test_a_slice_is_told_by_the_type_of_a_resource() -> None:
    definition = profile(
        "Bundle",
        {"path": "entry", **sliced(("type", "resource"), rules="closed")},
        {"path": "entry", "sliceName": "patient", "min": 1, "max": "1"},
        {"path": "entry.resource", "min": 1, "type": [{"code": "Patient"}]},
        {"path": "entry", "sliceName": "others"},
        {"path": "entry.resource", "min": 1, "type": [{"code": "Observation"}, {"code": "Basic"}]},
    )

    def bundle(*resources: Json) -> Json:
        entries = [{"fullUrl": f"http://a/{at}", "resource": one} for at, one in enumerate(resources)]
        return {"resourceType": "Bundle", "type": "collection", "entry": entries}

    assert issues_of(bundle({**PATIENT, "active": True}, OBSERVATION), definition) == []
    found = issues_of(bundle(OBSERVATION, {"resourceType": "Group", "type": "person", "actual": False}), definition)
    assert told(found) == [("HS-PROFILE-SLICE", "Bundle.entry[1]"), ("HS-PROFILE-REQUIRED", "Bundle.entry")]


def test_a_slice_is_told_by_the_type_behind_a_reference() -> None:
    definition = profile(
        "Observation",
        {"path": "performer", **sliced(("type", "resolve()"), rules="closed")},
        {
            "path": "performer",
            "sliceName": "practitioner",
            "max": "1",
            "type": [{"code": "Reference", "targetProfile": [TYPES + "Practitioner"]}],
        },
    )

    def performed(*references: str) -> Json:
        return {**OBSERVATION, "performer": [{"reference": reference} for reference in references]}

    assert issues_of(performed("Practitioner/1"), definition) == []
    assert told(issues_of(performed("Patient/1"), definition)) == [("HS-PROFILE-SLICE", "Observation.performer[0]")]
    assert told(issues_of(performed("Practitioner/1", "Practitioner/2"), definition)) == [
        ("HS-PROFILE-MAX", "Observation.performer")
    ]
    # What it leads to is not known, so nothing is said of it.
    assert issues_of(performed("urn:uuid:c757873d-ec9a-4326-a141-556f43239520"), definition) == []
    contained = {"resourceType": "Practitioner", "id": "p", "active": True}
    assert issues_of({**performed("#p"), "contained": [contained]}, definition) == []


def test_a_slice_is_told_by_a_value_behind_a_reference() -> None:
    target = profile("Observation", {"path": "code", "patternCodeableConcept": {"coding": [A]}}, name="target")
    definition = profile(
        "DiagnosticReport",
        {"path": "result", **sliced(("value", "resolve().code"), rules="closed")},
        {
            "path": "result",
            "sliceName": "a",
            "min": 1,
            "type": [{"code": "Reference", "targetProfile": [target["url"]]}],
        },
    )

    def report(code: Json) -> Json:
        inner = {**OBSERVATION, "id": "o", "code": {"coding": [code]}}
        return {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": {"text": "x"},
            "contained": [inner],
            "result": [{"reference": "#o"}],
        }

    assert issues_of(report(A), definition, target) == []
    assert told(issues_of(report(B), definition, target)) == [
        ("HS-PROFILE-SLICE", "DiagnosticReport.result[0]"),
        ("HS-PROFILE-REQUIRED", "DiagnosticReport.result"),
    ]
    elsewhere = {**report(A), "result": [{"reference": "Observation/1"}]}
    del elsewhere["contained"]
    assert issues_of(elsewhere, definition, target) == []


def test_a_slice_is_told_by_the_profile_it_conforms_to() -> None:
    part = profile("HumanName", {"path": "family", "min": 1}, name="part")
    definition = profile(
        "Patient",
        {"path": "name", **sliced(("profile", "$this"), rules="closed")},
        {"path": "name", "sliceName": "whole", "max": "1", "type": [{"code": "HumanName", "profile": [part["url"]]}]},
    )
    assert issues_of({**PATIENT, "name": [{"family": "x"}]}, definition, part) == []
    assert told(issues_of({**PATIENT, "name": [{"text": "x"}]}, definition, part)) == [
        ("HS-PROFILE-SLICE", "Patient.name[0]")
    ]
    assert told(issues_of({**PATIENT, "name": [{"family": "x"}] * 2}, definition, part)) == [
        ("HS-PROFILE-MAX", "Patient.name")
    ]


def extension(name: str, *elements: Json) -> Json:
    url = {"path": "url", "min": 1, "max": "1", "fixedUri": BASE + name}
    return profile("Extension", url, *elements, name=name)


def with_extensions(*extensions: Json) -> Json:
    return {**PATIENT, "extension": list(extensions)}


def test_an_extension_is_a_slice_held_to_its_definition() -> None:
    inner = extension("flag", {"path": "value[x]", "min": 1, "type": [{"code": "boolean"}]})
    definition = profile(
        "Patient",
        {"path": "extension", **sliced(("value", "url"))},
        {
            "path": "extension",
            "sliceName": "flag",
            "min": 1,
            "type": [{"code": "Extension", "profile": [inner["url"]]}],
        },
    )
    right, other = {"url": BASE + "flag", "valueBoolean": True}, {"url": "http://other", "valueCode": "x"}
    assert issues_of(with_extensions(other, right), definition, inner) == []
    assert told(issues_of(with_extensions(other), definition, inner)) == [("HS-PROFILE-REQUIRED", "Patient.extension")]
    wrong = with_extensions(other, {"url": BASE + "flag", "valueString": "true"})
    assert told(issues_of(wrong, definition, inner)) == [("HS-PROFILE-TYPE", "Patient.extension[1].value")]
    # An extension whose definition is not held is still found by its URL.
    found = issues_of(with_extensions(right), definition)
    assert [(issue.key, issue.severity) for issue in found] == [("HS-PROFILE-UNCHECKED", "information")]
    assert told(issues_of(with_extensions(other), definition)) == [("HS-PROFILE-REQUIRED", "Patient.extension")]


def test_extensions_within_extensions_are_slices() -> None:
    inner = extension(
        "pair",
        {"path": "extension", "min": 2, **sliced(("value", "url"), rules="closed")},
        {"path": "extension", "sliceName": "left", "min": 1, "max": "1"},
        {"path": "extension.url", "fixedUri": "left"},
        {"path": "extension.value[x]", "min": 1, "type": [{"code": "Coding"}]},
        {"path": "extension", "sliceName": "right", "min": 1, "max": "1"},
        {"path": "extension.url", "fixedUri": "right"},
    )
    definition = profile(
        "Patient",
        {"path": "extension", **sliced(("value", "url"))},
        {"path": "extension", "sliceName": "pair", "type": [{"code": "Extension", "profile": [inner["url"]]}]},
    )

    def pair(*parts: tuple[str, str, Any]) -> Json:
        inside = [{"url": url, key: value} for url, key, value in parts]
        return with_extensions({"url": BASE + "pair", "extension": inside})

    assert issues_of(pair(("left", "valueCoding", A), ("right", "valueCode", "x")), definition, inner) == []
    found = issues_of(pair(("left", "valueCode", "x"), ("middle", "valueCode", "x")), definition, inner)
    assert told(found) == [
        ("HS-PROFILE-SLICE", "Patient.extension[0].extension[1]"),
        ("HS-PROFILE-TYPE", "Patient.extension[0].extension[0].value"),
        ("HS-PROFILE-REQUIRED", "Patient.extension[0].extension"),
    ]


def test_a_discriminator_may_lead_through_an_extension() -> None:
    inner = extension("use", {"path": "value[x]", "min": 1, "type": [{"code": "code"}]})
    url = inner["url"]
    definition = profile(
        "Patient",
        {"path": "name", **sliced(("value", f"extension('{url}').value"))},
        {"path": "name", "sliceName": "stage", "min": 1, "max": "1"},
        {"path": "name.extension", **sliced(("value", "url"))},
        {"path": "name.extension", "sliceName": "use", "min": 1, "type": [{"code": "Extension", "profile": [url]}]},
        {"path": "name.extension.url", "fixedUri": url},
        {"path": "name.extension.value[x]", "fixedCode": "stage"},
    )
    stage = {"text": "x", "extension": [{"url": url, "valueCode": "stage"}]}
    other = {"text": "y", "extension": [{"url": url, "valueCode": "pen"}]}
    assert issues_of({**PATIENT, "name": [other, stage]}, definition, inner) == []
    assert told(issues_of({**PATIENT, "name": [other]}, definition, inner)) == [("HS-PROFILE-REQUIRED", "Patient.name")]


def test_slices_are_sliced_again() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("value", "system"))},
        {"path": "identifier", "sliceName": "a", **sliced(("value", "use"), rules="closed")},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier", "sliceName": "a/official", "min": 1, "max": "1"},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier.use", "fixedCode": "official"},
    )

    def used(*uses: str) -> Json:
        rows = [{"system": "http://a", "use": use} for use in uses]
        return {**PATIENT, "identifier": [{"system": "http://b", "use": "old"}, *rows]}

    assert issues_of(used("official"), definition) == []
    assert told(issues_of(used("official", "old"), definition)) == [("HS-PROFILE-SLICE", "Patient.identifier[2]")]
    assert told(issues_of(used("official", "official"), definition)) == [("HS-PROFILE-MAX", "Patient.identifier")]


def test_the_default_slice_takes_the_rest() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("value", "system"), rules="closed")},
        {"path": "identifier", "sliceName": "a"},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier", "sliceName": "@default"},
        {"path": "identifier.value", "min": 1},
    )
    assert issues_of({**PATIENT, "identifier": [{"system": "http://a"}, {"value": "x"}]}, definition) == []
    found = issues_of({**PATIENT, "identifier": [{"system": "http://z"}]}, definition)
    assert told(found) == [("HS-PROFILE-REQUIRED", "Patient.identifier[0].value")]


@pytest.mark.parametrize(
    "slicing",
    [{"slicing": {"rules": "closed", "description": "by hand"}}, sliced(("value", "nonsense("), rules="closed")],
)
def test_slices_that_nothing_tells_apart_are_told_as_not_checked(slicing: Json) -> None:
    definition = profile(
        "Patient", {"path": "identifier", **slicing}, {"path": "identifier", "sliceName": "a", "min": 1}
    )
    (issue,) = issues_of(identifiers("http://a"), definition)
    assert (issue.key, issue.severity) == ("HS-PROFILE-UNCHECKED", "information")


def test_a_value_set_that_is_not_known_decides_nothing() -> None:
    definition = profile(
        "Observation",
        {"path": "category", **sliced(("value", "$this"), rules="closed")},
        {
            "path": "category",
            "sliceName": "a",
            "min": 1,
            "binding": {"strength": "required", "valueSet": "http://e.example/ValueSet/unknown"},
        },
    )
    assert issues_of(categories(A), definition) == []


def test_what_the_element_and_its_slice_both_say_is_told_once() -> None:
    definition = profile(
        "Patient",
        {"path": "identifier", **sliced(("value", "system"))},
        {"path": "identifier.value", "min": 1},
        {"path": "identifier", "sliceName": "a"},
        {"path": "identifier.system", "fixedUri": "http://a"},
        {"path": "identifier.value", "min": 1},
    )
    (issue,) = issues_of({**PATIENT, "identifier": [{"system": "http://a"}]}, definition)
    assert issue.expression == "Patient.identifier[0].value"


def test_a_name_given_to_an_element_that_nothing_slices_is_no_slice() -> None:
    definition = profile("Patient", {"path": "birthDate", "sliceName": "Birth", "min": 1})
    assert issues_of({**PATIENT, "birthDate": "2000"}, definition) == []
    assert told(issues_of({**PATIENT, "active": True}, definition)) == [("HS-PROFILE-REQUIRED", "Patient.birthDate")]
