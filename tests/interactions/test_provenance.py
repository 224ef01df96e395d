"""`X-Provenance`: stored with the write that it tells about, in one transaction, or nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.conftest import InProcessServer

Json = dict[str, Any]
PROVENANCE: Json = {
    "resourceType": "Provenance",
    "recorded": "2026-11-20T09:30:00Z",
    "agent": [{"who": {"display": "Dr. Müller's app"}}],
}
HEADER = {"X-Provenance": json.dumps(PROVENANCE, ensure_ascii=False).encode()}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}


def patient(**more: Any) -> Json:
    return {"resourceType": "Patient", **more}


def told(client: httpx.Client, reference: str) -> list[list[str]]:
    """The targets of the Provenances about a resource, oldest first."""
    page = client.get(f"Provenance?target={reference}&_sort=_lastUpdated&_count=100").json()
    return [[t["reference"] for t in entry["resource"]["target"]] for entry in page.get("entry", [])]


def test_every_way_to_change_a_resource_stores_where_it_comes_from(client: httpx.Client) -> None:
    made = client.post("Patient", json=patient(), headers=HEADER)
    assert made.status_code == 201, made.text
    address = f"Patient/{made.json()['id']}"
    body = made.json() | {"gender": "female"}
    assert client.put(address, json=body, headers=HEADER).status_code == 200
    patch = [{"op": "replace", "path": "/gender", "value": "other"}]
    assert client.patch(address, json=patch, headers=HEADER | JSON_PATCH).status_code == 200
    assert client.delete(address, headers=HEADER).status_code == 204
    assert told(client, address) == [[f"{address}/_history/{version}"] for version in (1, 2, 3, 4)]
    stored = client.get(f"Provenance?target={address}&_count=1").json()["entry"][0]["resource"]
    assert stored["agent"] == PROVENANCE["agent"], "UTF-8 in the header comes back as it was"
    assert stored["recorded"] == PROVENANCE["recorded"]


def test_conditional_changes_store_it_once_and_only_when_they_change_something(client: httpx.Client) -> None:
    mark = uuid4().hex
    body = patient(identifier=[{"value": mark}])
    once = client.post("Patient", json=body, headers=HEADER | {"If-None-Exist": f"identifier={mark}"})
    address = f"Patient/{once.json()['id']}"
    again = client.post("Patient", json=body, headers=HEADER | {"If-None-Exist": f"identifier={mark}"})
    assert (once.status_code, again.status_code) == (201, 200)
    assert client.put(f"Patient?identifier={mark}", json=body, headers=HEADER).status_code == 200
    patch = [{"op": "add", "path": "/gender", "value": "other"}]
    assert client.patch(f"Patient?identifier={mark}", json=patch, headers=HEADER | JSON_PATCH).status_code == 200
    assert client.delete(f"Patient?identifier={mark}", headers=HEADER).status_code == 204
    assert client.delete(f"Patient?identifier={mark}", headers=HEADER).status_code == 204
    assert told(client, address) == [[f"{address}/_history/{version}"] for version in (1, 2, 3, 4)]


def test_one_tells_about_all_that_a_transaction_has_written(client: httpx.Client) -> None:
    old = client.post("Patient", json=patient()).json()["id"]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": patient(), "request": {"method": "POST", "url": "Patient"}},
            {"resource": patient(), "request": {"method": "POST", "url": "Patient"}},
            {"request": {"method": "DELETE", "url": f"Patient/{old}"}},
            {"request": {"method": "GET", "url": "Patient?_count=1"}},
        ],
    }
    answer = client.post("", json=bundle, headers=HEADER)
    assert answer.status_code == 200, answer.text
    made = [entry["response"]["location"] for entry in answer.json()["entry"][:2]]
    assert told(client, f"Patient/{old}") == [[f"Patient/{old}/_history/2", *made]]


def test_a_cascade_tells_about_all_that_went(client: httpx.Client) -> None:
    root = client.post("Patient", json=patient()).json()["id"]
    condition = {"resourceType": "Condition", "subject": {"reference": f"Patient/{root}"}}
    referrer = client.post("Condition", json=condition).json()["id"]
    answer = client.delete(f"Patient/{root}?_cascade=delete", headers=HEADER)
    assert answer.status_code == 200
    assert told(client, f"Patient/{root}") == [[f"Patient/{root}/_history/2", f"Condition/{referrer}/_history/2"]]


def test_a_content_of_a_binary_has_its_source_too(client: httpx.Client) -> None:
    answer = client.post("Binary", content=b"x" * 10, headers=HEADER | {"Content-Type": "image/png"})
    assert answer.status_code == 201
    name = answer.headers["Location"].rpartition("/fhir/")[2]
    assert told(client, name.partition("/_history")[0]) == [[name]]


@pytest.mark.parametrize(
    ("header", "key", "words"),
    [
        ("{", "HS-PROVENANCE", "JSON"),
        ("", "HS-PROVENANCE", "JSON"),
        ("[]", "HS-PROVENANCE", "resourceType"),
        (json.dumps(patient()), "HS-PROVENANCE", "resourceType"),
        (json.dumps({**PROVENANCE, "target": [{"reference": "Patient/1"}]}), "HS-PROVENANCE", "target"),
        (json.dumps({"resourceType": "Provenance", "recorded": "2026-11-20T09:30:00Z"}), None, "agent"),
        (json.dumps({**PROVENANCE, "recorded": "yesterday"}), None, "recorded"),
        (json.dumps({**PROVENANCE, "nonsense": 1}), None, "nonsense"),
    ],
)
def test_a_header_that_cannot_be_stored_is_refused_and_nothing_is_written(
    client: httpx.Client, header: str, key: str | None, words: str
) -> None:
    mark = uuid4().hex
    body = patient(identifier=[{"value": mark}])
    headers = {"X-Provenance": header}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": body, "request": {"method": "POST", "url": "Patient"}}],
    }
    for answer in (
        client.post("Patient", json=body, headers=headers),
        client.post("Patient", json=body, headers=headers | {"If-None-Exist": f"identifier={mark}"}),
        client.put(f"Patient/{mark}", json=body | {"id": mark}, headers=headers),
        client.put(f"Patient?identifier={mark}", json=body, headers=headers),
        client.post("", json=bundle, headers=headers),
    ):
        assert answer.status_code == 400, answer.text
        issue = answer.json()["issue"][0]
        assert "X-Provenance" in issue["diagnostics"]
        assert words in json.dumps(issue)
        assert key is None or issue["details"]["coding"][0]["code"] == key
    assert client.get(f"Patient?identifier={mark}&_summary=count").json()["total"] == 0


def test_a_write_that_fails_leaves_no_provenance(client: httpx.Client) -> None:
    made = client.post("Patient", json=patient()).json()["id"]
    answer = client.put(f"Patient/{made}", json=patient(id=made), headers=HEADER | {"If-Match": 'W/"7"'})
    assert answer.status_code == 412
    invalid = client.put(f"Patient/{made}", json=patient(id=made, nonsense=1), headers=HEADER)
    assert invalid.status_code == 400
    assert "X-Provenance" not in invalid.text
    assert told(client, f"Patient/{made}") == []


def test_where_it_would_not_be_heeded_it_is_refused(client: httpx.Client) -> None:
    made = client.post("Patient", json=patient()).json()["id"]
    batch = {"resourceType": "Bundle", "type": "batch", "entry": []}
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    for answer in (
        client.post("", json=batch, headers=HEADER),
        client.post(f"Patient/{made}/$meta-add", json=meta, headers=HEADER),
    ):
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-PROVENANCE-PLACE"


def test_of_many_patches_at_once_each_has_its_own(server: InProcessServer) -> None:
    client = server.client
    made = client.post("Patient", json=patient(name=[{"given": ["a"]}])).json()["id"]
    patch = [{"op": "add", "path": "/name/0/given/-", "value": "b"}]
    answers = server.gather(
        *(client.build_request("PATCH", f"Patient/{made}", json=patch, headers=HEADER | JSON_PATCH) for _ in range(5))
    )
    assert [answer.status_code for answer in answers] == [200] * 5
    assert len(told(client, f"Patient/{made}")) == 5
    assert len(client.get(f"Patient/{made}").json()["name"][0]["given"]) == 6


def test_where_references_are_kept_whole_a_provenance_holds_back_no_deletion(
    make_server: Callable[..., InProcessServer],
) -> None:
    client = make_server(referential_integrity="refuse").client
    made = client.post("Patient", json=patient(), headers=HEADER).json()["id"]
    assert client.delete(f"Patient/{made}", headers=HEADER).status_code == 204
    assert told(client, f"Patient/{made}") == [[f"Patient/{made}/_history/{version}"] for version in (1, 2)]
