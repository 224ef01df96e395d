"""Requests on the trail, from HTTP to AuditEvent: each kind of read and write, refusals, entries of Bundles."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import InProcessServer

Json = dict[str, Any]


@pytest.fixture(scope="module")
def audited(make_server: Callable[..., InProcessServer]) -> InProcessServer:
    return make_server(audit="on")


@pytest.fixture
def web(audited: InProcessServer) -> httpx.Client:
    return audited.client


class Ward:
    """A patient with an Observation, made for one test."""

    def __init__(self, client: httpx.Client) -> None:
        self.id = f"p{uuid4().hex[:10]}"
        self.client = client
        client.put(f"Patient/{self.id}", json={"resourceType": "Patient", "id": self.id}).raise_for_status()
        self.observation = self.observe()["id"]

    def observe(self, **more: Any) -> Json:
        body = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"text": "x"},
            "subject": {"reference": f"Patient/{self.id}"},
            **more,
        }
        answer = self.client.post("Observation", json=body)
        answer.raise_for_status()
        return dict(answer.json())


@pytest.fixture
def ward(web: httpx.Client) -> Ward:
    return Ward(web)


def events(client: httpx.Client, **query: str) -> list[Json]:
    answer = client.get("AuditEvent", params={"_count": "1000", "_sort": "date", **query})
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", []) if entry["search"]["mode"] == "match"]


def of_request(client: httpx.Client, answer: httpx.Response) -> list[Json]:
    return events(client, **{"entity:identifier": f"|{answer.headers['x-request-id']}"})


def kinds(found: list[Json]) -> list[str]:
    return [event["subtype"][0]["code"] if "subtype" in event else "" for event in found]


def about(event: Json) -> list[str]:
    return [entity["what"]["reference"] for entity in event["entity"] if "reference" in entity.get("what", {})]


def asked(event: Json) -> str:
    return b64decode(next(entity["query"] for entity in event["entity"] if "query" in entity)).decode()


def test_a_read_names_the_resource_its_version_and_the_patient(web: httpx.Client, ward: Ward) -> None:
    answer = web.get(f"Observation/{ward.observation}")
    (event,) = of_request(web, answer)
    assert kinds([event]) == ["read"]
    assert about(event) == [f"Observation/{ward.observation}/_history/1", f"Patient/{ward.id}"]
    assert event["outcome"] == "0"


def test_reads_of_versions_and_histories_are_told_apart(web: httpx.Client, ward: Ward) -> None:
    address = f"Observation/{ward.observation}"
    for path, kind in ((f"{address}/_history/1", "vread"), (f"{address}/_history", "history-instance")):
        (event,) = of_request(web, web.get(path))
        assert kinds([event]) == [kind]
        assert f"Patient/{ward.id}" in about(event)


def test_a_search_by_get_and_one_by_post_keep_their_words(web: httpx.Client, ward: Ward) -> None:
    query = f"patient={ward.id}&code:text=x"
    for answer in (web.get(f"Observation?{query}"), web.post("Observation/_search", content=query, headers=FORM)):
        (event,) = of_request(web, answer)
        assert kinds([event]) == ["search-type"]
        assert about(event) == [f"Patient/{ward.id}"]
        assert query in asked(event)


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_a_search_that_found_nothing_of_the_patient_it_names_still_counts(web: httpx.Client, ward: Ward) -> None:
    (event,) = of_request(web, web.get(f"Condition?subject=Patient/{ward.id}"))
    assert about(event) == [f"Patient/{ward.id}"]


def test_a_search_over_patients_is_an_event_for_each_that_it_showed(web: httpx.Client, ward: Ward) -> None:
    other = Ward(web)
    found = of_request(web, web.get(f"Patient?_id={ward.id},{other.id}&_revinclude=Observation:subject"))
    assert sorted(name for event in found for name in about(event)) == sorted(
        [f"Patient/{ward.id}", f"Patient/{other.id}"]
    )


def test_each_change_is_told_with_the_version_that_it_made(web: httpx.Client, ward: Ward) -> None:
    address = f"Observation/{ward.observation}"
    body = web.get(address).json()
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    done = {
        "update": web.put(address, json=body),
        "patch": web.patch(address, json=patch, headers={"Content-Type": "application/json-patch+json"}),
        "delete": web.delete(address),
    }
    for version, (kind, answer) in enumerate(done.items(), 2):
        (event,) = of_request(web, answer)
        assert kinds([event]) == [kind]
        assert about(event) == [f"{address}/_history/{version}", f"Patient/{ward.id}"], "a deletion knows whose it was"


def test_a_create_names_the_patient_however_little_the_answer_says(web: httpx.Client, ward: Ward) -> None:
    body = {"resourceType": "Condition", "subject": {"reference": f"Patient/{ward.id}"}}
    answer = web.post("Condition", json=body, headers={"Prefer": "return=minimal"})
    (event,) = of_request(web, answer)
    made = answer.headers["Location"].removeprefix(f"{web.base_url}".rstrip("/") + "/")
    assert kinds([event]) == ["create"]
    assert about(event) == [made, f"Patient/{ward.id}"]


def test_a_record_moved_to_another_patient_is_told_to_both(web: httpx.Client, ward: Ward) -> None:
    other = Ward(web)
    body = web.get(f"Observation/{ward.observation}").json() | {"subject": {"reference": f"Patient/{other.id}"}}
    found = of_request(web, web.put(f"Observation/{ward.observation}", json=body))
    assert {name for event in found for name in about(event) if name.startswith("Patient")} == {
        f"Patient/{ward.id}",
        f"Patient/{other.id}",
    }


def test_conditional_changes_are_told_by_what_they_changed(web: httpx.Client, ward: Ward) -> None:
    mark = uuid4().hex
    body = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "identifier": [{"value": mark}]}
    body["subject"] = {"reference": f"Patient/{ward.id}"}
    once = web.post("Observation", json=body, headers={"If-None-Exist": f"identifier={mark}"})
    again = web.post("Observation", json=body, headers={"If-None-Exist": f"identifier={mark}"})
    changed = web.put(f"Observation?identifier={mark}", json=body)
    gone = web.delete(f"Observation?identifier={mark}")
    name = f"Observation/{once.json()['id']}"
    for answer, kind, version in ((once, "create", 1), (again, "read", 1), (changed, "update", 2), (gone, "delete", 3)):
        (event,) = of_request(web, answer)
        assert kinds([event]) == [kind]
        assert about(event) == [f"{name}/_history/{version}", f"Patient/{ward.id}"]


def test_every_entry_of_a_transaction_is_told_with_links_that_were_settled(web: httpx.Client, ward: Ward) -> None:
    full_url = f"urn:uuid:{uuid4()}"
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": full_url,
                "resource": {"resourceType": "Patient"},
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {"resourceType": "Condition", "subject": {"reference": full_url}},
                "request": {"method": "POST", "url": "Condition"},
            },
            {"request": {"method": "DELETE", "url": f"Observation/{ward.observation}"}},
            {"request": {"method": "GET", "url": f"Patient/{ward.id}"}},
        ],
    }
    answer = web.post("", json=bundle)
    assert answer.status_code == 200
    made = [entry["response"].get("location", "") for entry in answer.json()["entry"]]
    patient = made[0].partition("/_history")[0]
    found = of_request(web, answer)
    assert sorted(kinds(found)) == ["create", "create", "delete", "read", "transaction"]
    by_first = {about(event)[0]: about(event) for event in found if about(event)}
    assert by_first[made[0]] == [made[0], patient]
    assert by_first[made[1]] == [made[1], patient]
    deleted = f"Observation/{ward.observation}/_history/2"
    assert by_first[deleted] == [deleted, f"Patient/{ward.id}"]


def test_every_entry_of_a_batch_is_told_those_that_failed_too(web: httpx.Client, ward: Ward) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": f"Observation/{ward.observation}"}},
            {"request": {"method": "GET", "url": "Observation/never-was"}},
            {"request": {"method": "DELETE", "url": f"Observation/{ward.observation}"}},
        ],
    }
    found = of_request(web, web.post("", json=bundle))
    assert sorted(kinds(found)) == ["batch", "delete", "read", "read"]
    (failed,) = [event for event in found if event["outcome"] != "0"]
    assert (failed["outcome"], failed["outcomeDesc"]) == ("4", "404 HS-READ-NOT-FOUND")


def test_operations_are_told_with_whom_they_showed(web: httpx.Client, ward: Ward) -> None:
    (event,) = of_request(web, web.get(f"Patient/{ward.id}/$everything"))
    assert kinds([event]) == ["operation"]
    assert f"Patient/{ward.id}" in about(event)


def test_a_graphql_query_is_told_with_its_words(web: httpx.Client, ward: Ward) -> None:
    body = {"query": f'{{ Patient(id: "{ward.id}") {{ id }} }}'}
    (event,) = of_request(web, web.post("$graphql", json=body))
    assert kinds([event]) == ["operation"]
    assert ward.id in asked(event)


def test_errors_are_told_with_their_key_and_addresses_that_are_none_are_not(web: httpx.Client) -> None:
    (event,) = of_request(web, web.get("Patient/never-was"))
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "404 HS-READ-NOT-FOUND")
    (event,) = of_request(web, web.post("Patient", json={"resourceType": "Patient", "nonsense": 1}))
    assert event["outcome"] == "4"
    assert event["outcomeDesc"].startswith("400 HS-VAL")
    assert of_request(web, web.get("Patient/1/2/3")) == []
    assert of_request(web, web.get("metadata")) == []


def test_a_patient_that_links_to_another_does_not_tell_the_other(web: httpx.Client, ward: Ward) -> None:
    other = Ward(web)
    body = {
        "resourceType": "Patient",
        "id": ward.id,
        "link": [{"other": {"reference": f"Patient/{other.id}"}, "type": "seealso"}],
    }
    for answer in (web.put(f"Patient/{ward.id}", json=body), web.get(f"Patient/{ward.id}")):
        assert {name.partition("/_history")[0] for event in of_request(web, answer) for name in about(event)} == {
            f"Patient/{ward.id}"
        }


def test_binary_contents_are_told_by_their_security_context(web: httpx.Client, ward: Ward) -> None:
    headers = {"Content-Type": "image/png", "X-Security-Context": f"Patient/{ward.id}"}
    made = web.post("Binary", content=b"\x89PNG" * 10, headers=headers)
    read = web.get(made.headers["Location"], headers={"Accept": "image/png"})
    assert read.content == b"\x89PNG" * 10
    for answer, kind in ((made, "create"), (read, "vread")):
        (event,) = of_request(web, answer)
        assert kinds([event]) == [kind]
        assert about(event)[-1] == f"Patient/{ward.id}"


def test_everything_but_the_trail_itself_is_in_feeds_of_all_types(web: httpx.Client, ward: Ward) -> None:
    assert events(web, patient=f"Patient/{ward.id}")
    for path in ("_history?_count=1000", "?_count=1000", f"Patient/{ward.id}/$everything"):
        page = web.get(path).json()
        assert page["entry"]
        assert "AuditEvent" not in {entry.get("resource", {}).get("resourceType") for entry in page["entry"]}
    asked_for = web.get(f"Patient/{ward.id}/$everything?_type=AuditEvent").json()
    assert "AuditEvent" in {entry["resource"]["resourceType"] for entry in asked_for["entry"]}
    assert web.get("AuditEvent/_history?_count=1").json()["entry"]


def test_reading_the_trail_is_on_the_trail(web: httpx.Client, ward: Ward) -> None:
    (event,) = of_request(web, web.get("AuditEvent?_count=1&action=C"))
    assert kinds([event]) == ["search-type"]


def test_what_is_included_and_what_is_in_a_compartment_is_caught_up(web: httpx.Client, ward: Ward) -> None:
    web.get(f"Observation/{ward.observation}")
    for path in (f"Patient/{ward.id}/AuditEvent", f"Patient?_id={ward.id}&_revinclude=AuditEvent:patient"):
        page = web.get(path).json()
        told = [e["resource"] for e in page["entry"] if e["resource"]["resourceType"] == "AuditEvent"]
        assert any(kinds([event]) == ["read"] for event in told)


def test_the_ledger_tells_a_patient_who_saw_what(web: httpx.Client, ward: Ward) -> None:
    web.get(f"Observation/{ward.observation}")
    web.get(f"Condition?patient={ward.id}")
    answer = web.get(f"Patient/{ward.id}/$access-ledger")
    assert answer.status_code == 200, answer.text
    rows = [{part["name"]: part for part in row["part"]} for row in answer.json()["parameter"]]
    told = [row["what"]["valueString"] for row in rows]
    assert told[0] == "Searched Condition"
    assert {"Read Observation", "Created Observation", "Changed Patient"} <= set(told)
    read = rows[told.index("Read Observation")]
    assert read["resource"]["valueReference"]["reference"] == f"Observation/{ward.observation}/_history/1"
    assert read["refused"]["valueBoolean"] is False
    moments = [row["when"]["valueInstant"] for row in rows]
    assert moments == sorted(moments, reverse=True)


def test_the_ledger_comes_in_pages_and_between_days(web: httpx.Client, ward: Ward) -> None:
    for _ in range(3):
        web.get(f"Observation/{ward.observation}")
    seen: list[str] = []
    cursor = ""
    for _ in range(20):
        page = web.get(f"Patient/{ward.id}/$access-ledger?_count=2&end=2999{cursor}").json()["parameter"]
        seen += [p["valueReference"]["reference"] for row in page for p in row.get("part", []) if p["name"] == "event"]
        following = next((row["valueString"] for row in page if row["name"] == "next"), None)
        if following is None or len(seen) > 30:
            break
        cursor = f"&_cursor={following}"
    assert len(seen) >= 5
    assert len(seen) == len(set(seen))
    assert "parameter" not in web.get(f"Patient/{ward.id}/$access-ledger?start=2999").json()
    assert web.get("Patient/never-was/$access-ledger").status_code == 404
    assert web.get(f"Patient/{ward.id}/$access-ledger?nonsense=1").status_code == 400


CONFIRMED = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}


def test_a_purge_of_a_patient_leaves_the_trail_whole(web: httpx.Client, ward: Ward) -> None:
    web.get(f"Observation/{ward.observation}")
    before = {event["id"]: event for event in events(web, patient=f"Patient/{ward.id}")}
    answer = web.post(f"Patient/{ward.id}/$purge", json=CONFIRMED)
    assert answer.status_code == 200, answer.text
    assert {"name": "verified", "valueBoolean": True} in answer.json()["parameter"]
    assert web.get(f"Patient/{ward.id}").status_code == 404
    after = {event["id"]: event for event in events(web, patient=f"Patient/{ward.id}")}
    assert {name: after.get(name) for name in before} == before
    assert len(before) >= 3


def test_nobody_makes_changes_or_removes_what_the_trail_makes(web: httpx.Client, ward: Ward) -> None:
    event = events(web, patient=f"Patient/{ward.id}")[0]
    address, label = f"AuditEvent/{event['id']}", {"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}
    ahead = event | {"id": "audit-9999999999-0000-00000"}
    entry = {"resource": event, "request": {"method": "PUT", "url": address}}
    patch = [{"op": "replace", "path": "/outcome", "value": "8"}]
    attempts = (
        web.put(address, json=event),
        web.put(f"AuditEvent/{ahead['id']}", json=ahead),
        web.patch(address, json=patch, headers={"Content-Type": "application/json-patch+json"}),
        web.delete(address),
        web.delete(f"AuditEvent?_id={event['id']}"),
        web.put(f"AuditEvent?_id={event['id']}", json=event),
        web.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]}),
        web.post(f"{address}/$meta-add", json={"resourceType": "Parameters", "parameter": [label]}),
        web.post(f"{address}/$expunge", json=CONFIRMED),
    )
    for answer in attempts:
        assert answer.status_code == 405, answer.text
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-AUDIT-KEPT"
    everything = {"name": "everything", "valueBoolean": True}
    parameters = {"resourceType": "Parameters", "parameter": [*CONFIRMED["parameter"], everything]}
    assert web.post("AuditEvent/$expunge", json=parameters).status_code == 200
    assert web.get(address).json() == event


def test_other_systems_may_send_their_own_audit_events(web: httpx.Client, ward: Ward) -> None:
    event = events(web, patient=f"Patient/{ward.id}")[0]
    own = {name: value for name, value in event.items() if name not in ("id", "meta")}
    answer = web.post("AuditEvent", json=own)
    assert answer.status_code == 201
    assert not answer.json()["id"].startswith("audit-")


@pytest.fixture
def guarded(make_server: Callable[..., InProcessServer]) -> httpx.Client:
    server = make_server(audit="on", auth="on")
    token = server.settings.access_token_file.read_text().strip()
    server.client.headers["X-Token"] = token
    return server.client


def test_a_request_without_a_token_is_told_as_a_refusal_and_shows_nothing(guarded: httpx.Client) -> None:
    token = {"Authorization": f"Bearer {guarded.headers['X-Token']}"}
    refused = guarded.get("Patient/somebody")
    assert refused.status_code == 401
    answer = guarded.get("AuditEvent?outcome=4", headers=token)
    (entry,) = answer.json()["entry"]
    event = entry["resource"]
    assert (event["outcome"], event["outcomeDesc"]) == ("4", "401 HS-AUTH")
    assert event["entity"][-1]["what"]["identifier"]["value"] == refused.headers["x-request-id"]


def test_no_health_data_gets_into_the_log(
    audited: InProcessServer, ward: Ward, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = f"Secretname{uuid4().hex}"
    audited.client.get(f"Patient?family={secret}")
    audited.client.get("AuditEvent?_count=1")
    out = capfd.readouterr()
    assert secret not in caplog.text + out.out + out.err
