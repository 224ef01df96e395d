"""The order of matches by parameters of every type, and what no other test asks of modifiers and prefixes.

Spec: https://hl7.org/fhir/R4/search.html#sort, https://hl7.org/fhir/R4/search.html#modifiers
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from tests.stored import stored

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"


def assessment(name: str, probability: float | None) -> Json:
    prediction = {"probabilityDecimal": probability} if probability is not None else {"outcome": {"text": "x"}}
    subject = {"reference": "Patient/x"}
    return {
        "resourceType": "RiskAssessment",
        "id": name,
        "status": "final",
        "subject": subject,
        "prediction": [prediction],
    }


def weight(name: str, value: float | None, unit: str, subject: str | None, code: str) -> Json:
    made: Json = {"resourceType": "Observation", "id": name, "status": "final", "code": {"coding": [{"code": code}]}}
    if value is not None:
        made["valueQuantity"] = {"value": value, "unit": unit, "system": UCUM, "code": unit}
    if subject is not None:
        made["subject"] = {"reference": subject}
    return made


def value_set(name: str, url: str | None) -> Json:
    return {"resourceType": "ValueSet", "id": name, "status": "draft", **({"url": url} if url else {})}


def questionnaire_response(name: str, questionnaire: str) -> Json:
    return {"resourceType": "QuestionnaireResponse", "id": name, "status": "completed", "questionnaire": questionnaire}


RESOURCES = [
    assessment("r1", 9),
    assessment("r2", 10),
    assessment("r3", None),
    assessment("r4", 0.5),
    weight("o1", 2, "g", "Patient/b", "c"),
    weight("o2", 1500, "mg", "Patient/a", "b"),
    weight("o3", 1, "g", None, "a"),
    weight("o4", None, "g", "Group/a", "d"),
    value_set("v1", "http://b.example/x"),
    value_set("v2", "http://a.example/x"),
    value_set("v3", None),
    value_set("v4", "urn:oid:1.2"),
    questionnaire_response("q1", "http://example.org/Q/a|1"),
    questionnaire_response("q2", "http://example.org/Q/a/b"),
    {"resourceType": "Location", "id": "l1", "position": {"longitude": 11.5, "latitude": 48.1}},
    {"resourceType": "Location", "id": "l2"},
]


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in RESOURCES
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    return server


def found(data: Any, query: str) -> str:
    resource_type, _, criteria = query.partition("?")
    pairs = (part.partition("=") for part in criteria.split("&"))
    encoded = "&".join(f"{name}={quote(value, safe='')}" for name, _, value in pairs)
    answer = data.client.get(f"{resource_type}?{encoded}&_count=500", headers={"Prefer": "handling=strict"})
    assert answer.status_code == 200, answer.text
    return " ".join(entry["resource"]["id"] for entry in stored(answer.json()))


ORDERS = {
    "RiskAssessment?_sort=probability": "r4 r1 r2 r3",
    "RiskAssessment?_sort=-probability": "r2 r1 r4 r3",
    # By the number as it was written: 1 g, 2 g, 1500 mg.
    "Observation?_sort=value-quantity": "o3 o1 o2 o4",
    "Observation?_sort=-value-quantity": "o2 o1 o3 o4",
    "Observation?_sort=subject": "o4 o2 o1 o3",
    "Observation?_sort=-subject": "o1 o2 o4 o3",
    "Observation?_sort=code": "o3 o2 o1 o4",
    "Observation?_sort=-code": "o4 o1 o2 o3",
    "ValueSet?_sort=url": "v2 v1 v4 v3",
    "ValueSet?_sort=-url": "v4 v1 v2 v3",
}


@pytest.mark.parametrize("query", ORDERS)
def test_matches_are_ordered_by_a_parameter_of_any_type_and_who_has_none_comes_last(data: Any, query: str) -> None:
    assert found(data, query) == ORDERS[query]


@pytest.mark.parametrize("sort", ["code-value-quantity", "near"])
def test_what_has_no_order_is_told(data: Any, sort: str) -> None:
    resource_type = "Location" if sort == "near" else "Observation"
    answer = data.client.get(f"{resource_type}?_sort={sort}", headers={"Prefer": "handling=strict"})
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SEARCH-SORT"


CRITERIA = {
    "QuestionnaireResponse?questionnaire:above=http://example.org/Q/a|1.5": "q1",
    "QuestionnaireResponse?questionnaire:above=http://example.org/Q/a|2.1": "",
    "QuestionnaireResponse?questionnaire:below=http://example.org/Q/a|1": "q1",
    "Observation?code-value-quantity:missing=true": "o4",
    "Observation?code-value-quantity:missing=false": "o1 o2 o3",
    "Location?near:missing=true": "l2",
    "Location?near:missing=false": "l1",
    f"Observation?value-quantity=ne2|{UCUM}|g": "o3",  # 1500 mg are 2 g, as precisely as that is said
    f"Observation?value-quantity=ne2.0|{UCUM}|g": "o2 o3",
    f"Observation?value-quantity=eq2000|{UCUM}|mg": "o1",
}


@pytest.mark.parametrize("query", CRITERIA)
def test_a_modifier_or_prefix_finds_what_it_means(data: Any, query: str) -> None:
    assert found(data, query) == CRITERIA[query]
