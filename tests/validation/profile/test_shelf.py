"""What is compiled is kept until a definition changes; versions are chosen; what cannot be used is told by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fhir_server.model.errors import InvalidError, Issue
from fhir_server.search.ucum import canonical
from fhir_server.validation.profile import shelf as shelves
from fhir_server.validation.profile.definition import Structure
from fhir_server.validation.profile.validator import ProfileValidator
from profiles.registry import registry
from profiles.terminology import terminology
from tests.validation.profile.holding import BASE, TYPES, Json, Memory, profile, value_set

PATIENT: Json = {"resourceType": "Patient", "active": True}
OBSERVATION: Json = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://c", "code": "a"}]},
}


def made(memory: Memory) -> ProfileValidator:
    return ProfileValidator(registry(), terminology(), canonical, memory)


def ask(validator: ProfileValidator, resource: Json, *asked: str) -> Sequence[Issue]:
    return asyncio.run(validator.issues_of(resource, asked))


def test_a_second_validation_asks_only_whether_something_has_changed() -> None:
    memory = Memory([profile("Patient", {"path": "name", "min": 1})])
    validator = made(memory)
    ask(validator, PATIENT, f"{BASE}p")
    assert "read 1" in memory.asked
    shelf = validator._shelf
    memory.asked.clear()
    ask(validator, PATIENT, f"{BASE}p")
    assert memory.asked == ["stamps StructureDefinition"]
    assert validator._shelf is shelf


def test_a_changed_definition_is_in_force_at_once() -> None:
    memory = Memory([profile("Patient", {"path": "name", "min": 1})])
    validator = made(memory)
    assert len(ask(validator, PATIENT, f"{BASE}p")) == 1
    memory.put(profile("Patient", {"path": "name", "min": 0}))
    assert ask(validator, PATIENT, f"{BASE}p") == []
    memory.rows.clear()
    with pytest.raises(InvalidError, match="not held"):
        ask(validator, PATIENT, f"{BASE}p")


def test_a_changed_definition_of_what_a_profile_needs_is_in_force_at_once() -> None:
    inner = profile("HumanName", {"path": "family", "min": 1}, name="inner")
    types = [{"code": "HumanName", "profile": [inner["url"]]}]
    bound = {"binding": {"strength": "required", "valueSet": "http://e.example/ValueSet/v"}}
    memory = Memory(
        [
            profile("Patient", {"path": "name", "type": types}, {"path": "maritalStatus", **bound}),
            inner,
            value_set("v", ("http://c", "a")),
        ]
    )
    validator = made(memory)
    resource = {**PATIENT, "name": [{"text": "x"}], "maritalStatus": {"coding": [{"system": "http://c", "code": "b"}]}}
    assert len(ask(validator, resource, f"{BASE}p")) == 2
    memory.put(profile("HumanName", name="inner"))
    assert len(ask(validator, resource, f"{BASE}p")) == 1
    memory.put(value_set("v", ("http://c", "b")))
    assert ask(validator, resource, f"{BASE}p") == []


def test_a_profile_that_comes_later_is_found() -> None:
    memory = Memory()
    validator = made(memory)
    resource = {**PATIENT, "meta": {"profile": [f"{BASE}p"]}}
    (issue,) = ask(validator, resource)
    assert (issue.key, issue.severity, issue.expression) == ("HS-PROFILE-UNKNOWN", "warning", "Patient.meta.profile[0]")
    memory.put(profile("Patient", {"path": "name", "min": 1}))
    assert [issue.key for issue in ask(validator, resource)] == ["HS-PROFILE-REQUIRED"]


def test_of_several_versions_the_highest_is_meant_unless_one_is_named() -> None:
    versions = {"one": "1.2.0", "ten": "1.10.0", "old": "2.0.0"}
    memory = Memory()
    for at, (name, version) in enumerate(versions.items()):
        definition = profile("Patient", {"path": "name", "min": at + 1}, name=name, version=version)
        memory.put({**definition, "url": f"{BASE}p", "status": "retired" if name == "old" else "active"})
    validator = made(memory)
    for wanted, least in (("", 2), ("|1.2.0", 1), ("|1.10.0", 2), ("|2.0.0", 3)):
        (issue,) = ask(validator, PATIENT, f"{BASE}p{wanted}")
        assert f"at least {least}" in issue.diagnostics
    with pytest.raises(InvalidError):
        ask(validator, PATIENT, f"{BASE}p|9")


def bare(definition: Json) -> Json:
    """The same with a differential in place of its snapshot."""
    rows = [{k: v for k, v in row.items() if (k, v) != ("max", "*")} for row in definition["snapshot"]["element"]]
    return {**{k: v for k, v in definition.items() if k != "snapshot"}, "differential": {"element": rows}}


def test_a_profile_with_a_differential_alone_is_validated_against_with_what_it_is_based_on() -> None:
    base = bare(profile("Patient", {"path": "name", "min": 1}, name="base"))
    derived = {**bare(profile("Patient", {"path": "gender", "min": 1})), "baseDefinition": base["url"]}
    memory = Memory([derived, base])
    validator = made(memory)
    assert [issue.expression for issue in ask(validator, PATIENT, f"{BASE}p")] == ["Patient.name", "Patient.gender"]
    memory.put(bare(profile("Patient", {"path": "birthDate", "min": 1}, name="base")))
    assert [i.expression for i in ask(validator, PATIENT, f"{BASE}p")] == ["Patient.gender", "Patient.birthDate"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"baseDefinition": f"{BASE}absent"}, "absent is not held"),
        ({"differential": {"element": [{"path": "Patient.nmae", "id": "Patient.nmae"}]}}, r"Patient\.nmae"),
    ],
)
def test_a_profile_of_which_no_snapshot_can_be_made_is_refused_and_told_where_it_is_claimed(
    change: Json, why: str
) -> None:
    validator = made(Memory([{**bare(profile("Patient")), **change}]))
    with pytest.raises(InvalidError, match=why) as refused:
        ask(validator, PATIENT, f"{BASE}p")
    assert refused.value.issues[0].key == "HS-OP-PROFILE"
    (issue,) = ask(validator, {**PATIENT, "meta": {"profile": [f"{BASE}p"]}})
    assert issue.key == "HS-PROFILE-UNKNOWN"
    assert "absent" in issue.diagnostics or "nmae" in issue.diagnostics


def test_a_profile_with_an_element_that_its_type_has_not_is_refused() -> None:
    with pytest.raises(InvalidError, match=r"Patient\.nmae"):
        ask(made(Memory([profile("Patient", {"path": "nmae", "min": 1})])), PATIENT, f"{BASE}p")


def test_a_profile_of_endless_depth_is_refused() -> None:
    paths = ["extension" + ".extension" * depth for depth in range(600)]
    definition = profile("Patient", *({"path": path} for path in paths), {"path": f"{paths[-1]}.url", "min": 2})
    with pytest.raises(InvalidError, match="deep"):
        ask(made(Memory([definition])), PATIENT, f"{BASE}p")


def test_profiles_of_the_specification_ask_nothing_of_the_store() -> None:
    memory = Memory()
    ask(made(memory), OBSERVATION, f"{TYPES}vitalsigns", f"{TYPES}vitalsigns|4.0.1", f"{TYPES}Observation")
    assert memory.asked == []


def test_what_each_resource_of_a_bundle_claims_is_looked_at() -> None:
    claimed = {**PATIENT, "id": "a", "meta": {"profile": [f"{BASE}p"]}}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": "http://a/Patient/a", "resource": claimed},
            {"fullUrl": "http://a/Patient/b", "resource": {**claimed, "name": [{"family": "x"}]}},
            {"fullUrl": "http://a/Patient/c", "resource": {**PATIENT, "contained": [claimed]}},
        ],
    }
    found = ask(made(Memory([profile("Patient", {"path": "name", "min": 1})])), bundle)
    assert [issue.expression for issue in found] == [
        "Bundle.entry[0].resource.name",
        "Bundle.entry[2].resource.contained[0].name",
    ]


def test_a_resource_that_is_claimed_and_asked_for_is_told_once() -> None:
    resource = {**PATIENT, "meta": {"profile": [f"{BASE}p"]}}
    assert len(ask(made(Memory([profile("Patient", {"path": "name", "min": 1})])), resource, f"{BASE}p")) == 1


def test_the_shelf_is_put_up_anew_when_it_has_become_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.validation.profile.validator.MAX_URLS", 2)
    memory = Memory([profile("Patient", {"path": "name", "min": 1}, name=name) for name in "abcd"])
    validator = made(memory)
    for name in "abcda":
        assert len(ask(validator, PATIENT, f"{BASE}{name}")) == 1
        assert len(validator._urls["StructureDefinition"]) <= 2


def test_what_was_compiled_stays_when_another_profile_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    make = shelves.compiled

    def counted(structure: Structure, *rest: Any, **named: Any) -> Any:
        compiled.append(structure.url)
        return make(structure, *rest, **named)

    monkeypatch.setattr(shelves, "compiled", counted)
    memory = Memory([profile("Patient", {"path": "name", "min": 1}, name=name) for name in "ab"])
    validator = made(memory)
    for name in "abab":
        assert len(ask(validator, PATIENT, f"{BASE}{name}")) == 1
    assert compiled == [f"{BASE}a", f"{BASE}b"]
    # A claim of something that is not there leaves all as it is.
    shelf = validator._shelf
    assert [i.key for i in ask(validator, {**PATIENT, "meta": {"profile": ["http://e.example/x"]}})] == [
        "HS-PROFILE-UNKNOWN"
    ]
    assert validator._shelf is shelf
    memory.put(profile("Patient", {"path": "name"}, name="a"))
    assert ask(validator, PATIENT, f"{BASE}a") == []
    assert len(ask(validator, PATIENT, f"{BASE}b")) == 1
    assert compiled == [f"{BASE}a", f"{BASE}b", f"{BASE}a", f"{BASE}b"]


def test_writes_may_be_held_to_definitions_of_a_moment_ago() -> None:
    memory = Memory([profile("Patient", {"path": "name", "min": 1})])
    validator = made(memory)
    assert len(asyncio.run(validator.issues_against(PATIENT, [f"{BASE}p"], at_most_s=3600))) == 1
    memory.asked.clear()
    memory.put(profile("Patient", {"path": "name"}))
    assert len(asyncio.run(validator.issues_against(PATIENT, [f"{BASE}p"], at_most_s=3600))) == 1
    assert memory.asked == []
    assert asyncio.run(validator.issues_against(PATIENT, [f"{BASE}p"])) == []


def test_of_versions_that_clients_think_of_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_MOST_NAMES", 3)
    validator = made(Memory([profile("Patient", {"path": "name", "min": 1})]))
    assert len(ask(validator, PATIENT, f"{BASE}p")) == 1
    shelf = validator._shelf
    for number in range(6):
        for name in ("vitalsigns", "Patient"):
            claimed = {**OBSERVATION, "meta": {"profile": [f"{TYPES}{name}|9.{number}"]}}
            assert ask(validator, claimed)
            assert shelf.structure(f"{TYPES}{name}|9.{number}") is None
    assert validator._shelf is shelf
    assert len(shelf._structures) == len(shelf._checks) == 3
    # What there is is found, however many were asked for before, and is compiled once.
    assert shelf.structure(f"{TYPES}vitalsigns") is shelf.structure(f"{TYPES}vitalsigns")
    assert shelf.check_of(f"{TYPES}vitalsigns") is shelf.check_of(f"{TYPES}vitalsigns")
    assert len(ask(validator, PATIENT, f"{BASE}p")) == 1
