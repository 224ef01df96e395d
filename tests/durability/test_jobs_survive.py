"""`kill -9` of server and mongod in the midst of background jobs: after the next start they end by themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from benchmarks.server import Server
from tests.durability.writers import SYSTEM, resource_of

CONFIRM = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}
PORTION = 500
LEASE_S = 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a data folder of its own, which takes over the jobs of a dead one after two seconds."""
    # The trail would add AuditEvents, as many as it has time for, to what is counted here.
    with Server(tmp_path / "data", audit="off", job_lease_s=LEASE_S) as running:
        yield running


class Rows:
    """The rows of jobs, as they stand in the database: looking at them asks the server nothing."""

    def __init__(self, server: Server) -> None:
        self._client = MongoClient[dict[str, Any]](server.mongodb_uri())
        self.jobs = self._client["healthsphere"]["_jobs"]

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def of(self, kind: str) -> dict[str, Any]:
        row = self.jobs.find_one({"kind": kind}, {"result": 0})
        assert row is not None
        return row

    def ended(self, *kinds: str, within_s: float) -> list[dict[str, Any]]:
        deadline = time.monotonic() + within_s
        while any(self.of(kind)["state"] in ("waiting", "active") for kind in kinds):
            assert time.monotonic() < deadline, [self.of(kind) for kind in kinds]
            time.sleep(0.1)
        return [self.of(kind) for kind in kinds]


def put_all(server: Server, resources: list[dict[str, Any]]) -> None:
    for start in range(0, len(resources), PORTION):
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in resources[start : start + PORTION]
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        answer = httpx.post(server.base_url, json=bundle, timeout=120)
        assert {entry["response"]["status"][:3] for entry in answer.json()["entry"]} == {"201"}


def filled(server: Server, count: int) -> None:
    """Two patients with so many observations each, and resources of others that name the first."""
    rows = []
    for who in ("gone", "stays"):
        rows.append({**resource_of("Patient", who), "id": who})
        for n in range(count):
            subject = {"reference": f"Patient/{who}"}
            rows.append({**resource_of("Observation", f"{who}-{n}"), "id": f"{who}-{n}", "subject": subject})
    members = [{"entity": {"reference": f"Patient/{who}"}} for who in ("gone", "stays")]
    group = {"type": "person", "actual": True, "member": members}
    rows += [{"resourceType": "Group", "id": f"g-{n}", **group} for n in range(count // 10)]
    put_all(server, rows)


def started(server: Server, path: str, **sent: Any) -> None:
    answer = httpx.post(f"{server.base_url}/{path}", timeout=60, **sent)
    assert answer.status_code == 202, answer.text


def killed(server: Server, kind: str, *, after: int) -> bool:
    """Kill everything when a job has got on by so much; False, and nothing is killed, when it was quicker."""
    with Rows(server) as rows:
        deadline = time.monotonic() + 60
        enough = rows.of(kind)["done"] + after
        while (row := rows.of(kind))["done"] < enough and row["state"] == "active":
            assert time.monotonic() < deadline, row
            time.sleep(0.002)
    if row["state"] != "active":
        return False
    server.kill()
    return True


def total(server: Server, query: str) -> int:
    number: int = httpx.get(f"{server.base_url}/{query}&_summary=count", timeout=60).json()["total"]
    return number


def proven(server: Server, count: int) -> None:
    """The purge has left nothing, and the reindex has left nothing out."""
    for address in ("Patient/gone", "Observation/gone-0", f"Observation/gone-{count - 1}"):
        assert httpx.get(f"{server.base_url}/{address}").status_code == 404
        assert httpx.get(f"{server.base_url}/{address}/_history").status_code == 404
    assert total(server, "Observation?_id:missing=false") == count
    assert total(server, f"Observation?identifier={SYSTEM}|stays-{count - 1}") == 1
    assert total(server, "Observation?subject=Patient/stays") == count
    assert total(server, "Group?member=Patient/gone") == 0
    report = httpx.get(f"{server.base_url}/$purge-status?job={purge_of(server)}").json()["parameter"]
    removed = next(row["part"] for row in report if row["name"] == "removed")
    counts = {part["name"]: part["valueInteger"] for part in removed}
    assert counts == {"Observation": count, "Patient": 1}
    assert next(row["valueBoolean"] for row in report if row["name"] == "verified")


def purge_of(server: Server) -> str:
    with Rows(server) as rows:
        return str(rows.of("purge")["_id"])


def all_unindexed(server: Server) -> None:
    """Take the index entries away, so that what is found later was indexed by the job."""
    with Rows(server) as rows:
        rows.jobs.database["Observation"].update_many({}, {"$set": {"x": {"identifier": ["=lost"]}}})


@pytest.mark.server
def test_jobs_that_were_killed_end_by_themselves_after_the_next_start(server: Server) -> None:
    count = 1500
    filled(server, count)
    started(server, "Patient/gone/$purge", json=CONFIRM, headers={"Prefer": "respond-async"})
    with Rows(server) as rows:
        while not rows.of("purge")["kept"].get("pages"):
            time.sleep(0.005)
    all_unindexed(server)
    started(server, "$reindex")
    assert killed(server, "purge", after=1)
    server.start()
    with Rows(server) as rows:
        purge, reindex = rows.ended("purge", "reindex", within_s=30)
    assert (purge["state"], reindex["state"]) == ("completed", "completed")
    assert purge["lease"]["term"] == 2
    proven(server, count)


@pytest.mark.server
@pytest.mark.slow
def test_jobs_that_are_killed_again_and_again_at_any_moment_end_complete(server: Server) -> None:
    count = 3000
    filled(server, count)
    all_unindexed(server)
    started(server, "$reindex")
    died(server, "reindex", times=2, every=1000)
    with Rows(server) as rows:
        assert rows.of("reindex")["done"] == 6302
    started(server, "Patient/gone/$purge", json=CONFIRM, headers={"Prefer": "respond-async"})
    died(server, "purge", times=2, every=700)
    proven(server, count)


def died(server: Server, kind: str, *, times: int, every: int) -> None:
    """Kill everything each time a job has got on by so much, and start again, until the job has ended."""
    deaths = 0
    while killed(server, kind, after=every):
        deaths += 1
        server.start()
    assert deaths >= times
    with Rows(server) as rows:
        row = rows.of(kind)
        assert row["state"] == "completed"
        assert row["lease"]["term"] in (deaths, deaths + 1)  # it may have ended in the moment of the last kill
