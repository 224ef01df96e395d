"""What code systems and value sets say, on the digest and on small ones made for the purpose."""

from typing import Any

import pytest

from profiles.registry import registry
from profiles.terminology import Terminology, terminology

VS = "http://hl7.org/fhir/ValueSet/"
SYSTEM = "http://example.org/animals"
ANIMALS: dict[str, Any] = {
    "url": SYSTEM,
    "content": "complete",
    "caseSensitive": True,
    "concepts": [
        [
            "_animal",
            "Animal",
            [["mammal", "Mammal", [["cat", "Cat"], ["dog", "Dog"]]], ["bird", "Bird", [["owl", "Owl"]]]],
        ],
        ["bat", "Bat"],
    ],
    "parents": {"bat": ["mammal"]},
    "abstract": ["_animal"],
}


def made(*value_sets: dict[str, Any], **more: Any) -> Terminology:
    return Terminology({"codeSystems": [{**ANIMALS, **more}], "valueSets": list(value_sets)})


def codes_of(include: list[dict[str, Any]], exclude: list[dict[str, Any]] | None = None) -> set[str] | None:
    row: dict[str, Any] = {"url": "urn:vs", "include": include}
    if exclude:
        row["exclude"] = exclude
    pairs = made(row).expansion("urn:vs")
    return None if pairs is None else {code for _, code in pairs}


def filtered(name: str, operator: str, value: str) -> set[str] | None:
    return codes_of([{"system": SYSTEM, "filter": [{"property": name, "op": operator, "value": value}]}])


def test_a_value_set_of_a_whole_system_has_its_codes() -> None:
    gender = "http://hl7.org/fhir/administrative-gender"
    assert terminology().expansion(f"{VS}administrative-gender") == {
        (gender, code) for code in ("male", "female", "other", "unknown")
    }


@pytest.mark.parametrize("suffix", ["", "|4.0.1"])
def test_canonical_urls_may_carry_a_version(suffix: str) -> None:
    assert len(terminology().expansion(f"{VS}observation-status{suffix}") or ()) == 8
    assert terminology().is_case_sensitive(f"http://hl7.org/fhir/administrative-gender{suffix}")
    assert terminology().descendants(f"http://hl7.org/fhir/administrative-gender{suffix}", "male") == {"male"}


def test_a_value_set_may_import_others() -> None:
    pairs = terminology().expansion(f"{VS}all-types") or frozenset()
    assert {code for _, code in pairs} >= {"Patient", "HumanName", "string", "Any"}


@pytest.mark.parametrize("name", ["ucum-units", "mimetypes", "currencies", "no-such-value-set", "procedure-code"])
def test_a_value_set_that_cannot_be_enumerated_has_no_expansion(name: str) -> None:
    assert terminology().expansion(f"{VS}{name}") is None


def test_every_required_binding_of_r4_but_the_open_ones_can_be_enumerated() -> None:
    bound = {
        element.binding
        for definition in registry().types.values()
        for element in definition.elements.values()
        if element.binding_strength == "required" and element.binding
    }
    empty = {url for url in bound if not terminology().expansion(url)}
    assert empty == {f"{VS}mimetypes", f"{VS}ucum-units", f"{VS}currencies", "http://loinc.org/vs/LL379-9"}


def test_headings_are_no_members_unless_listed() -> None:
    assert codes_of([{"system": SYSTEM}]) == {"mammal", "cat", "dog", "bird", "owl", "bat"}
    assert codes_of([{"system": SYSTEM, "concepts": [["_animal", ""], ["cat", ""]]}]) == {"_animal", "cat"}


def test_listed_concepts_need_no_held_system() -> None:
    assert codes_of([{"system": "http://loinc.org", "concepts": [["8867-4", ""]]}]) == {"8867-4"}


@pytest.mark.parametrize(
    ("name", "operator", "value", "expected"),
    [
        ("concept", "is-a", "mammal", {"mammal", "cat", "dog", "bat"}),
        ("concept", "descendent-of", "mammal", {"cat", "dog", "bat"}),
        ("concept", "is-not-a", "mammal", {"bird", "owl"}),
        ("concept", "generalizes", "owl", {"owl", "bird"}),
        ("parent", "=", "mammal", {"cat", "dog", "bat"}),
        ("code", "=", "owl", {"owl"}),
        ("code", "in", "owl,cat", {"owl", "cat"}),
        ("code", "not-in", "owl,cat", {"mammal", "dog", "bird", "bat"}),
        ("display", "regex", "B.*", {"bird", "bat"}),
        ("child", "exists", "true", {"mammal", "bird"}),
        ("child", "exists", "false", {"cat", "dog", "owl", "bat"}),
        ("colour", "=", "black", None),
        ("code", "regex", "(", None),
        ("code", "sounds-like", "cat", None),
        ("concept", "is-a", "unicorn", set()),
    ],
)
def test_filters(name: str, operator: str, value: str, expected: set[str] | None) -> None:
    assert filtered(name, operator, value) == expected


def test_excludes_take_away() -> None:
    mammals = [{"system": SYSTEM, "filter": [{"property": "concept", "op": "is-a", "value": "mammal"}]}]
    assert codes_of([{"system": SYSTEM}], mammals) == {"bird", "owl"}
    assert codes_of([{"system": SYSTEM}], [{"system": "http://snomed.info/sct"}]) is None


def test_system_and_imports_in_one_include_must_all_hold() -> None:
    few = {"url": "urn:few", "include": [{"system": SYSTEM, "concepts": [["cat", ""], ["owl", ""]]}]}
    cats = {"url": "urn:cats", "include": [{"system": SYSTEM, "concepts": [["cat", ""]]}]}
    both = {"url": "urn:both", "include": [{"system": SYSTEM, "valueSet": ["urn:few", "urn:cats|1"]}]}
    assert made(few, cats, both).expansion("urn:both") == {(SYSTEM, "cat")}


def test_value_sets_that_include_each_other_have_no_expansion_and_end() -> None:
    one = {"url": "urn:one", "include": [{"valueSet": ["urn:two"]}]}
    two = {"url": "urn:two", "include": [{"valueSet": ["urn:one"]}]}
    assert made(one, two).expansion("urn:one") is None


def test_a_hierarchy_with_a_cycle_ends() -> None:
    looped = made(parents={"mammal": ["cat"], "bat": ["mammal"]})
    assert looped.descendants(SYSTEM, "cat") == {"cat", "mammal", "dog", "bat"}


def test_ancestors_follow_nesting_and_stated_parents() -> None:
    assert made().ancestors(SYSTEM, "bat") == {"bat", "mammal", "_animal"}
    assert made().ancestors(SYSTEM, "unicorn") == frozenset()
    assert made().ancestors("http://loinc.org", "8867-4") is None


@pytest.mark.parametrize("content", ["not-present", "fragment", "example", "supplement"])
def test_a_system_that_is_not_held_whole_has_no_codes_to_offer(content: str) -> None:
    incomplete = made({"url": "urn:vs", "include": [{"system": SYSTEM}]}, content=content)
    assert incomplete.expansion("urn:vs") is None
    assert incomplete.descendants(SYSTEM, "cat") is None


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("http://unitsofmeasure.org", True),
        ("http://hl7.org/fhir/observation-status", True),
        ("http://terminology.hl7.org/CodeSystem/v3-ActCode", True),
        ("http://terminology.hl7.org/CodeSystem/v2-0203", False),
        ("http://snomed.info/sct", False),
        ("urn:oid:1.2.3", False),
        ("", False),
    ],
)
def test_case_sensitivity(system: str, expected: bool) -> None:
    assert terminology().is_case_sensitive(system) is expected
