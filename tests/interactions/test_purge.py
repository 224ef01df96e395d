"""`Patient/$purge` and `$expunge`: what is removed, what stays, and the proof."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from fhir_server.interactions.purging.victims import Victims

CONFIRM = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}


class World:
    """Two patients with what is theirs, in a database of its own."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.client: httpx.Client = server.client
        self.one, self.two = f"Patient/{uuid.uuid4().hex}", f"Patient/{uuid.uuid4().hex}"
        for address in (self.one, self.two):
            self.put(address, name=[{"family": "A"}])
            self.put(address, name=[{"family": "B"}])
        self.own = self.made("Observation", status="final", code={"text": "x"}, subject=self.ref(self.one))
        self.moved = self.made("Observation", status="final", code={"text": "x"}, subject=self.ref(self.one))
        self.put(self.moved, status="final", code={"text": "x"}, subject=self.ref(self.two))
        self.dropped = self.made("Observation", status="final", code={"text": "x"}, subject=self.ref(self.one))
        self.client.delete(self.dropped)
        members = [{"entity": self.ref(self.one)}, {"entity": self.ref(self.two)}]
        self.group = self.made("Group", type="person", actual=True, member=members)
        self.basic = self.made(
            "Basic",
            code={"text": "x"},
            text={
                "status": "generated",
                "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{self.own}">see</a></div>',
            },
            extension=[{"url": "http://x.example", "valueReference": {**self.ref(self.own), "display": "Mrs A"}}],
        )
        self.file = self.made("Binary", contentType="text/plain", data="aGVsbG8=")
        self.shared = self.made("Binary", contentType="text/plain", data="aGVsbG8=")
        for patient, files in ((self.one, [self.file, self.shared]), (self.two, [self.shared])):
            content = [{"attachment": {"url": url}} for url in files]
            self.made("DocumentReference", status="current", subject=self.ref(patient), content=content)

    @staticmethod
    def ref(address: str) -> dict[str, str]:
        return {"reference": address}

    def put(self, address: str, **content: Any) -> None:
        name, _, logical_id = address.partition("/")
        answer = self.client.put(address, json={"resourceType": name, "id": logical_id, **content})
        assert answer.status_code in (200, 201), answer.text

    def made(self, name: str, **content: Any) -> str:
        address = f"{name}/{uuid.uuid4().hex}"
        self.put(address, **content)
        return address

    def bodies(self) -> list[tuple[str, bytes]]:
        """Everything that the database holds, whatever it is."""
        settings = self.server.settings
        with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
            database = client[settings.mongodb_database]
            return [
                (f"{name} {row['_id']}", repr(row).encode())
                for name in database.list_collection_names()
                if name != "_locks"
                for row in database[name].find()
            ]


@pytest.fixture
def world(make_server: Callable[..., Any]) -> World:
    return World(make_server())


def counted(report: dict[str, Any], name: str) -> dict[str, int]:
    rows = [row for row in report["parameter"] if row["name"] == name]
    return {p["name"]: p["valueInteger"] for row in rows for p in row["part"]}


def test_without_confirmation_nothing_is_removed_and_the_extent_is_told(world: World) -> None:
    answer = world.client.post(f"{world.one}/$purge", json={"resourceType": "Parameters"})
    assert answer.status_code == 422
    told = [issue["diagnostics"] for issue in answer.json()["issue"]]
    assert told[0].startswith("This would remove 5 resources")
    assert told[1:] == ["Binary: 1", "DocumentReference: 1", "Observation: 2", "Patient: 1"]
    assert world.client.get(world.one).status_code == 200


def test_a_purge_leaves_no_trace_of_the_patient_anywhere(world: World) -> None:
    answer = world.client.post(f"{world.one}/$purge", json=CONFIRM)
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert next(row["valueBoolean"] for row in report["parameter"] if row["name"] == "verified")
    assert counted(report, "removed") == {"Binary": 1, "DocumentReference": 1, "Observation": 2, "Patient": 1}
    assert counted(report, "redacted") == {"Group": 1, "Basic": 1}
    assert counted(report, "stripped")["Observation"] == 1
    digests = {row["valueString"] for row in report["parameter"] if row["name"] == "sha256"}
    assert hashlib.sha256(world.one.encode()).hexdigest() in digests
    for address in (world.one, world.own, world.dropped, world.file):
        assert world.client.get(address).status_code == 404, address
        assert world.client.get(f"{address}/_history").status_code == 404
        assert world.client.get(f"{address}/_history/1").status_code == 404
    for needle in (world.one, world.own, world.dropped, world.file):
        logical_id = needle.partition("/")[2].encode()
        assert [where for where, body in world.bodies() if logical_id in body or logical_id in where.encode()] == []


def test_a_purge_leaves_others_as_they_are(world: World) -> None:
    before = {a: world.client.get(a).content for a in (world.two, world.moved, world.shared)}
    assert world.client.post(f"{world.one}/$purge", json=CONFIRM).status_code == 200
    assert {a: world.client.get(a).content for a in before} == before
    assert [m["entity"] for m in world.client.get(world.group).json()["member"]] == [
        {"display": "(removed)"},
        world.ref(world.two),
    ]
    assert world.client.get(f"{world.two}/_history").json()["total"] == 2
    # The version that belonged to the other patient is gone; the current one is readable as before.
    assert world.client.get(f"{world.moved}/_history/1").status_code == 404
    assert world.client.get(f"{world.moved}/_history/2").status_code == 200


def test_a_purge_as_a_job_is_polled_until_it_tells_the_same_report(world: World) -> None:
    answer = world.client.post(f"{world.one}/$purge", json=CONFIRM, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    address = answer.headers["Content-Location"]
    for _ in range(200):
        answer = world.client.get(address)
        if answer.status_code != 202:
            break
        time.sleep(0.02)
    assert answer.status_code == 200
    assert counted(answer.json(), "removed")["Patient"] == 1
    assert world.client.get(world.one).status_code == 404
    assert world.client.get("$purge-status?job=nonsense").status_code == 404
    # A second call finds nobody to purge.
    assert world.client.post(f"{world.one}/$purge", json=CONFIRM).status_code == 404


def test_a_job_whose_worker_died_is_taken_up_by_whoever_asks(world: World) -> None:
    settings = world.server.settings
    wanted = {"scope": "patient", "id": world.one.partition("/")[2]}
    # It had removed what leads to the file already.
    found = {name: [logical_id] for name, _, logical_id in (a.partition("/") for a in (world.file, world.one))}
    row = {"_id": "dead", "kind": "purge", "state": "running", "wanted": wanted, "lease": 1, "step": "resources"}
    row["found"] = found
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        client[settings.mongodb_database]["_purges"].insert_one(row)
    for _ in range(200):
        answer = world.client.get("$purge-status?job=dead")
        if answer.status_code != 202:
            break
        time.sleep(0.02)
    assert answer.status_code == 200
    assert counted(answer.json(), "removed") == {"Binary": 1, "Patient": 1}
    assert world.client.get(world.one).status_code == 404


def test_expunging_one_resource_removes_it_and_what_names_it(world: World) -> None:
    assert world.client.post(f"{world.own}/$expunge").status_code == 422
    report = world.client.post(f"{world.own}/$expunge", json=CONFIRM).json()
    assert counted(report, "removed") == {"Observation": 1}
    assert world.client.get(world.own).status_code == 404
    assert world.client.get(world.one).status_code == 200
    basic = world.client.get(world.basic).json()
    assert basic["extension"][0]["valueReference"] == {"display": "(removed)"}
    assert world.own not in basic["text"]["div"]


def test_expunging_a_type_takes_the_deleted_or_everything(world: World) -> None:
    report = world.client.post("Observation/$expunge", json=CONFIRM).json()
    assert counted(report, "removed") == {"Observation": 1}
    assert world.client.get(world.dropped).status_code == 404
    assert world.client.get("Observation?_summary=count").json()["total"] == 2
    everything = {"name": "everything", "valueBoolean": True}
    body = {**CONFIRM, "parameter": [*CONFIRM["parameter"], everything]}
    report = world.client.post("Observation/$expunge", json=body).json()
    assert counted(report, "removed") == {"Observation": 2}
    assert world.client.get("Observation?_summary=count").json()["total"] == 0


def test_an_id_can_be_used_again_from_version_one(world: World) -> None:
    world.client.post(f"{world.one}/$purge", json=CONFIRM)
    world.put(world.one, name=[{"family": "New"}])
    assert world.client.get(world.one).json()["meta"]["versionId"] == "1"


def test_what_does_not_exist_is_not_found_and_purging_is_no_get(world: World) -> None:
    assert world.client.post("Patient/never-was/$purge", json=CONFIRM).status_code == 404
    assert world.client.get(f"{world.one}/$purge?confirm=true").status_code == 405


def test_references_are_told_apart_by_their_whole_id() -> None:
    victims = Victims({"Patient": {"1"}})
    named = b'{"a":"Patient/1","b":"http://x/Patient/1/_history/2","c":"<a href=\\"Patient/1\\"/>"}'
    assert len(list(victims.named_in(named))) == 3
    assert list(victims.named_in(b'{"a":"Patient/12","b":"Patient/1.2","c":"XPatient/1","d":"Group/1"}')) == []
    assert victims.erased('<a href="Patient/1">Patient/12</a>') == '<a href="removed">Patient/12</a>'
