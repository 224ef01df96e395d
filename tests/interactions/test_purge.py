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
from fhir_server.jobs.job import first_row
from fhir_server.jobs.lease import Lease, LeaseLostError

#: What a purge of the first patient of a `World` reports.
REPORTED = {
    "removed": {"Binary": 1, "DocumentReference": 1, "Observation": 2, "Patient": 1},
    "versions": {"Observation": 1, "Patient": 1},
    "redacted": {"Group": 1, "Basic": 1},
    "stripped": {"Basic": 1, "Group": 1, "Observation": 1},
    "left": {},
}
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
    return World(make_server(job_lease_s=2))


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
    assert {name: counted(report, name) for name in REPORTED} == REPORTED
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
    assert address.startswith("http://test/fhir/$purge-status?job=")
    answer = polled(world, address)
    assert answer.status_code == 200
    assert counted(answer.json(), "removed")["Patient"] == 1
    assert world.client.get(world.one).status_code == 404
    assert world.client.get("$purge-status?job=nonsense").status_code == 404
    # A second call finds nobody to purge.
    assert world.client.post(f"{world.one}/$purge", json=CONFIRM).status_code == 404


def polled(world: World, address: str) -> httpx.Response:
    """The answer of a job that is asked for until it has ended."""
    deadline = time.monotonic() + 60
    while (answer := world.client.get(address)).status_code == 202:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)
    return answer


def test_a_job_whose_process_died_goes_on_by_itself_with_what_was_found_at_first(world: World) -> None:
    # It had removed what leads to the file already.
    found = [a.partition("/") for a in (world.file, world.one)]
    wanted = {"scope": "patient", "id": world.one.partition("/")[2]}
    row = {**first_row("purge", "x", wanted, 0), "_id": "dead", "state": "active", "kept": {"pages": 2}, "paged": True}
    pages = [{"_id": f"dead/{n:06}", "type": name, "ids": [i]} for n, (name, _, i) in enumerate(found)]
    settings = world.server.settings
    with MongoClient[dict[str, Any]](settings.mongodb_uri.get_secret_value()) as client:
        database = client[settings.mongodb_database]
        database["_job_pages"].insert_many(pages)
        database["_jobs"].insert_one(row)
        deadline = time.monotonic() + 30
        while database["_jobs"].find_one({"_id": "dead"}, {"state": 1}) != {"_id": "dead", "state": "completed"}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    answer = world.client.get("$purge-status?job=dead")
    assert answer.status_code == 200
    assert counted(answer.json(), "removed") == {"Binary": 1, "Patient": 1}
    assert world.client.get(world.one).status_code == 404


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_a_purge_that_dies_again_and_again_tells_in_the_end_what_one_in_one_go_tells(
    world: World, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """The process dies before or after each n-th time that something is kept; a portion is two documents."""
    for name in ("erase.PORTION", "victims.PORTION"):
        monkeypatch.setattr(f"fhir_server.interactions.purging.{name}", 2)
    monkeypatch.setattr("fhir_server.jobs.run.TELL_EVERY_S", 0.0)
    put, puts, deaths = Lease.put, 0, 0

    async def deadly(lease: Lease, fields: dict[str, Any]) -> None:
        nonlocal puts, deaths
        if "kept" not in fields:
            return await put(lease, fields)
        puts += 1
        dies = puts % (every + 1) == 0
        if not dies or deaths % 2:
            await put(lease, fields)
        if dies:
            deaths += 1
            await lease.release()  # as if it had run out
            raise LeaseLostError("dead")
        return None

    monkeypatch.setattr(Lease, "put", deadly)
    answer = world.client.post(f"{world.one}/$purge", json=CONFIRM, headers={"Prefer": "respond-async"})
    report = polled(world, answer.headers["Content-Location"]).json()
    assert deaths > 2
    assert {name: counted(report, name) for name in REPORTED} == REPORTED
    for needle in (world.one, world.own, world.dropped, world.file):
        logical_id = needle.partition("/")[2].encode()
        assert [where for where, body in world.bodies() if logical_id in body or logical_id in where.encode()] == []


def test_the_status_of_a_purge_tells_how_far_it_is_and_names_nobody(world: World) -> None:
    answer = world.client.post(f"{world.one}/$purge", json=CONFIRM, headers={"Prefer": "respond-async"})
    address = answer.headers["Content-Location"]
    answer = polled(world, address)
    (row,) = [row for row in answer.json()["parameter"] if row["name"] == "job"]
    job = {part["name"]: next(value for key, value in part.items() if key != "name") for part in row["part"]}
    assert job["status"] == "completed"
    assert job["started"] <= job["updated"] == job["finished"]
    assert 0 < job["done"] <= job["total"]
    assert job["subject"] == f"sha256:{hashlib.sha256(world.one.encode()).hexdigest()}"
    (listed,) = world.client.get("$purge-status").json()["parameter"]
    assert listed == row
    assert world.client.get(f"$reindex?job={job['id']}").status_code == 404


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
