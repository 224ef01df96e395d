"""What `_include` and `_revinclude` add to a page, in a small data set and against a naive reading of random data.

Spec: https://hl7.org/fhir/R4/search.html#include
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]


def ref(to: str) -> Json:
    return {"reference": to}


def observation(name: str, **more: Any) -> Json:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": {"text": "x"}, **more}


RESOURCES: list[Json] = [
    {"resourceType": "Organization", "id": "top", "name": "Top"},
    {"resourceType": "Organization", "id": "ward", "name": "Ward", "partOf": ref("Organization/top")},
    {"resourceType": "Practitioner", "id": "doc", "name": [{"family": "Dorn"}]},
    {
        "resourceType": "Patient",
        "id": "a",
        "name": [{"family": "Abel"}],
        "birthDate": "1950-01-01",
        "generalPractitioner": [ref("Practitioner/doc"), ref("Organization/ward")],
        "managingOrganization": ref("Organization/ward"),
    },
    {"resourceType": "Patient", "id": "b", "link": [{"other": ref("Patient/a"), "type": "seealso"}]},
    observation("o1", subject=ref("Patient/a"), performer=[ref("Practitioner/doc"), ref("Organization/top")]),
    observation("o2", subject=ref("Patient/a/_history/1"), hasMember=[ref("Observation/o1"), ref("Observation/o3")]),
    observation("o3", subject=ref("Patient/none"), hasMember=[ref("Observation/o4")]),
    observation("o4", subject=ref("http://other.example/fhir/Patient/a"), hasMember=[ref("Observation/o2")]),
    observation("o5", subject=ref("Patient/gone")),
    {
        "resourceType": "Provenance",
        "id": "v",
        "target": [ref("Observation/o1"), ref("Patient/a")],
        "recorded": "2020-01-01T00:00:00Z",
        "agent": [{"who": ref("Practitioner/doc")}],
    },
    {"resourceType": "Questionnaire", "id": "q1", "url": "http://q/1", "version": "1", "status": "active"},
    {"resourceType": "Questionnaire", "id": "q2", "url": "http://q/1", "version": "2", "status": "active"},
    {"resourceType": "QuestionnaireResponse", "id": "r1", "questionnaire": "http://q/1|2", "status": "completed"},
    {"resourceType": "QuestionnaireResponse", "id": "r2", "questionnaire": "http://q/1", "status": "completed"},
]


def fill(client: Any, resources: list[Json]) -> None:
    entries = [
        {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r} for r in resources
    ]
    answer = client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server(max_includes=20, max_include_rounds=4)
    fill(server.client, RESOURCES)
    server.client.put("Patient/gone", json={"resourceType": "Patient", "id": "gone"})
    server.client.delete("Patient/gone")
    return server


def get(client: Any, query: str, status: int = 200) -> Json:
    place, _, criteria = query.partition("?")
    pairs = (part.partition("=") for part in criteria.split("&"))
    encoded = "&".join(f"{quote(name, safe=':')}={quote(value, safe='')}" for name, _, value in pairs)
    answer = client.get(f"{place}?{encoded}", headers={"Prefer": "handling=strict"})
    assert answer.status_code == status, answer.text[:500]
    result: Json = answer.json()
    return result


def included(bundle: Json) -> str:
    """What was included, in alphabetical order; matches come first, and nothing comes twice."""
    modes = [entry["search"]["mode"] for entry in bundle.get("entry", [])]
    assert modes == sorted(modes, key=["match", "include", "outcome"].index)
    names = [e["fullUrl"].removeprefix("http://test/fhir/") for e in bundle.get("entry", []) if "fullUrl" in e]
    assert len(set(names)) == len(names)
    return " ".join(sorted(n for n, mode in zip(names, modes, strict=False) if mode == "include"))


CASES = {
    "Observation?_id=o1&_include=Observation:subject": "Patient/a",
    "Observation?_id=o1&_include=Observation:patient": "Patient/a",
    "Observation?_id=o1,o2&_include=Observation:subject": "Patient/a",
    "Observation?_id=o1&_include=Observation:subject:Group": "",
    "Observation?_id=o1&_include=Observation:performer": "Organization/top Practitioner/doc",
    "Observation?_id=o1&_include=Observation:performer:Practitioner": "Practitioner/doc",
    "Observation?_id=o1&_include=Observation:subject&_include=Observation:performer:Organization": (
        "Organization/top Patient/a"
    ),
    "Observation?_id=o1&_include=*": "Organization/top Patient/a Practitioner/doc",
    "Observation?_id=o1&_include=Observation:*": "Organization/top Patient/a Practitioner/doc",
    "Observation?_id=o1&_include=Observation:*:Patient": "Patient/a",
    "Observation?_id=o3&_include=Observation:subject": "",
    "Observation?_id=o4&_include=Observation:subject": "",
    "Observation?_id=o5&_include=Observation:subject": "",
    "Observation?_id=o2&_include=Observation:has-member": "Observation/o1 Observation/o3",
    "Observation?_id=o2,o3&_include=Observation:has-member": "Observation/o1 Observation/o4",
    "Observation?_id=o2&_include:iterate=Observation:has-member": "Observation/o1 Observation/o3 Observation/o4",
    "Observation?_id=o2&_include:recurse=Observation:has-member": "Observation/o1 Observation/o3 Observation/o4",
    "Observation?_id=o1&_include=Observation:patient&_include:iterate=Patient:organization": (
        "Organization/ward Patient/a"
    ),
    "Observation?_id=o1&_include=Observation:patient&_include:iterate=Patient:organization"
    "&_include:iterate=Organization:partof": "Organization/top Organization/ward Patient/a",
    "Observation?_id=o1&_include:iterate=*": ("Organization/top Organization/ward Patient/a Practitioner/doc"),
    "Patient?_id=a&_revinclude=Observation:subject": "Observation/o1 Observation/o2",
    "Patient?_id=a&_revinclude=Observation:patient:Patient": "Observation/o1 Observation/o2",
    "Patient?_id=a,b&_revinclude=Patient:link": "",
    "Patient?_id=a&_revinclude=Patient:link": "Patient/b",
    "Patient?_id=a&_revinclude=Provenance:target": "Provenance/v",
    "Patient?_id=a&_revinclude=Observation:subject&_revinclude:iterate=Provenance:target": (
        "Observation/o1 Observation/o2 Provenance/v"
    ),
    "Patient?_id=a&_revinclude=Observation:subject&_revinclude:recurse=Provenance:target": (
        "Observation/o1 Observation/o2 Provenance/v"
    ),
    "Patient?_id=a&_revinclude=*": "Observation/o1 Observation/o2 Patient/b Provenance/v",
    "Patient?_id=a&_revinclude=Observation:*": "Observation/o1 Observation/o2",
    "Patient?_id=a&_include=Patient:organization&_revinclude=Observation:patient": (
        "Observation/o1 Observation/o2 Organization/ward"
    ),
    "Practitioner?_id=doc&_revinclude=Patient:general-practitioner&_revinclude:iterate=Observation:subject": (
        "Observation/o1 Observation/o2 Patient/a"
    ),
    "QuestionnaireResponse?_id=r1&_include=QuestionnaireResponse:questionnaire": "Questionnaire/q2",
    "QuestionnaireResponse?_id=r2&_include=QuestionnaireResponse:questionnaire": "Questionnaire/q1 Questionnaire/q2",
    "Questionnaire?_id=q2&_revinclude=QuestionnaireResponse:questionnaire": (
        "QuestionnaireResponse/r1 QuestionnaireResponse/r2"
    ),
    "Observation?_id=none&_include=*": "",
    "?_type=Patient,Observation&_id=a,o3&_include=Patient:organization&_include=Observation:has-member": (
        "Observation/o4 Organization/ward"
    ),
    "Patient/a/Observation?_include=Observation:performer:Practitioner": "Practitioner/doc",
    "Observation?patient.name=abel&_sort=-date&_include=Observation:subject": "Patient/a",
    "Observation?_id=o1&_summary=count&_include=*": "",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
def test_a_page_includes_what_was_asked_for_and_nothing_twice(data: Any, query: str, expected: str) -> None:
    assert included(get(data.client, query)) == expected


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("Observation?_include=Observation", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Nothing:subject", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Observation:nothing", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Observation:code", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Observation:subject:Nothing", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Observation:subject:Practitioner", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Observation:subject:Patient:x", "HS-SEARCH-INCLUDE"),
        ("Observation?_include=Patient:organization", "HS-SEARCH-INCLUDE-IDLE"),
        ("Observation?_revinclude=Observation:patient", "HS-SEARCH-INCLUDE-IDLE"),
        ("?_type=Patient,Group&_include=Observation:subject", "HS-SEARCH-INCLUDE-IDLE"),
        ("Observation?_include=*&_summary=text", "HS-SEARCH-INCLUDE"),
    ],
)
def test_an_include_that_cannot_be_is_refused_with_a_reason(data: Any, query: str, key: str) -> None:
    outcome = get(data.client, query, 400)
    assert outcome["issue"][0]["details"]["coding"][0]["code"] == key


def test_an_include_without_effect_is_ignored_with_a_warning(data: Any) -> None:
    bundle = data.client.get("Observation?_id=o1&_include=Patient:organization&_include=Observation:subject").json()
    assert [entry["search"]["mode"] for entry in bundle["entry"]] == ["match", "include", "outcome"]
    assert "iterate" in bundle["entry"][2]["resource"]["issue"][0]["diagnostics"]
    assert bundle["link"][0]["url"] == "http://test/fhir/Observation?_id=o1&_include=Observation:subject"


def test_includes_belong_to_their_page_and_stay_in_the_links(data: Any) -> None:
    query = "Observation?_count=1&_id=o1,o3&_include=Observation:subject&_include:iterate=Patient:organization"
    first = get(data.client, query)
    assert included(first) == "Organization/ward Patient/a"
    links = {link["relation"]: link["url"] for link in first["link"]}
    assert "_include=Observation:subject&_include:iterate=Patient:organization" in links["self"]
    second = data.client.get(links["next"]).json()
    assert [entry["resource"]["id"] for entry in second["entry"]] == ["o3"]


def test_a_versioned_reference_includes_the_current_version(data: Any) -> None:
    client = data.client
    client.put("Patient/w", json={"resourceType": "Patient", "id": "w", "active": True})
    client.put("Patient/w", json={"resourceType": "Patient", "id": "w", "active": False})
    client.put("Observation/ow", json=observation("ow", subject=ref("Patient/w/_history/1")))
    bundle = get(client, "Observation?_id=ow&_include=Observation:subject")
    assert bundle["entry"][1]["resource"]["meta"]["versionId"] == "2"
    client.delete("Observation/ow")


def test_more_than_the_limit_is_cut_and_said(data: Any) -> None:
    client = data.client
    fill(client, [observation(f"many{n}", subject=ref("Patient/b")) for n in range(25)])
    bundle = get(client, "Patient?_id=b&_revinclude=Observation:subject")
    assert len(included(bundle).split()) == 20
    issue = bundle["entry"][-1]["resource"]["issue"][0]
    assert (issue["severity"], issue["details"]["coding"][0]["code"]) == ("warning", "HS-LIMIT-INCLUDES")


def test_rounds_are_bounded_and_the_rest_is_said(data: Any) -> None:
    chain = [{"resourceType": "Location", "id": f"l{n}", "partOf": ref(f"Location/l{n + 1}")} for n in range(8)]
    fill(data.client, chain)
    bundle = get(data.client, "Location?_id=l0&_include:iterate=Location:partof")
    assert included(bundle) == "Location/l1 Location/l2 Location/l3 Location/l4"
    assert "4 rounds" in bundle["entry"][-1]["resource"]["issue"][0]["diagnostics"]
    assert "HS-LIMIT" not in str(get(data.client, "Location?_id=l4&_include:iterate=Location:partof"))


def test_parts_of_resources_are_shown_of_includes_where_they_are_named(data: Any) -> None:
    query = "Observation?_id=o1&_include=Observation:subject"
    whole = get(data.client, f"{query}&_elements=status")["entry"][1]["resource"]
    assert whole["birthDate"] == "1950-01-01"
    named = get(data.client, f"{query}&_elements=status,Patient.name")["entry"][1]["resource"]
    assert "birthDate" not in named
    assert "name" in named
    summary = get(data.client, f"{query}&_summary=true")["entry"][1]["resource"]
    assert summary["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_includes_equal_a_naive_evaluation_on_random_data(make_server: Callable[..., Any]) -> None:
    chance = random.Random(7)
    size = 30
    resources = [
        observation(
            f"o{n}",
            subject=ref(f"Patient/p{chance.randrange(8)}"),
            hasMember=[ref(f"Observation/o{chance.randrange(size + 5)}") for _ in range(chance.randrange(1, 4))],
        )
        for n in range(size)
    ]
    people = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(6)]
    server = make_server(max_include_rounds=50)
    fill(server.client, [*resources, *people])
    members = {
        f"Observation/{o['id']}": {m["reference"] for m in o["hasMember"]} & {f"Observation/o{n}" for n in range(size)}
        for o in resources
    }
    subjects = {f"Observation/{o['id']}": o["subject"]["reference"] for o in resources}
    there = {f"Patient/{p['id']}" for p in people}
    for start in chance.sample(sorted(members), 10):
        match = start.removeprefix("Observation/")
        closure, fresh = {start}, {start}
        while fresh:
            fresh = {m for one in fresh for m in members[one]} - closure
            closure |= fresh
        bundle = get(server.client, f"Observation?_id={match}&_include:iterate=Observation:has-member")
        assert included(bundle) == " ".join(sorted(closure - {start}))
        both = (closure | ({subjects[one] for one in closure} & there)) - {start}
        query = f"Observation?_id={match}&_include:iterate=Observation:has-member&_include:iterate=Observation:subject"
        assert included(get(server.client, query)) == " ".join(sorted(both))
        backward = {one for one, found in members.items() if start in found} - {start}
        bundle = get(server.client, f"Observation?_id={match}&_revinclude=Observation:has-member")
        assert included(bundle) == " ".join(sorted(backward))
