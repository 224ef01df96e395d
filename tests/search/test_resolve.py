"""Terminology modifiers become lists of codes, or an honest refusal.

Spec: https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.model.errors import InvalidError
from fhir_server.search.compile import filter_of
from fhir_server.search.parse import parse
from fhir_server.search.query import CodeSet, Comparison
from fhir_server.search.resolve import resolve
from fhir_server.terminology.searching import codes_of
from profiles.registry import registry
from profiles.terminology import terminology
from tests.terminology.given import Given

GENDERS = "http://hl7.org/fhir/administrative-gender"
OWN = "http://example.org/ValueSet/"
HELD: dict[str, dict[str, Any]] = {
    OWN + "listed": {"compose": {"include": [{"system": "urn:s", "concept": [{"code": "a"}, {"code": "b"}]}]}},
    OWN + "open": {"compose": {"include": [{"system": "http://loinc.org"}]}},
    OWN + "whole": {"compose": {"include": [{"system": GENDERS}], "exclude": [
        {"system": GENDERS, "concept": [{"code": "other"}]}]}},
    OWN + "imports": {"compose": {"include": [{"valueSet": [OWN + "listed", OWN + "part"]}]}},
    OWN + "part": {"compose": {"include": [{"system": "urn:s", "concept": [{"code": "b"}, {"code": "c"}]}]}},
    OWN + "loop": {"compose": {"include": [{"valueSet": [OWN + "loop"]}]}},
    OWN + "cut": {"compose": {"include": [{"system": "urn:t"}], "exclude": [
        {"system": "urn:t", "concept": [{"code": "x"}]}]}},
    OWN + "filtered": {"compose": {"include": [{"system": "urn:t", "filter": [
        {"property": "p", "op": "=", "value": "v"}]}]}},
    OWN + "expanded": {"expansion": {"total": 2, "contains": [
        {"system": "urn:s", "code": "a", "contains": [{"system": "urn:s", "code": "b"}]}]}},
    OWN + "cutshort": {"expansion": {"total": 9, "contains": [{"system": "urn:s", "code": "a"}]}},
    OWN + "empty": {},
}  # fmt: skip


CODES = codes_of(Given({"resourceType": "ValueSet", "url": url, **content} for url, content in HELD.items()))


def codes(resource_type: str, name: str, text: str) -> CodeSet:
    search = parse(resource_type, [(name, text)], registry(), strict=True, default_count=1, max_count=1)
    (predicate,) = asyncio.run(resolve(search, CODES)).predicates
    assert isinstance(predicate, Comparison)
    (value,) = predicate.values
    assert isinstance(value, CodeSet)
    return value


@pytest.mark.parametrize(
    ("name", "pairs"),
    [("listed", {("urn:s", "a"), ("urn:s", "b")}), ("imports", {("urn:s", "b")}),
     ("whole", {(GENDERS, "male"), (GENDERS, "female"), (GENDERS, "unknown")}),
     ("expanded", {("urn:s", "a"), ("urn:s", "b")})],
)  # fmt: skip
def test_a_stored_value_set_is_enumerated(name: str, pairs: set[tuple[str, str]]) -> None:
    assert codes("Patient", "gender:in", OWN + name) == CodeSet(frozenset(pairs))


def test_a_whole_code_system_that_is_not_held_is_asked_by_its_system_alone() -> None:
    assert codes("Observation", "code:in", OWN + "open") == CodeSet(frozenset(), frozenset(["http://loinc.org"]))


def test_a_value_set_of_the_specification_is_enumerated() -> None:
    value_set = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert (GENDERS, "male") in codes("Patient", "gender:in", value_set).codes
    search = parse("Patient", [("gender:not-in", value_set)], registry(), strict=True, default_count=1, max_count=1)
    resolved = asyncio.run(resolve(search, CODES))
    assert filter_of(resolved, terminology()).keys() == {"$nor", "d"}


@pytest.mark.parametrize("name", ["loop", "cut", "filtered", "cutshort", "empty", "unknown"])
def test_a_value_set_whose_codes_cannot_be_listed_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidError) as caught:
        codes("Observation", "code:in", OWN + name)
    (issue,) = caught.value.issues
    assert issue.code == "not-supported"
    assert OWN in issue.diagnostics


def test_below_takes_the_code_with_all_that_it_subsumes_and_above_all_that_subsume_it() -> None:
    system = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
    below = {code for _, code in codes("Encounter", "class:below", f"{system}|_ActEncounterCode").codes}
    assert {"_ActEncounterCode", "AMB", "IMP", "ACUTE"} <= below
    above = {code for _, code in codes("Encounter", "class:above", f"{system}|ACUTE").codes}
    assert {"ACUTE", "IMP", "_ActEncounterCode"} <= above


@pytest.mark.parametrize("text", ["http://snomed.info/sct|1", f"{GENDERS}|nonsense"])
def test_a_hierarchy_that_is_not_held_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="cannot be evaluated"):
        codes("Patient", "gender:below", text)
