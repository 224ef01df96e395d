"""Erasure over HTTP: asked for, approved by two, carried out but for what is retained, proved."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from resources.erasure.words import CARRY_OUT, CODE, STATES, SYSTEM
from resources.export.archives import rows_of
from resources.notification import notify
from resources.notification.events import after, heads_of
from tests.conftest import InProcessServer
from tests.resources.document.conftest import DOCTOR, PATIENT, Clinic, make_clinic, people
from tests.resources.document.test_quarantine import sent, url_of
from tests.resources.told import Told

Json = dict[str, Any]
REASON = {"resourceType": "Parameters", "parameter": [{"name": "reason", "valueString": "an inquiry goes on"}]}
END = {
    "resourceType": "Parameters",
    "parameter": [{"name": "reason", "valueString": "it has ended"}, {"name": "end", "valueBoolean": True}],
}


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., InProcessServer]) -> Iterator[Clinic]:
    """With an audit trail, and two people who approve."""
    made = make_clinic(make_server, None, audit="on")
    for name in ("auditor-2", "auditor-3"):
        made.roles.add(name, "auditor")
    yield made
    made.server.close()


@pytest.fixture
def record(clinic: Clinic) -> Json:
    """A record of which something is kept by law, and a document of the patient's own."""
    treatment = {
        "resourceType": "Encounter",
        "id": "treated",
        "status": "finished",
        "class": {"code": "AMB"},
        "subject": {"reference": PATIENT},
        "period": {"start": "2026-01-01", "end": "2026-01-02"},
    }
    log = {
        "resourceType": "Observation",
        "id": "own-log",
        "status": "final",
        "code": {"text": "Weight"},
        "subject": {"reference": PATIENT},
        "performer": [{"reference": PATIENT}],
        "encounter": {"reference": "Encounter/treated"},
    }
    note = {"resourceType": "Communication", "id": "chat", "status": "completed", "subject": {"reference": PATIENT}}
    with clinic.as_("operator") as operator:
        for one in [*people(), treatment, log, note]:
            answer = operator.put(f"{one['resourceType']}/{one['id']}", json=one)
            assert answer.status_code in (200, 201), answer.text
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora:
        own = sent(ann, b"my own words")
        finding = sent(dora, b"a finding of the doctor")
    return {"own": own["id"], "own_url": url_of(own), "finding": finding["id"], "finding_url": url_of(finding)}


def values(answer: httpx.Response) -> dict[str, Json]:
    return {row["name"]: row for row in answer.json()["parameter"]}


def asked(clinic: Clinic) -> str:
    """Ask for the erasure; the address of the task."""
    with clinic.as_("ann") as ann:
        answer = ann.post(f"{PATIENT}/$request-erasure")
        assert answer.status_code == 201, answer.text
        return str(values(answer)["task"]["valueReference"]["reference"])


def ended(client: httpx.Client, task: str) -> Json:
    for _ in range(1200):
        found: Json = client.get(task).json()
        if found["status"] in ("completed", "failed"):
            return found
        time.sleep(0.05)
    raise AssertionError("the erasure did not end within a minute")


def withdrawn(clinic: Clinic, task: str) -> None:
    with clinic.as_("ann") as ann:
        found = ann.get(task).json()
        assert ann.put(task, json={**found, "status": "cancelled"}).status_code == 200


def test_a_record_is_erased_but_for_what_the_law_keeps(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann, clinic.as_("operator") as operator:
        begun = ann.post(f"{PATIENT}/$export-my-data")
        answer = ann.post(f"{PATIENT}/$request-erasure")
        told = answer.json()["parameter"]
        kinds = {row["part"][0]["valueCode"] for row in told if row["name"] == "retained"}
        assert kinds == {"Encounter", "DocumentReference"}
        assert values(answer)["export"]["valueUri"].endswith(f"{PATIENT}/$export-my-data")
        task = values(answer)["task"]["valueReference"]["reference"]
        for _ in range(600):
            if ann.get(begun.headers["Content-Location"]).status_code == 200:
                break
            time.sleep(0.05)
        assert clinic.as_("auditor").post(f"{task}/$approve-erasure").json()["status"] == "accepted"
        twice = clinic.as_("auditor").post(f"{task}/$approve-erasure")
        assert (twice.status_code, "HS-ERASURE-APART" in twice.text) == (403, True)
        assert operator.get("Communication/chat").status_code == 200
        second = clinic.as_("auditor-2").post(f"{task}/$approve-erasure")
        assert second.status_code == 200, second.text
        done = ended(operator, task)
        assert done["status"] == "completed", done
        for gone in (
            "Communication/chat",
            "Observation/own-log",
            f"DocumentReference/{record['own']}",
            record["own_url"],
        ):
            assert operator.get(gone).status_code == 404, gone
            assert operator.get(f"{gone}/_history/1").status_code == 404
        for there in ("Encounter/treated", f"DocumentReference/{record['finding']}", record["finding_url"], PATIENT):
            assert operator.get(there).status_code == 200, there
        patient = operator.get(PATIENT).json()
        assert patient["active"] is False
        lines = {row["type"]["text"]: row for row in done["output"]}
        assert len(lines["proof (sha256)"]["valueString"]) == 64
        retained = [row["valueString"] for row in done["output"] if row["type"]["text"] == "retained"]
        assert any("1 Encounter until 2036-01-03" in line for line in retained)
        assert ann.get(task).status_code == 200, "the patient reads what stays and why"
        assert (
            clinic.server.run(rows_of(clinic.server.context).all({"patient": PATIENT}, newest_by="until", limit=9))
            == []
        )
        events = operator.get("AuditEvent", params={"subtype": "urn:healthsphere:audit|erasure"}).json()
        assert lines["proof (sha256)"]["valueString"] in str(events)


def test_a_record_without_anything_to_keep_goes_as_a_whole(clinic: Clinic) -> None:
    context = clinic.server.context
    store = context.repository.store
    clinic.server.run(notify(context, "Patient/bob", "export-ready", "Patient/bob", key="before"))
    with clinic.as_("operator") as operator, clinic.as_("bob") as bob:
        task = values(bob.post("Patient/bob/$request-erasure"))["task"]["valueReference"]["reference"]
        for name in ("auditor", "administrator"):
            assert clinic.as_(name).post(f"{task}/$approve-erasure").status_code == 200
        done = ended(operator, task)
        assert done["status"] == "completed", done
        assert operator.get("Patient/bob").status_code == 404
        assert "bob" not in str(done)
        assert clinic.server.run(after(store, "Patient/bob", 0)) == [], "what bob was told goes, too"
        assert clinic.server.run(heads_of(store, ["Patient/bob"])) == {}


def test_only_who_is_meant_asks_approves_and_refuses(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora, clinic.as_("sam") as sam:
        assert dora.post(f"{PATIENT}/$request-erasure").status_code == 403
        task = asked(clinic)
        again = ann.post(f"{PATIENT}/$request-erasure")
        assert (again.status_code, "HS-ERASURE-ASKED" in again.text) == (409, True)
        for client in (ann, dora, sam):
            assert client.post(f"{task}/$approve-erasure").status_code == 403
            assert client.post(f"{task}/$refuse-erasure", json=REASON).status_code == 403
        refused = clinic.as_("auditor").post(f"{task}/$refuse-erasure", json=REASON)
        assert (refused.status_code, refused.json()["status"]) == (200, "rejected")
        assert ann.get(task).json()["statusReason"]["text"] == "an inquiry goes on"
        late = clinic.as_("auditor-2").post(f"{task}/$approve-erasure")
        assert (late.status_code, "HS-ERASURE-STATE" in late.text) == (409, True)


def test_who_asked_hears_once_that_it_was_refused(clinic: Clinic, record: Json) -> None:
    with clinic.as_("operator") as operator:
        news = Told(clinic.server, operator, PATIENT)
        task = asked(clinic)
        for status in (200, 409):
            assert clinic.as_("auditor").post(f"{task}/$refuse-erasure", json=REASON).status_code == status
        assert news.events(PATIENT, task) == news.mails(PATIENT, task) == [("erasure-refused", task)]


def test_a_legal_hold_refuses_every_removal_until_it_ends(clinic: Clinic, record: Json) -> None:
    with clinic.as_("operator") as operator, clinic.as_("dora") as dora:
        task = asked(clinic)
        assert dora.post(f"{PATIENT}/$legal-hold", json=REASON).status_code == 403
        held = clinic.as_("administrator").post(f"{PATIENT}/$legal-hold", json=REASON)
        assert held.status_code == 201, held.text
        assert clinic.as_("administrator").post(f"{PATIENT}/$legal-hold", json=REASON).status_code == 409
        flag = f"Flag/{held.json()['id']}"
        assert dora.put(flag, json={**held.json(), "status": "inactive"}).status_code == 403
        refused = clinic.as_("auditor").post(f"{task}/$approve-erasure")
        assert (refused.status_code, "HS-PURGE-HOLD" in refused.text) == (409, True)
        confirm = {"resourceType": "Parameters", "parameter": [{"name": "confirm", "valueBoolean": True}]}
        purged = operator.post(f"{PATIENT}/$purge", json=confirm)
        assert (purged.status_code, "HS-PURGE-HOLD" in purged.text) == (409, True)
        assert clinic.as_("administrator").post(f"{PATIENT}/$legal-hold", json=END).json()["status"] == "inactive"
        assert clinic.as_("auditor").post(f"{task}/$approve-erasure").status_code == 200
        withdrawn(clinic, task)


def test_a_hold_that_comes_after_the_approvals_still_refuses(clinic: Clinic, record: Json) -> None:
    """The job looks once more before it begins."""
    from resources.erasure.carry import KIND  # noqa: PLC0415

    context = clinic.server.context
    task = asked(clinic)
    clinic.as_("administrator").post(f"{PATIENT}/$legal-hold", json=REASON)
    with clinic.as_("operator") as operator:
        found = operator.get(task).json()
        states = ["accepted", "in-progress"]
        from fhir_server.repository.repository import Change  # noqa: PLC0415

        for state in states:
            found["status"] = state
            change = Change("PUT", "Task", found["id"], found, by="approve-erasure")
            clinic.server.run(context.repository.commit(change))
        wanted = {"task": found["id"], "patient": "ann"}
        clinic.server.run(context.jobs.carry_out(KIND, "an erasure", wanted))
        assert ended(operator, task)["status"] == "failed"
        assert operator.get("Communication/chat").status_code == 200
    clinic.as_("administrator").post(f"{PATIENT}/$legal-hold", json=END)
    assert clinic.as_("auditor-3").post(f"{task}/$approve-erasure").status_code == 200
    with clinic.as_("operator") as operator:
        assert ended(operator, task)["status"] == "completed"


STATUSES = tuple(STATES.next)


def task_of(status: str) -> Json:
    return {
        "resourceType": "Task",
        "status": status,
        "intent": "order",
        "code": {"coding": [{"system": SYSTEM, "code": CODE}]},
        "for": {"reference": PATIENT},
        "focus": {"reference": "Patient/nobody"},
        "requester": {"reference": PATIENT},
    }


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATUSES, STATUSES)))
def test_each_pair_of_states_by_a_plain_write(clinic: Clinic, old: str, new: str) -> None:
    with clinic.as_("operator") as operator:
        made = operator.post("Task", json=task_of(old)).json()
        answer = operator.put(f"Task/{made['id']}", json={**made, "status": new})
    allowed = old == new or (new in STATES.following(old) and (old, new) not in STATES.by)
    assert answer.status_code == (200 if allowed else 422), answer.text


def test_a_request_is_not_written_by_hand(clinic: Clinic, record: Json) -> None:
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora:
        assert ann.post("Task", json=task_of("accepted")).status_code == 403
        task = asked(clinic)
        found = ann.get(task).json()
        forged = {**found, "output": [{"type": {"text": "approval"}, "valueString": "x y"}]}
        assert ann.put(task, json=forged).status_code == 403
        assert dora.put(task, json={**found, "focus": {"reference": DOCTOR}}).status_code in (403, 404)
        withdrawn(clinic, task)


def test_the_operations_of_the_machine_are_those_that_there_are() -> None:
    from resources.parts import OPERATIONS  # noqa: PLC0415

    codes = {operation.code for operation in OPERATIONS} | {CARRY_OUT}
    assert {code for by in STATES.by.values() for code in by} <= codes
