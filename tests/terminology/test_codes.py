"""`$lookup`, `$validate-code` and `$subsumes` over HTTP.

Spec: https://hl7.org/fhir/R4/codesystem-operations.html, https://hl7.org/fhir/R4/valueset-operations.html
"""

from __future__ import annotations

from typing import Any

import pytest

from profiles.registry import own_definitions
from tests.terminology.samples import ANIMALS, FOODS, SETS, animals, answers, by, parameters, value_set

Json = dict[str, Any]
GENDERS = "http://hl7.org/fhir/administrative-gender"
BREAD = {"system": FOODS, "code": "bread"}
UCUM = "http://unitsofmeasure.org"


def ask(client: Any, operation: str, status: int = 200, **given: Any) -> Json:
    answer = client.post(operation, json=parameters(**given))
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def properties(body: Json) -> list[tuple[str, Any, str]]:
    found = []
    for row in body["parameter"]:
        if row["name"] == "property":
            parts = {part["name"]: next(v for k, v in part.items() if k != "name") for part in row["part"]}
            found.append((parts["code"], parts["value"], parts.get("description", "")))
    return found


# --- $lookup ---


def test_a_look_up_tells_all_that_is_known_of_a_code(terms: Any) -> None:
    body = terms.get("CodeSystem/$lookup", params={"system": ANIMALS, "code": "bat"}).json()
    told = answers(body)
    assert (told["name"], told["version"], told["display"]) == ("Animals that we know", "1.0.0", "Bat")
    assert properties(body) == [
        ("parent", "mammal", "Mammal"),
        ("parent", "flyer", "Flying animal"),
        ("legs", 2, ""),
        ("flying", True, ""),
    ]
    body = ask(terms, "CodeSystem/$lookup", coding={"system": ANIMALS, "code": "mammal"})
    (row,) = [row for row in body["parameter"] if row["name"] == "designation"]
    assert [part["name"] for part in row["part"]] == ["language", "use", "value"]
    assert properties(body)[0] == ("definition", "Feeds its young with milk.", "")
    assert [(name, value) for name, value, _ in properties(body) if name == "child"] == [
        ("child", "dog"),
        ("child", "cat"),
        ("child", "bat"),
    ]


def test_a_look_up_tells_only_the_properties_that_are_asked_for(terms: Any) -> None:
    body = ask(terms, "CodeSystem/$lookup", system=ANIMALS, code="mammal", property=["parent", "legs"])
    assert [name for name, _, _ in properties(body)] == ["parent"]
    assert "designation" not in answers(body)
    body = ask(terms, "CodeSystem/$lookup", system=ANIMALS, code="dog", property="lang.de", displayLanguage="de")
    assert answers(body)["display"] == "Hund"
    assert len([row for row in body["parameter"] if row["name"] == "designation"]) == 1
    assert properties(body) == []


def test_a_heading_and_a_retired_code_are_told_as_such(terms: Any) -> None:
    assert ("notSelectable", True, "") in properties(ask(terms, "CodeSystem/$lookup", system=ANIMALS, code="animal"))
    found = properties(ask(terms, "CodeSystem/$lookup", system=ANIMALS, code="dodo"))
    assert ("inactive", True, "") in found
    assert ("status", "retired", "") in found


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"system": ANIMALS, "code": "unicorn"}, 404),
        ({"system": "urn:nowhere", "code": "x"}, 404),
        ({"system": ANIMALS, "code": "dog", "version": "9"}, 404),
        ({"system": ANIMALS}, 400),
        ({"code": "dog"}, 400),
        ({"system": ANIMALS, "code": "dog", "coding": {"code": "dog"}}, 400),
        ({"coding": {"system": ANIMALS}}, 400),
        ({"system": ANIMALS, "code": "dog", "date": "1999"}, 404),
        ({"system": ANIMALS, "code": "dog", "colour": "red"}, 400),
    ],
)
def test_a_look_up_of_nothing_is_refused(terms: Any, given: Json, status: int) -> None:
    ask(terms, "CodeSystem/$lookup", status, **given)


def test_codes_of_the_specification_and_units_are_looked_up(terms: Any) -> None:
    assert answers(ask(terms, "CodeSystem/$lookup", system=GENDERS, code="male"))["display"] == "Male"
    body = ask(terms, "CodeSystem/$lookup", system=UCUM, code="mg/dL")
    assert answers(body)["display"] == "milligram per deciliter"
    assert {name: value for name, value, _ in properties(body)} == {"canonical": "g.m-3", "factor": 10}
    ask(terms, "CodeSystem/$lookup", 404, system=UCUM, code="parsnips")


def test_codes_of_this_servers_own_are_looked_up(terms: Any) -> None:
    (own, *_) = own_definitions("CodeSystem")
    concept = own["concept"][0]
    body = ask(terms, "CodeSystem/$lookup", system=own["url"], code=concept["code"])
    assert answers(body)["display"] == concept["display"]
    answer = terms.get(f"CodeSystem/{own['id']}/$validate-code", params={"code": concept["code"]})
    assert answers(answer.json())["result"] is True


# --- $validate-code ---


@pytest.mark.parametrize(
    ("given", "result", "message"),
    [
        ({"code": "dog"}, True, ""),
        ({"code": "dog", "display": "dog"}, True, ""),
        ({"code": "dog", "display": "Hund"}, True, ""),
        ({"code": "dog", "display": "Wolf"}, False, "'Dog'"),
        ({"code": "unicorn"}, False, "no code"),
        ({"code": "animal"}, False, "heading"),
        ({"code": "animal", "abstract": True}, True, ""),
        ({"code": "dodo"}, True, "inactive"),
        ({"coding": {"system": ANIMALS, "code": "cat"}}, True, ""),
        ({"coding": {"system": FOODS, "code": "cat"}}, False, "another code system"),
        (
            {"codeableConcept": {"coding": [{"system": FOODS, "code": "x"}, {"system": ANIMALS, "code": "cat"}]}},
            True,
            "",
        ),
    ],
)
def test_a_code_is_of_a_code_system_or_not(terms: Any, given: Json, result: bool, message: str) -> None:
    told = answers(ask(terms, "CodeSystem/$validate-code", url=ANIMALS, **given))
    assert told["result"] is result
    assert message in told.get("message", "")


def test_a_code_system_is_named_by_its_address_or_sent_along(terms: Any) -> None:
    answer = terms.get("CodeSystem/animals/$validate-code", params={"code": "dog"}).json()
    assert answers(answer) == {"result": True, "display": "Dog"}
    sent = animals(concept=[{"code": "newt", "display": "Newt"}])
    assert answers(ask(terms, "CodeSystem/$validate-code", codeSystem=sent, code="newt"))["result"] is True
    ask(terms, "CodeSystem/$validate-code", 400, code="dog")
    ask(terms, "CodeSystem/$validate-code", 404, url="urn:nowhere", code="x")
    ask(terms, "CodeSystem/$validate-code", 404, url=ANIMALS, code="dog", version="2")


def test_of_a_code_system_in_part_a_code_that_is_not_there_is_not_checked(terms: Any) -> None:
    sent = animals(content="fragment")
    told = answers(ask(terms, "CodeSystem/$validate-code", codeSystem=sent, code="newt"))
    assert told["result"] is False
    assert told["message"].startswith("Not checked: ")
    assert answers(ask(terms, "CodeSystem/$validate-code", codeSystem=sent, code="dog"))["result"] is True


@pytest.mark.parametrize(
    ("name", "given", "result", "message"),
    [
        ("mammals", {"system": ANIMALS, "code": "dog"}, True, ""),
        ("mammals", {"system": ANIMALS, "code": "robin"}, False, "not in"),
        ("mammals", {"system": ANIMALS, "code": "unicorn"}, False, "no code"),
        ("mammals", {"system": FOODS, "code": "dog"}, False, "not in"),
        ("mammals", {"code": "dog"}, True, ""),
        ("mammals", {"coding": {"system": ANIMALS, "code": "dog", "display": "Wolf"}}, False, "not called"),
        ("pets", {"system": ANIMALS, "code": "dog", "display": "Pet dog"}, True, ""),
        ("pets", {"system": ANIMALS, "code": "unicorn"}, False, "no code"),
        ("imports", {"system": ANIMALS, "code": "bat"}, True, ""),
        ("imports", {"system": ANIMALS, "code": "dog"}, False, ""),
        ("all", {"system": ANIMALS, "code": "animal"}, False, "not in"),
        ("all", {"system": ANIMALS, "code": "animal", "abstract": True}, True, ""),
        ("foreign", {"system": FOODS, "code": "bread"}, True, ""),
        ("foreign", {"system": FOODS, "code": "cake"}, False, "not in"),
        ("foods", {"system": FOODS, "code": "cake"}, False, "Not checked: "),
        ("lost", {"system": FOODS, "code": "cake"}, False, "Not checked: "),
        ("loop", {"system": FOODS, "code": "cake"}, False, "Not checked: "),
        ("but-cats", {"system": ANIMALS, "code": "cat"}, False, ""),
        ("mammals", {"codeableConcept": {"coding": [BREAD, {"system": ANIMALS, "code": "cat"}]}}, True, ""),
        ("mammals", {"codeableConcept": {"coding": [BREAD]}}, False, "not in"),
    ],
)  # fmt: skip
def test_a_code_is_in_a_value_set_or_not_or_that_is_not_known(
    terms: Any, name: str, given: Json, result: bool, message: str
) -> None:
    told = answers(ask(terms, "ValueSet/$validate-code", url=SETS + name, **given))
    assert told["result"] is result, told
    assert message in told.get("message", "")


def test_units_are_judged_by_their_grammar(terms: Any) -> None:
    units = "http://hl7.org/fhir/ValueSet/ucum-units"
    assert answers(ask(terms, "ValueSet/$validate-code", url=units, system=UCUM, code="mm[Hg]"))["result"] is True
    assert answers(ask(terms, "ValueSet/$validate-code", url=units, system=UCUM, code="mmHg"))["result"] is False


def test_a_value_set_is_meant_by_an_element_or_sent_along_or_named_with_its_version(terms: Any) -> None:
    given = {"system": GENDERS, "code": "male"}
    assert answers(ask(terms, "ValueSet/$validate-code", context="Patient.gender", **given))["result"] is True
    sent = value_set("sent", by("concept", "is-a", "flyer"))
    assert answers(ask(terms, "ValueSet/$validate-code", valueSet=sent, system=ANIMALS, code="bat"))["result"] is True
    ask(terms, "ValueSet/$validate-code", 404, url=SETS + "mammals", valueSetVersion="7", **given)
    ask(terms, "ValueSet/$validate-code", 404, url=SETS + "none", **given)
    ask(terms, "ValueSet/$validate-code", 400, **given)
    assert answers(terms.get("ValueSet/pets/$validate-code?code=cat").json())["result"] is True


@pytest.mark.parametrize(
    ("operation", "name", "sent"),
    [
        ("CodeSystem/$validate-code", "codeSystem", {"resourceType": "CodeSystem", "concept": [{}, 7]}),
        ("CodeSystem/$validate-code", "codeSystem", {"resourceType": "ValueSet"}),
        ("ValueSet/$validate-code", "valueSet", {"resourceType": "ValueSet", "status": "active", "compose": 7}),
        ("ValueSet/$expand", "valueSet", {"resourceType": "ValueSet", "status": "active", "compose": {"include": [7]}}),
        ("ConceptMap/$translate", "conceptMap", {"resourceType": "ConceptMap", "group": [{"element": "x"}]}),
    ],
)
def test_a_definition_that_is_sent_along_must_be_valid(terms: Any, operation: str, name: str, sent: Json) -> None:
    given = {} if operation.endswith("expand") else {"code": "x"} | ({"system": ANIMALS} if "Map" in operation else {})
    ask(terms, operation, 400, **{name: sent}, **given)


# --- $subsumes ---


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [("mammal", "dog", "subsumes"), ("dog", "mammal", "subsumed-by"), ("dog", "dog", "equivalent"),
     ("dog", "cat", "not-subsumed"), ("flyer", "bat", "subsumes"), ("animal", "robin", "subsumes")],
)  # fmt: skip
def test_how_a_code_stands_to_another(terms: Any, first: str, second: str, outcome: str) -> None:
    given = {"codeA": first, "codeB": second}
    assert answers(ask(terms, "CodeSystem/$subsumes", system=ANIMALS, **given)) == {"outcome": outcome}
    assert answers(terms.get("CodeSystem/animals/$subsumes", params=given).json()) == {"outcome": outcome}
    codings = {"codingA": {"system": ANIMALS, "code": first}, "codingB": {"system": ANIMALS, "code": second}}
    assert answers(ask(terms, "CodeSystem/$subsumes", **codings)) == {"outcome": outcome}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"codeA": "dog", "codeB": "cat"}, 400),
        ({"codeA": "dog", "system": ANIMALS}, 400),
        ({"codeA": "dog", "codeB": "unicorn", "system": ANIMALS}, 404),
        ({"codeA": "dog", "codeB": "cat", "system": "urn:nowhere"}, 404),
        ({"codingA": {"system": FOODS, "code": "a"}, "codingB": {"system": ANIMALS, "code": "dog"}}, 400),
    ],
)
def test_codes_that_cannot_be_compared_are_refused(terms: Any, given: Json, status: int) -> None:
    ask(terms, "CodeSystem/$subsumes", status, **given)


def test_parts_are_no_kinds_of_what_they_are_parts_of(terms: Any) -> None:
    body = {"resourceType": "CodeSystem", "id": "hand", "url": "urn:hand", "status": "active", "content": "complete",
            "hierarchyMeaning": "part-of", "concept": [{"code": "hand", "concept": [{"code": "thumb"}]}]}  # fmt: skip
    assert terms.put("CodeSystem/hand", json=body).status_code in (200, 201)
    ask(terms, "CodeSystem/$subsumes", 422, codeA="hand", codeB="thumb", system="urn:hand")


def test_case_counts_where_the_code_system_says_so(terms: Any) -> None:
    body = {"resourceType": "CodeSystem", "id": "loose", "url": "urn:loose", "status": "active", "content": "complete",
            "caseSensitive": False, "concept": [{"code": "Ab", "display": "AB"}]}  # fmt: skip
    terms.put("CodeSystem/loose", json=body)
    assert answers(ask(terms, "CodeSystem/$validate-code", url="urn:loose", code="aB"))["result"] is True
    assert answers(ask(terms, "CodeSystem/$validate-code", url=ANIMALS, code="Dog"))["result"] is False
