"""`kill -9` of server and mongod in the midst of care: news, alerts and erasures end after the next start.

What was acknowledged happens: at least one mail and exactly one event of each thing that there is to tell, one alert of
each episode, an erasure to its last step.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient

from benchmarks.server import Server
from fhir_server.model.clock import instant_of, now_us
from smart_auth.accounts import Accounts
from smart_auth.store import AuthStore
from tests.resources.monitoring.conftest import UCUM, plan_of
from tests.resources.scheduling.conftest import CONSULTATION, at, hours, rules, service
from tests.smtp import Inbox, smtp_server

Json = dict[str, Any]

pytestmark = [pytest.mark.server, pytest.mark.slow]

LEASE_S = 2
DEATHS = 2


class SlowInbox(Inbox):
    """An SMTP server that takes its time, so that there is something to kill."""

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        await asyncio.sleep(0.1)
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, int]]:
    with smtp_server(SlowInbox()) as (taken, port):
        yield taken, port


@pytest.fixture
def server(tmp_path: Path, inbox: tuple[Inbox, int]) -> Iterator[Server]:
    """A server with accounts, whose mails leave by that SMTP server."""
    mail = {"smtp_host": "127.0.0.1", "smtp_port": inbox[1], "smtp_security": "none"}
    with Server(
        tmp_path / "data", auth="on", job_lease_s=LEASE_S, mail_from="HealthSphere <no-reply@example.org>", **mail
    ) as running:
        yield running


class Operator:
    """Asks a server as who runs it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {(server.data_dir / 'access-token').read_text().strip()}"}

    def put(self, resource: Json) -> None:
        address = f"{self.server.base_url}/{resource['resourceType']}/{resource['id']}"
        answer = httpx.put(address, json=resource, headers=self.headers, timeout=60)
        assert answer.status_code in (200, 201), answer.text

    def put_all(self, resources: list[Json]) -> None:
        entries = [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        answer = httpx.post(self.server.base_url, json=bundle, headers=self.headers, timeout=120)
        assert {entry["response"]["status"][:3] for entry in answer.json()["entry"]} <= {"200", "201"}, answer.text

    def post(self, path: str, content: Json | None = None, token: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else self.headers
        body = content or {"resourceType": "Parameters"}
        return httpx.post(f"{self.server.base_url}/{path}", json=body, headers=headers, timeout=60)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.server.base_url}/{path}", headers=self.headers, timeout=60)

    def found(self, resource_type: str, **query: str) -> list[Json]:
        answer = httpx.get(
            f"{self.server.base_url}/{resource_type}", params={**query, "_count": "1000"}, headers=self.headers
        ).json()
        return [row["resource"] for row in answer.get("entry", ())]

    def until_killed(self, things: list[Json], send: Callable[[Json], httpx.Response], after: int) -> list[Json]:
        """Send one after the other, and kill everything after some; those that were not acknowledged."""
        for number, thing in enumerate(things):
            if number == after:
                self.server.kill()
                return things[number:]
            assert send(thing).status_code in (200, 201)
        self.server.kill()
        return []

    def rows(self, collection: str) -> list[Json]:
        with MongoClient[Json](self.server.mongodb_uri()) as client:
            return list(client["healthsphere"][collection].find())


def eventually(done: Callable[[], bool], within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < deadline, "it did not come to its end"
        time.sleep(0.2)


def to_whom(mails: list[tuple[str, list[str], Message]]) -> Counter[str]:
    return Counter(recipient for _, recipients, _ in mails for recipient in recipients)


def test_what_there_is_to_tell_is_mailed_at_least_once_and_is_one_event(
    server: Server, inbox: tuple[Inbox, int]
) -> None:
    operator, taken = Operator(server), inbox[0]
    rule = rules(hours("00:00", "24:00"), service(CONSULTATION, 15), grid=15)
    operator.put({"resourceType": "Practitioner", "id": "d", "active": True})
    operator.put(
        {"resourceType": "Schedule", "id": "s", "extension": [rule], "actor": [{"reference": "Practitioner/d"}]}
    )
    people = [f"p{number}" for number in range(16)]
    mail = {name: f"{name}@example.org" for name in people}
    operator.put_all(
        [
            {"resourceType": "Patient", "id": name, "telecom": [{"system": "email", "value": mail[name]}]}
            for name in people
        ]
    )
    start = at(30, "00:00")
    bookings: list[Json] = [
        {
            "resourceType": "Appointment",
            "status": "pending",
            "serviceType": [CONSULTATION],
            "start": start.replace(hour=number // 4, minute=15 * (number % 4)).isoformat(),
            "participant": [
                {"actor": {"reference": actor}, "status": "accepted"} for actor in ("Practitioner/d", f"Patient/{name}")
            ],
        }
        for number, name in enumerate(people)
    ]
    left = bookings
    for _ in range(DEATHS):
        left = operator.until_killed(left, lambda one: operator.post("Appointment/$book", one), len(people) // DEATHS)
        server.start()
    assert left == []
    eventually(lambda: set(to_whom(taken.taken)) >= set(mail.values()))
    told = [row for row in operator.rows("_events") if row["person"].startswith("Patient/")]
    assert Counter((row["person"], row["kind"]) for row in told) == dict.fromkeys(
        [(f"Patient/{name}", "appointment-booked") for name in people], 1
    )
    assert {row["n"] for row in told} == {1}

    def settled() -> bool:
        rows = [row for row in operator.rows("_notifications") if row["person"].startswith("Patient/")]
        return [row["ways"].get("email", {}).get("status") for row in rows] == ["delivered"] * len(people)

    eventually(settled)
    assert max(to_whom(taken.taken).values()) <= 1 + DEATHS, "again only what a death came in between"


def test_a_breach_that_was_measured_before_a_death_raises_one_alert(server: Server) -> None:
    operator = Operator(server)
    people = [f"p{number}" for number in range(16)]
    operator.put_all([{"resourceType": "Patient", "id": name} for name in people])
    operator.put({"resourceType": "Practitioner", "id": "first"})
    for name in people:
        operator.put({**plan_of(f"Patient/{name}"), "id": name})
        assert operator.post(f"CarePlan/{name}/$back-test").status_code == 200
        operator.put({**operator.get(f"CarePlan/{name}").json(), "status": "active"})
    breaches: list[Json] = [
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "subject": {"reference": f"Patient/{name}"},
            "effectiveDateTime": instant_of(now_us()),
            "valueQuantity": {"value": 200, "system": UCUM, "code": "mm[Hg]"},
        }
        for name in people
    ]
    left = breaches
    for _ in range(DEATHS):
        left = operator.until_killed(left, lambda one: operator.post("Observation", one), len(people) // DEATHS)
        server.start()
    assert left == []
    kinds = ("DetectedIssue", "Flag", "Communication", "Task")
    eventually(lambda: all(len(operator.found(kind)) >= len(people) for kind in kinds))
    for kind in kinds:
        about = Counter(
            (one.get("subject") or one.get("for") or one.get("patient"))["reference"] for one in operator.found(kind)
        )
        assert about == {f"Patient/{name}": 1 for name in people}, kind
    assert len({one["identifier"][0]["value"] for one in operator.found("DetectedIssue")}) == len(people)


def test_an_erasure_that_is_killed_again_and_again_ends_complete_and_the_account_with_it(server: Server) -> None:
    operator, count = Operator(server), 1000
    patient = "Patient/gone"
    operator.put_all([{"resourceType": "Patient", "id": name} for name in ("gone", "stays")])
    for name in ("gone", "stays"):
        operator.put_all(
            [
                {
                    "resourceType": "Communication",
                    "id": f"{name}-{number}",
                    "status": "completed",
                    "subject": {"reference": f"Patient/{name}"},
                }
                for number in range(count)
            ]
        )
    store = AuthStore.connect(server.mongodb_uri(), "healthsphere")
    account = Accounts(store).add(
        email="gone@example.org", name="Ida Berg", role="patient", state="active", fhir_user=patient
    )
    store.close()
    token = server.token("user/*.cruds", "--user", patient)
    task = operator.post(f"{patient}/$request-erasure", token=token).json()["parameter"][0]["valueReference"][
        "reference"
    ]
    auditors = [server.token("user/*.cruds", "--user", f"Practitioner/{n}", "--role", "auditor") for n in "ab"]
    assert [operator.post(f"{task}/$approve-erasure", token=one).status_code for one in auditors] == [200, 200]
    deaths = 0
    while deaths < DEATHS and killed(operator, after=count // 3):
        deaths += 1
        server.start()
    assert deaths == DEATHS, "it was too quick to be killed"
    eventually(lambda: operator.get(task).json()["status"] in ("completed", "failed"))
    done = operator.get(task).json()
    assert done["status"] == "completed", done
    lines = {row["type"]["text"]: row for row in done["output"]}
    assert lines["removed"]["valueInteger"] == count + 1
    assert lines["accounts ended"]["valueInteger"] == 1
    assert len([row for row in done["output"] if row["type"]["text"] == "proof (sha256)"]) == 1
    for place in (patient, "Communication/gone-0", f"Communication/gone-{count - 1}"):
        assert operator.get(place).status_code == 404
        assert operator.get(f"{place}/_history").status_code == 404
    assert operator.get("Communication?_summary=count&subject=Patient/stays").json()["total"] == count
    assert operator.get("Communication?_summary=count&subject=Patient/gone").json()["total"] == 0
    store = AuthStore.connect(server.mongodb_uri(), "healthsphere")
    assert Accounts(store).row(account["_id"]) is None
    store.close()


def killed(operator: Operator, *, after: int) -> bool:
    """Kill everything when the erasure has got on by so much; False, and nothing is killed, when it was quicker."""
    with MongoClient[Json](operator.server.mongodb_uri()) as client:
        jobs = client["healthsphere"]["_jobs"]

        def row() -> Json:
            found = jobs.find_one({"kind": "erasure"}, {"result": 0})
            assert found is not None
            return found

        begun = row()["done"]
        deadline = time.monotonic() + 60
        while (there := row())["state"] in ("waiting", "active") and there["done"] < begun + after:
            assert time.monotonic() < deadline, there
            time.sleep(0.005)
    if there["state"] not in ("waiting", "active"):
        return False
    operator.server.kill()
    return True
