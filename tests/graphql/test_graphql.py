"""`$graphql` over HTTP: the forms of a call, references, searches, pages, fragments, errors and limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

NAME = {"use": "official", "family": "Okafor", "given": ["Ada", "Ngozi"]}
PATIENTS = [{"resourceType": "Patient", "id": f"p{n}", "gender": "female", "name": [NAME]} for n in range(5)]
OBSERVATIONS = [
    {
        "resourceType": "Observation",
        "id": f"o{n}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": "pulse"},
        "subject": {"reference": f"Patient/p{n % 2}"},
        "valueQuantity": {"value": 60 + n},
    }
    for n in range(6)
]


@pytest.fixture(scope="module")
def server_client(make_server: Callable[..., Any]) -> httpx.Client:
    client: httpx.Client = make_server().client
    for resource in [*PATIENTS, *OBSERVATIONS]:
        assert client.put(f"{resource['resourceType']}/{resource['id']}", json=resource).status_code == 201
    return client


def asked(client: httpx.Client, query: str, path: str = "$graphql", **more: Any) -> Any:
    answer = client.post(path, json={"query": query, **more})
    assert answer.status_code == 200, answer.text
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


def refused(client: httpx.Client, query: str, path: str = "$graphql", **more: Any) -> tuple[int, str]:
    answer = client.post(path, json={"query": query, **more})
    (error,) = answer.json()["errors"]
    (issue,) = error["extensions"]["resource"]["issue"]
    return answer.status_code, issue["details"]["coding"][0]["code"]


def test_a_call_by_get_by_json_and_by_parameters_answers_the_same(server_client: httpx.Client) -> None:
    query = 'query q($u: String = "official") { gender name(use: $u) { family } }'
    expected = {"data": {"gender": "female", "name": [{"family": "Okafor"}]}}
    path = "Patient/p1/$graphql"
    assert server_client.get(path, params={"query": query}).json() == expected
    assert server_client.post(path, json={"query": query}).json() == expected
    rows = [{"name": "query", "valueString": query}]
    assert server_client.post(path, json={"resourceType": "Parameters", "parameter": rows}).json() == expected
    nobody = {"query": query, "variables": json.dumps({"u": "old"})}
    assert server_client.get(path, params=nobody).json() == {"data": {"gender": "female"}}


def test_aliases_type_names_and_companions_of_primitives(server_client: httpx.Client) -> None:
    found = asked(server_client, '{ one: Patient(id: "p1") { __typename resourceType n: name { g: given } } }')
    assert found == {"one": {"__typename": "Patient", "resourceType": "Patient", "n": [{"g": ["Ada", "Ngozi"]}]}}


def test_references_are_followed_and_fragments_merged(server_client: httpx.Client) -> None:
    query = """
      query { ObservationList(code: "8867-4", _sort: "_id") {
        id ...subjectName subject { resource { ... on Patient { gender } ... on Group { type } } } } }
      fragment subjectName on Observation { subject { resource { ... on Patient { name { family } } } } }
    """
    found = asked(server_client, query)["ObservationList"]
    assert [row["id"] for row in found] == [o["id"] for o in OBSERVATIONS]
    assert found[0]["subject"] == {"resource": {"gender": "female", "name": [{"family": "Okafor"}]}}


def test_reverse_references_with_further_criteria(server_client: httpx.Client) -> None:
    query = '{ id ObservationList(_reference: subject, code: ["8867-4"], _sort: "_id") { id valueQuantity { value } } }'
    found = asked(server_client, query, "Patient/p1/$graphql")
    assert [row["id"] for row in found["ObservationList"]] == ["o1", "o3", "o5"]


def test_connections_page_forward_and_back(server_client: httpx.Client) -> None:
    edges = "edges { mode resource { id } }"
    query = f'{{ PatientConnection(gender: "female", _count: "2", _sort: "_id") {{ count offset next {edges} }} }}'
    page = asked(server_client, query)["PatientConnection"]
    seen = [[e["resource"]["id"] for e in page["edges"]]]
    assert (page["count"], page["offset"]) == (5, 0)
    while "next" in page:
        query = f'{{ PatientConnection(_cursor: "{page["next"]}") {{ offset next previous first {edges} }} }}'
        page = asked(server_client, query)["PatientConnection"]
        seen.append([e["resource"]["id"] for e in page["edges"]])
    assert seen == [["p0", "p1"], ["p2", "p3"], ["p4"]]
    assert page["offset"] == 4
    back = asked(server_client, f'{{ PatientConnection(_cursor: "{page["previous"]}") {{ offset {edges} }} }}')
    assert [e["resource"]["id"] for e in back["PatientConnection"]["edges"]] == ["p2", "p3"]
    assert back["PatientConnection"]["offset"] == 2
    assert refused(server_client, '{ PatientConnection(_cursor: "x") { offset } }') == (400, "HS-GRAPHQL-CURSOR")


def test_a_broken_reference_leaves_a_hole_and_an_error(server_client: httpx.Client) -> None:
    observation = {**OBSERVATIONS[0], "id": "lost", "subject": {"reference": "Patient/nobody"}, "code": {"text": "x"}}
    server_client.put("Observation/lost", json=observation)
    answer = server_client.post("Observation/lost/$graphql", json={"query": "{ id subject { resource { id } } }"})
    assert answer.status_code == 200
    assert answer.json()["data"] == {"id": "lost", "subject": {}}
    (error,) = answer.json()["errors"]
    assert error["path"] == ["subject", "resource"]
    assert error["locations"] == [{"line": 1, "column": 16}]
    assert asked(server_client, "{ id subject { resource(optional: true) { id } } }", "Observation/lost/$graphql")


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("{ name { famly } }", "HS-GRAPHQL-FIELD"),
        ("{ name }", "HS-GRAPHQL-QUERY"),
        ("{ gender { x } }", "HS-GRAPHQL-QUERY"),
        ("{ name(period: 1) { family } }", "HS-GRAPHQL-QUERY"),
        ("{ name { given @singleton } }", "HS-GRAPHQL-SINGLETON"),
        ("{ name @nonsense { given } }", "HS-GRAPHQL-QUERY"),
        ("{ name { given ", "HS-GRAPHQL-QUERY"),
        ("mutation { PatientDelete(id: 1) { id } }", "HS-GRAPHQL-QUERY"),
        ("query a { id } query b { id }", "HS-GRAPHQL-QUERY"),
        ("{ id @include(if: $no) }", "HS-GRAPHQL-QUERY"),
        ("{ ...none }", "HS-GRAPHQL-QUERY"),
        ("{ ObservationList { id } }", "HS-GRAPHQL-QUERY"),
        ('{ name(fhirpath: "family.(") { given } }', "HS-FHIRPATH-SYNTAX"),
        ("{ ...a } fragment a on Patient { ...b ...b } fragment b on Patient { ...a ...a }", "HS-GRAPHQL-LIMIT"),
        ("{ a: name" * 30 + "{ x }" + "}" * 30, "HS-GRAPHQL-FIELD"),
        ("#" + "x" * 100_001, "HS-GRAPHQL-LIMIT"),
    ],
)
def test_a_query_that_cannot_be_carried_out_says_why(server_client: httpx.Client, query: str, key: str) -> None:
    status, found = refused(server_client, query, "Patient/p1/$graphql")
    assert status in (400, 404)
    assert found == key


def test_search_errors_and_missing_resources_are_graphql_errors(server_client: httpx.Client) -> None:
    assert refused(server_client, "{ PatientList(nonsense: 1) { id } }")[0] == 400
    assert refused(server_client, '{ Patient(id: "nobody") { id } }') == (404, "HS-READ-NOT-FOUND")
    assert refused(server_client, "{ id }", "Patient/nobody/$graphql") == (404, "HS-READ-NOT-FOUND")
    assert refused(server_client, "{ Nonsense { id } }") == (400, "HS-GRAPHQL-FIELD")


def test_deep_chains_of_references_are_limited(server_client: httpx.Client) -> None:
    query = "{ id " + "ObservationList(_reference: subject) { subject { resource { " * 9 + "id" + " } } }" * 9 + " }"
    assert refused(server_client, query, "Patient/p0/$graphql") == (400, "HS-GRAPHQL-LIMIT")
