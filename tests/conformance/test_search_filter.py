"""`_filter`: the grammar and every operator, on a data set small enough to know by heart.

Spec: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("search")

CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
GENDERS = "http://hl7.org/fhir/administrative-gender"

FOUND = {
    # strings
    'Patient?name co "uller"': "p1 p2",
    "Patient?name co LUDEN": "p1",
    "Patient?family eq muller": "p2",
    'Patient?family eq "müller-lüdenscheidt"': "p1",
    "Patient?family eq müller": "p2",
    "Patient?family ne muller": "p1 p3",
    "Patient?family sw mul": "p1 p2",
    'Patient?family ew "Jr."': "p3",
    "Patient?family gt muller": "p1 p3",
    "Patient?family ge o": "p3",
    "Patient?family lt n": "p1 p2",
    "Patient?family le muller": "p2",
    'Patient?family eq "o\'brien, jr."': "p3",
    # tokens
    "Patient?gender eq female": "p1",
    f"Patient?gender eq {GENDERS}|female": "p1",
    "Patient?gender ne female": "p2 p3",
    f"Patient?gender ne {GENDERS}|female": "p2 p3",
    "Patient?gender co male": "p1 p2",
    "Patient?gender sw fe": "p1",
    "Patient?gender ew er": "p3",
    "Patient?identifier eq urn:oid:1.2.3|A-1": "p1",
    "Patient?identifier sw a-": "p1 p2",
    "Patient?identifier ne SHARED": "p1 p2",
    "Patient?active eq true": "p1",
    "Patient?gender in http://hl7.org/fhir/ValueSet/administrative-gender": "p1 p2 p3",
    f"Condition?clinical-status ss {CLINICAL}|active": "k1 k2",
    f"Condition?clinical-status sb {CLINICAL}|recurrence": "k1 k2",
    "Patient?_id eq p1": "p1",
    "Patient?_id ne p1": "p2 p3 p4",
    # presence
    "Patient?gender pr true": "p1 p2 p3",
    "Patient?gender pr false": "p4",
    "Patient?organization pr true": "p1 p2 p3",
    # references
    "Patient?organization eq Organization/o1": "p1",
    "Patient?organization re Organization/o1": "p1",
    "Patient?organization re http://test/fhir/Organization/o1": "p1",
    "Patient?organization ne Organization/o1": "p3",
    # dates
    "Patient?birthdate eq 1970-05": "p1 p2",
    "Patient?birthdate ge 1970-06": "p3 p4",
    "Patient?birthdate sa 1970-05": "p3",
    "Patient?birthdate eb 1971": "p1 p2 p4",
    "Patient?birthdate ne 1970": "p3",
    "Patient?birthdate po 1970-05-06": "p1 p2 p4",
    "Patient?birthdate lt 1970-05-06": "p2 p4",
    "Patient?_lastUpdated gt 2020-01-01": "p1 p2 p3 p4",
    "Observation?date po 2020-03-04": "w1 w2",
    # quantities
    "Observation?value-quantity eq 72.5|http://unitsofmeasure.org|kg": "w1 w3",
    "Observation?value-quantity gt 120": "w2 w3",
    "Observation?value-quantity ap 125||mmHg": "b1",
    # logic
    'Patient?given eq "anna" and birthdate ge 1970': "p1",
    "Patient?gender eq male or gender eq other": "p2 p3",
    "Patient?not (gender eq male)": "p1 p3 p4",
    "Patient?not(gender eq male) and not(gender pr false)": "p1 p3",
    "Patient?gender eq female or gender eq male and birthdate eq 1971": "",
    "Patient?gender eq female or (gender eq male and birthdate eq 1971)": "p1",
    "Patient?(gender eq female or gender eq male) and birthdate eq 1970-05": "p1 p2",
    "Patient?((not (not (gender eq male))))": "p2",
    # paths
    "Patient?name.family sw mul": "p1 p2",
    "Patient?address.city eq münchen": "p1",
    "Observation?subject.name co lüden": "b1 w1 w2",
    "Observation?subject:Patient.gender eq male": "b2 m1 w3",
    "Observation?subject[gender eq male].birthdate eq 1970-05": "b2 m1 w3",
    "Observation?subject[gender eq male and active pr true].birthdate eq 1970-05": "",
    'Observation?subject.organization.name eq "first"': "b1 w1 w2",
    "Observation?subject.organization.name eq first and code eq 8480-6": "b1",
    "Observation?not (subject.gender eq female) and subject pr true": "b2 m1 w3",
}


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    body = (Path(__file__).parent / "search_data.json").read_bytes()
    answer = server.client.post("", content=body, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 200, answer.text
    return server


@pytest.mark.parametrize("query", FOUND)
def test_a_filter_finds_what_the_specification_says(data: Any, query: str) -> None:
    resource_type, _, text = query.partition("?")
    answer = data.client.get(
        resource_type, params={"_filter": text, "_count": 100}, headers={"Prefer": "handling=strict"}
    )
    assert answer.status_code == 200, answer.text
    assert sorted(e["resource"]["id"] for e in answer.json().get("entry", [])) == FOUND[query].split()


def test_a_filter_goes_with_other_parameters_pages_and_totals(data: Any) -> None:
    query = {"_filter": "birthdate pr true", "gender:missing": "false", "_sort": "-birthdate", "_count": 2}
    answer = data.client.get("Patient", params={**query, "_total": "accurate"}).json()
    assert answer["total"] == 3
    assert [e["resource"]["id"] for e in answer["entry"]] == ["p3", "p1"]
    (following,) = [row["url"] for row in answer["link"] if row["relation"] == "next"]
    assert [e["resource"]["id"] for e in data.client.get(following).json()["entry"]] == ["p2"]


def test_several_filters_must_all_hold(data: Any) -> None:
    answer = data.client.get("Patient", params=[("_filter", "family sw mul"), ("_filter", "gender eq male")]).json()
    assert [e["resource"]["id"] for e in answer["entry"]] == ["p2"]


def test_a_filter_by_post(data: Any) -> None:
    answer = data.client.post("Patient/_search", data={"_filter": 'name co "luden"'}).json()
    assert [e["resource"]["id"] for e in answer["entry"]] == ["p1"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name", "a blank and an operator"),
        ("name co", "a blank and a value"),
        ('name co "a', "a string as in JSON"),
        ("name xx a", "one of the operators"),
        ("(name co a", "`)`"),
        ("name co a)", "`and`, `or` or the end"),
        ("name co a b", "`and`, `or` or the end"),
        ("name co a and", "the name of a search parameter"),
        ("not name", "one of the operators"),
        ("nam co a", "Did you mean name"),
        ("birthdate co 1970", "a date parameter, for which there is"),
        ("birthdate eq yesterday", "YYYY"),
        ("gender gt male", "a token parameter"),
        ("gender pr maybe", "true or false"),
        ("name.nothing eq a", "no search parameter for 'name.nothing'"),
        ("name[use eq usual].family eq a", "needs a reference"),
        ("organization[name eq x] eq a", "`.` and the name"),
        ("organization.nothing eq a", "nothing"),
        ("(" * 40 + "name co a" + ")" * 40, "nested deeper"),
        (" and ".join(["name co a"] * 101), "more than 100 comparisons"),
    ],
)
def test_a_filter_that_is_none_is_refused_with_the_place(data: Any, text: str, told: str) -> None:
    answer = data.client.get("Patient", params={"_filter": text})
    assert answer.status_code == 400
    (issue,) = answer.json()["issue"]
    assert issue["details"]["coding"][0]["code"] == "HS-SEARCH-FILTER"
    assert told in issue["diagnostics"]
