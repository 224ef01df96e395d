"""What `_summary` and `_elements` leave of a resource."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fhir_server.interactions.subset import SUBSETTED, subset

PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "1",
    "meta": {"versionId": "3", "tag": [{"system": "http://x", "code": "y"}]},
    "text": {"status": "generated", "div": "<div/>"},
    "contained": [{"resourceType": "Organization", "id": "o"}],
    "extension": [{"url": "http://x/y", "valueBoolean": True}],
    "active": False,
    "name": [{"id": "n", "family": "F", "extension": [{"url": "http://x/y", "valueBoolean": True}]}],
    "birthDate": "1974-12-25",
    "_birthDate": {"extension": [{"url": "http://x/time", "valueTime": "14:35:45"}]},
    "multipleBirthInteger": 0,
    "photo": [{"contentType": "image/png", "data": "AAAA"}],
    "communication": [{"language": {"text": "German"}, "preferred": True}],
    "link": [{"other": {"reference": "Patient/2"}, "type": "seealso"}],
}


def names(resource: dict[str, Any]) -> list[str]:
    return list(resource)


def test_without_either_the_resource_itself_is_given() -> None:
    assert subset(PATIENT, summary=None, elements=()) is PATIENT
    assert subset(PATIENT, summary="false", elements=()) is PATIENT


@pytest.mark.parametrize("summary", ["true", "text", "data"])
def test_a_part_is_marked_and_keeps_id_and_meta_and_the_original_stays_as_it_was(summary: str) -> None:
    original = copy.deepcopy(PATIENT)
    part = subset(PATIENT, summary=summary, elements=())
    assert original == PATIENT
    assert (part["id"], part["meta"]["versionId"]) == ("1", "3")
    assert part["meta"]["tag"] == [{"system": "http://x", "code": "y"}, SUBSETTED]
    assert subset(part, summary=summary, elements=())["meta"] == part["meta"]


def test_the_summary_has_what_the_definitions_flag_on_every_level() -> None:
    part = subset(PATIENT, summary="true", elements=())
    assert names(part) == ["resourceType", "id", "meta", "active", "name", "birthDate", "_birthDate", "link"]
    assert part["name"] == [{"family": "F"}]
    assert part["active"] is False
    assert part["link"] == PATIENT["link"]


def test_the_summary_keeps_the_choice_that_is_there_and_leaves_out_large_parts() -> None:
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueQuantity": {"value": 1, "unit": "g"},
        "note": [{"text": "long"}],
        "component": [{"code": {"text": "c"}, "valueString": "v", "interpretation": [{"text": "high"}]}],
    }
    part = subset(observation, summary="true", elements=())
    assert names(part) == ["resourceType", "meta", "status", "code", "valueQuantity", "component"]
    assert part["component"] == [{"code": {"text": "c"}, "valueString": "v"}]


def test_a_mandatory_element_with_nothing_but_an_extension_stays_in_the_summary() -> None:
    absent = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "x"}]}
    observation = {"resourceType": "Observation", "status": "final", "code": absent, "subject": absent}
    part = subset(observation, summary="true", elements=())
    assert part["code"] == absent
    assert "subject" not in part


def test_an_element_that_holds_itself_is_summarized_all_the_way_down() -> None:
    def named(name: str, *synonyms: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "id": f"id-of-{name}", "synonym": list(synonyms)}

    substance = {"resourceType": "SubstanceSpecification", "name": [named("a", named("b", named("c")))]}
    name = subset(substance, summary="true", elements=())["name"][0]
    assert name == {"name": "a", "synonym": [{"name": "b", "synonym": [{"name": "c"}]}]}


def test_text_leaves_the_narrative_and_the_mandatory_elements() -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {}, "text": {}, "issued": "x"}
    assert names(subset(observation, summary="text", elements=())) == ["resourceType", "meta", "status", "code", "text"]


def test_data_leaves_all_but_the_narrative() -> None:
    part = subset(PATIENT, summary="data", elements=())
    assert set(names(PATIENT)) - set(names(part)) == {"text"}


@pytest.mark.parametrize(
    ("elements", "kept"),
    [
        (("name",), ["name"]),
        (("birthDate", "active"), ["active", "birthDate", "_birthDate"]),
        (("Patient.name", "Observation.status"), ["name"]),
        (("multipleBirth",), ["multipleBirthInteger"]),
        (("multipleBirth[x]",), ["multipleBirthInteger"]),
        (("nothing",), []),
    ],
)
def test_elements_keep_what_was_named(elements: tuple[str, ...], kept: list[str]) -> None:
    assert names(subset(PATIENT, summary=None, elements=elements)) == ["resourceType", "id", "meta", *kept]


def test_elements_keep_mandatory_ones_and_say_nothing_about_other_types() -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "c"}, "issued": "x", "note": []}
    assert names(subset(observation, summary=None, elements=("issued",))) == [
        *("resourceType", "meta", "status", "code", "issued"),
    ]
    assert subset(observation, summary=None, elements=("Patient.name",)) is observation


def test_with_both_the_part_satisfies_both() -> None:
    assert names(subset(PATIENT, summary="true", elements=("photo", "name"))) == ["resourceType", "id", "meta", "name"]
