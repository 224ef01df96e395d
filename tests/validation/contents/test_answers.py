"""QuestionnaireResponses are held to their Questionnaire: its questions, types, options and conditions."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.validation.contents.enabling import is_enabled
from tests.validation.contents.test_contents import contents_of, told
from tests.validation.profile.holding import Json, value_set

ASKED = "http://e.example/Questionnaire/q"


def questionnaire(*items: Json) -> Json:
    return {"resourceType": "Questionnaire", "id": "q", "url": ASKED, "status": "active", "item": list(items)}


def question(link: str, kind: str, *items: Json, **more: Any) -> Json:
    found = {"linkId": link, "text": link, "type": kind, **more}
    return {**found, "item": list(items)} if items else found


def response(*items: Json, status: str = "completed", **more: Any) -> Json:
    found = {"resourceType": "QuestionnaireResponse", "questionnaire": ASKED, "status": status, **more}
    return {**found, "item": list(items)} if items else found


def answered(link: str, *answers: Json, **more: Any) -> Json:
    return {"linkId": link, "answer": list(answers), **more}


def grouped(link: str, *items: Json) -> Json:
    return {"linkId": link, "item": list(items)} if items else {"linkId": link}


def coding(code: str) -> Json:
    return {"valueCoding": {"system": "http://c", "code": code}}


AGE = question("age", "integer")
NAME = question("name", "string", maxLength=4)
SMOKES = question("smokes", "boolean", required=True)
IF_SMOKES = {"question": "smokes", "operator": "=", "answerBoolean": True}
PACKS = question("packs", "integer", required=True, enableWhen=[IF_SMOKES])
COLOUR = question("colour", "choice", answerOption=[coding("red"), coding("blue")])
BOUND = question("bound", "choice", answerValueSet="http://e.example/ValueSet/v")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ([AGE], [answered("age", {"valueInteger": 7})]),
        ([NAME], [answered("name", {"valueString": "four"})]),
        (
            [question("d", "decimal")],
            [
                answered("d", {"valueDecimal": 1}),
            ],
        ),
        ([question("u", "url")], [answered("u", {"valueUri": "http://a"})]),
        ([question("t", "text", repeats=True)], [answered("t", {"valueString": "a"}, {"valueString": "b"})]),
        ([SMOKES, PACKS], [answered("smokes", {"valueBoolean": False})]),
        ([SMOKES, PACKS], [answered("smokes", {"valueBoolean": True}), answered("packs", {"valueInteger": 1})]),
        ([COLOUR], [answered("colour", coding("red"))]),
        ([{**COLOUR, "type": "open-choice"}], [answered("colour", {"valueString": "a kind of green"})]),
        ([BOUND], [answered("bound", coding("a"))]),
        (
            [question("g", "group", AGE, repeats=True)],
            [grouped("g", answered("age", {"valueInteger": 1})), grouped("g", answered("age", {"valueInteger": 2}))],
        ),
        (
            [{**SMOKES, "item": [AGE]}],
            [answered("smokes", {"valueBoolean": True, "item": [answered("age", {"valueInteger": 1})]})],
        ),
        ([question("optional", "group", SMOKES)], []),
    ],
)
def test_answers_that_are_asked_for_are_right(asked: list[Json], given: list[Json]) -> None:
    held = [questionnaire(*asked), value_set("v", ("http://c", "a"))]
    assert contents_of(response(*given), *held) == []


@pytest.mark.parametrize(
    ("asked", "given", "path", "words"),
    [
        ([AGE], [answered("aeg", {"valueInteger": 1})], "item[0].linkId", 'not in it; expected one of "age"'),
        ([question("g", "group", AGE)], [answered("age", {"valueInteger": 1})], "item[0].linkId", "elsewhere in it"),
        (
            [AGE],
            [answered("age", {"valueString": "7"})],
            "item[0].answer[0].value",
            "Found valueString; expected valueInteger",
        ),
        (
            [NAME],
            [answered("name", {"valueString": "longer"})],
            "item[0].answer[0].value",
            "6 characters; expected at most 4",
        ),
        ([AGE], [answered("age", {"valueInteger": 1}, {"valueInteger": 2})], "item[0].answer", "does not repeat"),
        (
            [question("t", "text", repeats=True)],
            [answered("t", {"valueString": "a"}), answered("t", {"valueString": "b"})],
            "item[1]",
            "Found 2 items",
        ),
        ([question("g", "group", AGE)], [grouped("g"), grouped("g")], "item[1]", "Found 2 items"),
        ([SMOKES], [], "item", "since it is required"),
        ([SMOKES, PACKS], [answered("smokes", {"valueBoolean": True})], "item", '"packs"'),
        (
            [SMOKES, PACKS],
            [answered("smokes", {"valueBoolean": False}), answered("packs", {"valueInteger": 3})],
            "item[1]",
            "what enables it is not so",
        ),
        ([question("g", "group", SMOKES)], [{**grouped("g"), "text": "x"}], "item[0].item", "since it is required"),
        ([COLOUR], [answered("colour", coding("green"))], "item[0].answer[0].value", "expected one of"),
        ([BOUND], [answered("bound", coding("b"))], "item[0].answer[0].value", "ValueSet/v"),
        ([question("d", "display")], [answered("d", {"valueString": "x"})], "item[0].answer", "none to a display"),
    ],
)
def test_an_answer_that_nobody_asked_for_is_told(asked: list[Json], given: list[Json], path: str, words: str) -> None:
    held = [questionnaire(*asked), value_set("v", ("http://c", "a"))]
    issues = contents_of(response(*given), *held)
    (issue,) = [issue for issue in issues if issue.severity == "error"]
    assert (issue.key, issue.expression) == ("HS-CONTENT-ANSWER", f"QuestionnaireResponse.{path}")
    assert words in issue.diagnostics
    assert ASKED in issue.diagnostics
    assert issue.rule is not None


def test_a_response_under_way_may_lack_what_is_required() -> None:
    assert contents_of(response(status="in-progress"), questionnaire(SMOKES)) == []


def test_another_order_than_that_of_the_questions_is_a_warning() -> None:
    given = [answered("smokes", {"valueBoolean": False}), answered("age", {"valueInteger": 1})]
    (issue,) = contents_of(response(*given), questionnaire(AGE, SMOKES))
    assert (issue.severity, issue.expression) == ("warning", "QuestionnaireResponse.item[1]")


def test_a_questionnaire_that_is_not_held_is_told_as_not_checked() -> None:
    (issue,) = contents_of(response(answered("x", {"valueString": "y"})))
    assert (issue.key, issue.severity) == ("HS-CONTENT-ANSWER", "information")
    assert "Not checked" in issue.diagnostics


def test_the_questionnaire_may_be_within_the_response() -> None:
    inner = {**questionnaire(AGE), "id": "inner"}
    resource = response(answered("age", {"valueString": "7"}), questionnaire="#inner", contained=[inner])
    resource["extension"] = [{"url": "http://x", "valueReference": {"reference": "#inner"}}]  # dom-3
    errors = [issue for issue in contents_of(resource) if issue.severity == "error"]
    assert [issue.expression for issue in errors] == ["QuestionnaireResponse.item[0].answer[0].value"]


def test_of_several_versions_of_a_questionnaire_the_one_that_is_named_is_meant() -> None:
    one = {**questionnaire(AGE), "id": "one", "version": "1"}
    two = {**questionnaire(NAME), "id": "two", "version": "2"}
    given = response(answered("age", {"valueInteger": 1}), questionnaire=f"{ASKED}|1")
    assert contents_of(given, one, two) == []
    assert [key for key, *_ in told(contents_of({**given, "questionnaire": ASKED}, one, two))] == ["HS-CONTENT-ANSWER"]


def test_a_condition_on_a_question_that_is_not_there_is_told() -> None:
    faulty = questionnaire(AGE, question("packs", "integer", enableWhen=[IF_SMOKES]))
    (issue,) = contents_of(faulty)
    assert (issue.key, issue.severity, issue.expression) == ("HS-CONTENT-ANSWER", "error", "Questionnaire.item")
    assert "smokes" in issue.diagnostics
    assert contents_of(questionnaire(SMOKES, PACKS)) == []


@pytest.mark.parametrize(
    ("operator", "wanted", "answers", "met"),
    [
        ("exists", {"answerBoolean": True}, [1], True),
        ("exists", {"answerBoolean": False}, [], True),
        ("exists", {"answerBoolean": True}, [], False),
        ("=", {"answerInteger": 3}, [1, 3], True),
        ("!=", {"answerInteger": 3}, [3], False),
        (">", {"answerInteger": 3}, [4], True),
        ("<", {"answerInteger": 3}, [4], False),
        (">=", {"answerDate": "2026-01-02"}, ["2026-01-02"], True),
        ("<=", {"answerDate": "2026-01-02"}, ["2026"], None),  # of another precision
        ("<", {"answerQuantity": {"value": 3, "code": "kg"}}, [{"value": 2, "code": "kg"}], True),
        ("<", {"answerQuantity": {"value": 3, "code": "kg"}}, [{"value": 2, "code": "g"}], None),
        ("=", {"answerCoding": {"system": "s", "code": "a"}}, [{"system": "s", "code": "a", "display": "A"}], True),
        ("=", {"answerCoding": {"system": "s", "code": "a"}}, [{"system": "t", "code": "a"}], False),
    ],
)
def test_a_condition_is_met_by_the_answers_to_its_question(
    operator: str, wanted: Json, answers: list[Any], met: bool | None
) -> None:
    asked = {"enableWhen": [{"question": "q", "operator": operator, **wanted}]}
    assert is_enabled(asked, {"q": answers}) is met


@pytest.mark.parametrize(("behaviour", "enabled"), [("all", False), ("any", True)])
def test_conditions_are_met_together_or_one_of_them(behaviour: str, enabled: bool) -> None:
    conditions = [{"question": link, "operator": "exists", "answerBoolean": True} for link in ("a", "b")]
    asked = {"enableWhen": conditions, "enableBehavior": behaviour}
    assert is_enabled(asked, {"a": [1]}) is enabled


def test_what_an_expression_of_another_guide_enables_is_not_known() -> None:
    url = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-enableWhenExpression"
    assert is_enabled({"extension": [{"url": url}]}, {}) is None
