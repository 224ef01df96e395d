"""Conditional create, update and delete: http://hl7.org/fhir/R4/http.html#cond-update."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest


@pytest.fixture
def criteria() -> str:
    return f"identifier=http://hospital.example|{uuid.uuid4()}"


def patient(criteria: str, **more: Any) -> dict[str, Any]:
    system, _, value = criteria.removeprefix("identifier=").partition("|")
    return {"resourceType": "Patient", "identifier": [{"system": system, "value": value}], **more}


def count(client: httpx.Client, criteria: str) -> int:
    return int(client.get(f"Patient?{criteria}&_summary=count").json()["total"])


def test_a_conditional_create_makes_one_and_then_finds_it(client: httpx.Client, criteria: str) -> None:
    first = client.post("Patient", json=patient(criteria), headers={"If-None-Exist": criteria})
    again = client.post("Patient", json=patient(criteria, gender="male"), headers={"If-None-Exist": criteria})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["Location"] == first.headers["Location"]
    assert count(client, criteria) == 1


def test_fifty_identical_conditional_creates_at_once_make_exactly_one(server: Any, criteria: str) -> None:
    request = {"json": patient(criteria), "headers": {"If-None-Exist": criteria}}
    answers = server.gather(
        *(server.client.build_request("POST", f"{server.base_url}/Patient", **request) for _ in range(50))
    )
    assert sorted(a.status_code for a in answers) == [200] * 49 + [201]
    assert len({a.json()["id"] for a in answers}) == 1
    assert count(server.client, criteria) == 1


def test_criteria_spelt_in_different_ways_make_one_resource(server: Any, criteria: str) -> None:
    value = criteria.partition("|")[2]
    spellings = [criteria, f"identifier={value}", f"{criteria}&_count=3", f"identifier=http://other.example|1,{value}"]
    answers = server.gather(
        *(
            server.client.build_request(
                "POST", f"{server.base_url}/Patient", json=patient(criteria), headers={"If-None-Exist": spelling}
            )
            for spelling in spellings * 5
        )
    )
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]


def test_conditional_creates_on_two_server_processes_make_exactly_one(make_server: Any, criteria: str) -> None:
    one = make_server()
    two = make_server(mongodb_database=one.settings.mongodb_database)
    request = {"json": patient(criteria), "headers": {"If-None-Exist": criteria}}
    for server in (one, two):  # the first write of each makes the indexes
        server.client.post("Patient", json={"resourceType": "Patient"})

    def statuses(server: Any) -> list[int]:
        posts = (server.client.build_request("POST", f"{server.base_url}/Patient", **request) for _ in range(15))
        return [answer.status_code for answer in server.gather(*posts)]

    with ThreadPoolExecutor() as threads:
        answers = [status for found in threads.map(statuses, (one, two)) for status in found]
    assert sorted(answers) == [200] * 29 + [201]


def test_criteria_that_match_several_are_refused(client: httpx.Client, criteria: str) -> None:
    for _ in range(2):
        client.post("Patient", json=patient(criteria))
    answers = [
        client.post("Patient", json=patient(criteria), headers={"If-None-Exist": criteria}),
        client.put(f"Patient?{criteria}", json=patient(criteria)),
        client.delete(f"Patient?{criteria}"),
    ]
    assert [a.status_code for a in answers] == [412] * 3
    assert answers[0].json()["issue"][0]["code"] == "multiple-matches"
    assert count(client, criteria) == 2


@pytest.mark.parametrize("bad", ["", "_count=1", "nonsense=1", "birthdate=abc"])
def test_criteria_that_select_nothing_in_particular_are_refused(client: httpx.Client, bad: str) -> None:
    answer = client.post("Patient", json={"resourceType": "Patient"}, headers={"If-None-Exist": bad})
    assert answer.status_code in (400, 412)
    assert client.delete(f"Patient?{bad}").status_code in (400, 412)


def test_a_conditional_update_creates_updates_and_minds_the_id(client: httpx.Client, criteria: str) -> None:
    first = client.put(f"Patient?{criteria}", json=patient(criteria))
    assert first.status_code == 201
    second = client.put(f"Patient?{criteria}", json=patient(criteria, gender="female"))
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    with_id = client.put(f"Patient?{criteria}", json=patient(criteria, id=first.json()["id"]))
    assert with_id.headers["ETag"] == 'W/"3"'
    assert client.put(f"Patient?{criteria}", json=patient(criteria, id="another")).status_code == 400


def test_a_conditional_update_minds_if_match(client: httpx.Client, criteria: str) -> None:
    client.put(f"Patient?{criteria}", json=patient(criteria))
    stale = client.put(f"Patient?{criteria}", json=patient(criteria), headers={"If-Match": 'W/"7"'})
    assert stale.status_code == 412
    assert "current version is 1" in stale.json()["issue"][0]["diagnostics"]


def test_a_conditional_update_without_match_uses_the_id_of_the_body_unless_it_is_taken(
    client: httpx.Client, criteria: str
) -> None:
    chosen = f"chosen-{uuid.uuid4()}"
    assert client.put(f"Patient?{criteria}", json=patient(criteria, id=chosen)).status_code == 201
    assert client.get(f"Patient/{chosen}").status_code == 200
    other = f"identifier=http://hospital.example|{uuid.uuid4()}"
    taken = client.put(f"Patient?{other}", json=patient(other, id=chosen))
    assert taken.status_code == 409


def test_many_conditional_updates_at_once_make_one_resource_with_one_version_each(server: Any, criteria: str) -> None:
    answers = server.gather(
        *(
            server.client.build_request("PUT", f"{server.base_url}/Patient?{criteria}", json=patient(criteria))
            for _ in range(20)
        )
    )
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    assert count(server.client, criteria) == 1
    (found,) = server.client.get(f"Patient?{criteria}").json()["entry"]
    assert found["resource"]["meta"]["versionId"] == "20"


def test_a_conditional_delete_takes_the_one_match(client: httpx.Client, criteria: str) -> None:
    made = client.post("Patient", json=patient(criteria)).json()
    assert client.delete(f"Patient?{criteria}").status_code == 204
    assert client.get(f"Patient/{made['id']}").status_code == 410
    assert client.delete(f"Patient?{criteria}").status_code == 204
