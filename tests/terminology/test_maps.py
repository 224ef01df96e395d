"""`$translate` and `$closure` over HTTP.

Spec: https://hl7.org/fhir/R4/conceptmap-operation-translate.html, https://hl7.org/fhir/R4/conceptmap-operation-closure.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.terminology.samples import ANIMALS, FOODS, MAPS, SETS, answers, parameters

Json = dict[str, Any]


def translate(client: Any, status: int = 200, **given: Any) -> Json:
    body = parameters(**{name: value for name, value in given.items() if name != "dependency"})
    body["parameter"] += given.get("dependency", [])
    answer = client.post("ConceptMap/$translate", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def matches(body: Json) -> list[tuple[str, str]]:
    found = []
    for row in body["parameter"]:
        if row["name"] == "match":
            parts = {part["name"]: part for part in row["part"]}
            concept = parts.get("concept", {}).get("valueCoding", {})
            found.append((parts["equivalence"]["valueCode"], concept.get("code", "")))
    return found


def test_a_code_is_translated_by_the_map_that_is_named_the_strongest_first(terms: Any) -> None:
    body = terms.get(
        "ConceptMap/$translate", params={"url": MAPS + "to-foods", "system": ANIMALS, "code": "dog"}
    ).json()
    assert answers(body)["result"] is True
    assert matches(body) == [("equivalent", "biscuit"), ("wider", "bone")]
    (first, *_) = [row for row in body["parameter"] if row["name"] == "match"]
    assert {"name": "source", "valueUri": f"{MAPS}to-foods|1"} in first["part"]


def test_a_code_without_translation_is_told_as_such_and_others_get_what_the_map_says_of_the_rest(terms: Any) -> None:
    body = translate(terms, url=MAPS + "to-foods", system=ANIMALS, code="cat")
    assert answers(body)["result"] is False
    assert matches(body) == [("unmatched", "")]
    assert matches(translate(terms, url=MAPS + "to-foods", system=ANIMALS, code="robin")) == [("relatedto", "anything")]
    assert matches(translate(terms, url=MAPS + "by-another", system=ANIMALS, code="dog")) == [
        ("equivalent", "biscuit"),
        ("wider", "bone"),
    ]


def test_a_translation_that_depends_on_something_needs_that_and_tells_what_else_it_makes(terms: Any) -> None:
    assert matches(translate(terms, url=MAPS + "to-foods", system=ANIMALS, code="bat")) == []
    season = [
        {
            "name": "dependency",
            "part": [
                {"name": "element", "valueUri": "http://example.org/season"},
                {"name": "concept", "valueCodeableConcept": {"coding": [{"code": "summer"}]}},
            ],
        }
    ]
    body = translate(terms, url=MAPS + "to-foods", system=ANIMALS, code="bat", dependency=season)
    assert matches(body) == [("narrower", "fruit")]
    (match,) = [row for row in body["parameter"] if row["name"] == "match"]
    (product,) = [part for part in match["part"] if part["name"] == "product"]
    assert product["part"] == [
        {"name": "element", "valueUri": "http://example.org/part"},
        {"name": "concept", "valueCoding": {"code": "peel", "system": FOODS}},
    ]


def test_a_map_is_read_backwards(terms: Any) -> None:
    body = translate(terms, url=MAPS + "to-foods", system=FOODS, code="bone", reverse=True)
    assert matches(body) == [("narrower", "dog")]


def test_all_maps_from_a_code_system_are_asked_where_none_is_named(terms: Any) -> None:
    assert ("equivalent", "biscuit") in matches(translate(terms, coding={"system": ANIMALS, "code": "dog"}))
    concept = {"coding": [{"system": FOODS, "code": "x"}, {"system": ANIMALS, "code": "dog"}]}
    assert ("wider", "bone") in matches(translate(terms, codeableConcept=concept))
    assert matches(translate(terms, system=ANIMALS, code="dog", targetsystem="urn:other")) == []
    assert ("equivalent", "biscuit") in matches(translate(terms, system=ANIMALS, code="dog", target=SETS + "foods"))
    body = translate(terms, system="urn:nowhere", code="dog")
    assert answers(body)["result"] is False
    assert "No translation" in answers(body)["message"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"url": "urn:none", "system": ANIMALS, "code": "dog"}, 404),
        ({"url": MAPS + "to-foods", "conceptMapVersion": "2", "system": ANIMALS, "code": "dog"}, 404),
        ({"url": MAPS + "to-foods", "code": "dog"}, 400),
        ({"url": MAPS + "to-foods"}, 400),
        ({"url": MAPS + "to-foods", "system": ANIMALS, "code": "dog", "colour": "x"}, 400),
    ],
)
def test_what_cannot_be_translated_is_refused(terms: Any, given: Json, status: int) -> None:
    translate(terms, status, **given)


def test_a_map_is_named_by_its_address_or_sent_along(terms: Any) -> None:
    answer = terms.get("ConceptMap/to-foods/$translate", params={"system": ANIMALS, "code": "dog"})
    assert matches(answer.json())[0] == ("equivalent", "biscuit")
    sent = terms.get("ConceptMap/to-foods").json()
    assert matches(translate(terms, conceptMap=sent, system=ANIMALS, code="dog"))[0] == ("equivalent", "biscuit")


# --- $closure ---


def closure(client: Any, name: str, *codes: str, status: int = 200, **more: Any) -> Json:
    concepts = [{"system": ANIMALS, "code": code} for code in codes]
    answer = client.post("$closure", json=parameters(name=name, concept=concepts, **more))
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def pairs(body: Json) -> set[tuple[str, str]]:
    return {
        (element["code"], target["code"])
        for group in body.get("group", ())
        for element in group["element"]
        for target in element["target"]
        if target["equivalence"] == "subsumes"
    }


def test_a_closure_table_tells_how_new_concepts_stand_to_those_it_has(terms: Any) -> None:
    begun = closure(terms, "zoo")
    assert (begun["resourceType"], begun["version"], pairs(begun)) == ("ConceptMap", "0", set())
    assert pairs(closure(terms, "zoo", "dog", "mammal")) == {("dog", "mammal")}
    assert pairs(closure(terms, "zoo", "bat")) == {("bat", "mammal")}
    third = closure(terms, "zoo", "animal", "flyer")
    assert pairs(third) == {
        ("dog", "animal"),
        ("mammal", "animal"),
        ("bat", "animal"),
        ("flyer", "animal"),
        ("bat", "flyer"),
    }
    assert third["version"] == "3"
    assert pairs(closure(terms, "zoo", version="1")) == {("bat", "mammal")} | pairs(third)
    assert pairs(closure(terms, "zoo", version="3")) == set()
    everything = pairs(closure(terms, "zoo", version="0"))
    assert everything == {("dog", "mammal"), ("bat", "mammal")} | pairs(third)
    assert pairs(closure(terms, "zoo", "dog")) == {("dog", "mammal"), ("dog", "animal")}


def test_a_name_alone_begins_a_table_anew(terms: Any) -> None:
    closure(terms, "anew")
    closure(terms, "anew", "dog")
    closure(terms, "anew")
    assert pairs(closure(terms, "anew", "mammal")) == set()


def test_what_a_closure_table_cannot_do_is_refused(terms: Any) -> None:
    closure(terms, "never begun", "dog", status=404)
    closure(terms, "begun")
    closure(terms, "begun", "unicorn", status=422)
    closure(terms, "begun", version="soon", status=400)
    closure(terms, "", status=400)
    assert terms.get("$closure?name=x").status_code == 405


def test_a_closure_is_a_valid_concept_map(terms: Any) -> None:
    closure(terms, "valid")
    body = closure(terms, "valid", "dog", "mammal")
    judged = terms.post("ConceptMap/$validate", json=body).json()
    assert not [issue for issue in judged["issue"] if issue["severity"] in ("error", "fatal")]
