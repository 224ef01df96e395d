"""Reviews, replacement chains, and the state machines of documents for plain writes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from resources.document.states import DOC_STATUS, STATUS
from tests.conftest import InProcessServer
from tests.resources.document.clamd import FakeClamd
from tests.resources.document.conftest import DOCTOR, OTHER, PATIENT, Clinic, make_clinic, twin_of
from tests.resources.document.test_quarantine import sent, sent_now, tasks_about

Json = dict[str, Any]


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., InProcessServer]) -> Iterator[Clinic]:
    """One of this module's own: the database goes with the second server over it."""
    clamd = FakeClamd()
    yield make_clinic(make_server, clamd)
    clamd.close()


@pytest.fixture
def clamd(clinic: Clinic) -> Iterator[FakeClamd]:
    assert clinic.clamd is not None
    yield clinic.clamd
    clinic.clamd.down = False


def asked(**values: str) -> Json:
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": name, "valueCode" if name == "outcome" else "valueString": value} for name, value in values.items()
        ],
    }


def document_of(status: str = "current", **more: Any) -> Json:
    return {
        "resourceType": "DocumentReference",
        "status": status,
        "subject": {"reference": PATIENT},
        "content": [{"attachment": {"url": "https://elsewhere.example/1"}}],
        **more,
    }


def replacing(target: str, **more: Any) -> Json:
    return document_of(relatesTo=[{"code": "replaces", "target": {"reference": target}}], **more)


# --- reviews --------------------------------------------------------------------------------------------------------


def test_a_patients_document_is_looked_at_and_is_final_then(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora:
        document = sent(ann, b"my blood pressure", review=DOCTOR)
        task = tasks_about(clinic, document)["review-document"]
        assert (task["status"], task["owner"], task["requester"]) == (
            "requested",
            {"reference": DOCTOR},
            {"reference": PATIENT},
        )
        where = f"DocumentReference/{document['id']}/$review"
        assert ann.post(where, json=asked(outcome="accepted")).status_code == 403
        done = dora.post(where, json=asked(outcome="accepted", note="Thank you"))
        assert (done.status_code, done.json()["docStatus"]) == (200, "final"), done.text
        task = tasks_about(clinic, document)["review-document"]
        assert (task["status"], task["output"][0]["valueString"]) == ("completed", "accepted")
        assert task["note"][0]["authorReference"] == {"reference": DOCTOR}
        again = dora.post(where, json=asked(outcome="accepted"))
        assert (again.status_code, "HS-DOCUMENT-REVIEWED" in again.text) == (409, True)


def test_a_refused_document_was_entered_in_error_and_the_refusal_has_a_reason(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora:
        document = sent(ann, b"of somebody else")
        where = f"DocumentReference/{document['id']}/$review"
        assert dora.post(where, json=asked(outcome="refused")).status_code == 400
        assert dora.post(where, json=asked(outcome="perhaps")).status_code == 400
        done = dora.post(where, json=asked(outcome="refused", note="This is not you"))
        assert (done.json()["status"], done.json()["docStatus"]) == ("entered-in-error", "entered-in-error")


def test_nobody_reviews_what_they_do_not_see(clinic: Clinic) -> None:
    with clinic.as_("ann") as ann, clinic.as_("sam") as sam:
        document = sent(ann, b"a note")
        answer = sam.post(f"DocumentReference/{document['id']}/$review", json=asked(outcome="accepted"))
        assert answer.status_code == 404


def test_of_two_reviews_at_once_one_counts(clinic: Clinic, make_server: Callable[..., InProcessServer]) -> None:
    """In two processes' worth of state."""
    other = twin_of(clinic, make_server)
    with clinic.as_("ann") as ann:
        document = sent(ann, b"a note", review=DOCTOR)
    where = f"{clinic.server.base_url}/DocumentReference/{document['id']}/$review"

    def asking(server: InProcessServer) -> httpx.Request:
        return server.client.build_request(
            "POST", where, json=asked(outcome="accepted"), headers={"Authorization": "Bearer dora"}
        )

    async def both() -> list[int]:
        first = asyncio.to_thread(clinic.server.gather, asking(clinic.server), asking(clinic.server))
        second = asyncio.to_thread(other.gather, asking(other), asking(other))
        return [answer.status_code for answers in await asyncio.gather(first, second) for answer in answers]

    statuses = asyncio.run(both())
    assert sorted(statuses) == [200, 409, 409, 409]
    other.close()


def test_what_a_doctor_uploads_is_final_unless_somebody_is_to_look_at_it(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora:
        assert sent(dora, b"a finding")["docStatus"] == "final"
        asked_for = sent(dora, b"a finding", review="Practitioner/rita")
        assert asked_for["docStatus"] == "preliminary"
        assert tasks_about(clinic, asked_for)["review-document"]["owner"] == {"reference": "Practitioner/rita"}


# --- replacement ----------------------------------------------------------------------------------------------------


def test_a_new_document_supersedes_the_one_that_it_replaces(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora:
        first = sent(dora, b"one")
        second = sent(dora, b"two", replaces=f"DocumentReference/{first['id']}")
        assert second["relatesTo"][0]["code"] == "replaces"
        assert dora.get(f"DocumentReference/{first['id']}").json()["status"] == "superseded"
        third = dora.post("DocumentReference", json=replacing(f"DocumentReference/{second['id']}"))
        assert third.status_code == 201, third.text
        assert dora.get(f"DocumentReference/{second['id']}").json()["status"] == "superseded"
        chain = dora.get("DocumentReference", params={"relatesto": f"DocumentReference/{second['id']}"}).json()
        assert [row["resource"]["id"] for row in chain["entry"]] == [third.json()["id"]]


def test_a_document_is_replaced_once(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora:
        first = f"DocumentReference/{sent(dora, b'one')['id']}"
        assert dora.post("DocumentReference", json=replacing(first)).status_code == 201
        for way in ("plain", "bundle", "upload"):
            if way == "plain":
                fork = dora.post("DocumentReference", json=replacing(first))
            elif way == "upload":
                fork = dora.post(
                    "DocumentReference/$upload",
                    params={"patient": PATIENT, "replaces": first},
                    content=b"x",
                    headers={"Content-Type": "text/plain"},
                )
            else:
                entry = {"resource": replacing(first), "request": {"method": "POST", "url": "DocumentReference"}}
                fork = dora.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
            assert (fork.status_code, "HS-DOCUMENT-REPLACED" in fork.text) == (409, True), fork.text


def test_of_many_replacements_at_once_over_two_processes_one_wins(
    clinic: Clinic, make_server: Callable[..., InProcessServer]
) -> None:
    other = twin_of(clinic, make_server)
    with clinic.as_("dora") as dora:
        first = f"DocumentReference/{sent(dora, b'one')['id']}"

    def asking(server: InProcessServer) -> list[httpx.Request]:
        headers = {"Authorization": "Bearer dora"}
        address = f"{server.base_url}/DocumentReference"
        return [server.client.build_request("POST", address, json=replacing(first), headers=headers) for _ in range(6)]

    async def both() -> list[int]:
        ways = [asyncio.to_thread(server.gather, *asking(server)) for server in (clinic.server, other)]
        return [answer.status_code for answers in await asyncio.gather(*ways) for answer in answers]

    statuses = asyncio.run(both())
    assert sorted(statuses) == [201] + [409] * 11
    with clinic.as_("operator") as operator:
        found = operator.get("DocumentReference", params={"relatesto": first, "_summary": "count"}).json()
        assert found["total"] == 1
    other.close()


def test_what_was_replaced_in_error_can_be_replaced_again(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora:
        first = f"DocumentReference/{sent(dora, b'one')['id']}"
        wrong = dora.post("DocumentReference", json=replacing(first)).json()
        taken_back = dora.put(f"DocumentReference/{wrong['id']}", json={**wrong, "status": "entered-in-error"})
        assert taken_back.status_code == 200, taken_back.text
        assert dora.post("DocumentReference", json=replacing(first)).status_code == 201


def test_a_replacement_is_about_the_same_patient_and_of_something_of_ones_own(clinic: Clinic) -> None:
    with clinic.as_("dora") as dora, clinic.as_("ann") as ann, clinic.as_("operator") as operator:
        first = f"DocumentReference/{sent(dora, b'one')['id']}"
        mine = replacing(first, author=[{"reference": PATIENT}])
        foreign = ann.post("DocumentReference", json=mine)
        assert (foreign.status_code, "HS-DOCUMENT-FOREIGN" in foreign.text) == (403, True)
        other = operator.post("DocumentReference", json={**replacing(first), "subject": {"reference": OTHER}})
        assert (other.status_code, "HS-DOCUMENT-CHAIN" in other.text) == (422, True)
        itself = operator.put("DocumentReference/self", json={**replacing("DocumentReference/self"), "id": "self"})
        assert itself.status_code == 422
        own = sent(ann, b"mine")
        assert ann.post(
            "DocumentReference",
            json=replacing(f"DocumentReference/{own['id']}", author=[{"reference": PATIENT}]),
        ).status_code == 201  # fmt: skip


# --- states ---------------------------------------------------------------------------------------------------------


STATUSES = ("current", "superseded", "entered-in-error")
DOC_STATUSES = ("preliminary", "final", "amended", "entered-in-error")


@pytest.mark.parametrize(("old", "new"), list(itertools.product(STATUSES, STATUSES)))
def test_each_pair_of_statuses(clinic: Clinic, old: str, new: str) -> None:
    with clinic.as_("operator") as operator:
        made = operator.post("DocumentReference", json=document_of(old)).json()
        answer = operator.put(f"DocumentReference/{made['id']}", json={**made, "status": new})
    allowed = old == new or new in STATUS.following(old)
    assert answer.status_code == (200 if allowed else 422), answer.text
    if not allowed:
        assert all(f"'{state}'" in answer.text for state in STATUS.following(old))


@pytest.mark.parametrize(("old", "new"), list(itertools.product(DOC_STATUSES, DOC_STATUSES)))
def test_each_pair_of_document_statuses(clinic: Clinic, old: str, new: str) -> None:
    with clinic.as_("operator") as operator:
        made = operator.post("DocumentReference", json=document_of(docStatus=old)).json()
        patch = [{"op": "replace", "path": "/docStatus", "value": new}]
        answer = operator.patch(
            f"DocumentReference/{made['id']}", json=patch, headers={"Content-Type": "application/json-patch+json"}
        )
    allowed = old == new or new in DOC_STATUS.following(old)
    assert answer.status_code == (200 if allowed else 422), answer.text


def test_a_patient_does_not_say_that_a_document_is_finished(clinic: Clinic) -> None:
    mine = document_of(author=[{"reference": PATIENT}])
    with clinic.as_("ann") as ann:
        made = ann.post("DocumentReference", json=mine)
        assert (made.status_code, made.json()["docStatus"]) == (201, "preliminary"), made.text
        finished = ann.put(f"DocumentReference/{made.json()['id']}", json={**made.json(), "docStatus": "final"})
        assert (finished.status_code, "HS-DOCUMENT-FINISH" in finished.text) == (403, True)
        assert ann.post("DocumentReference", json={**mine, "docStatus": "final"}).status_code == 403
        wrong = ann.put(
            f"DocumentReference/{made.json()['id']}",
            json={**made.json(), "status": "entered-in-error", "docStatus": "entered-in-error"},
        )
        assert wrong.status_code == 200, wrong.text


def test_nobody_finishes_what_is_in_quarantine(clinic: Clinic, clamd: Any) -> None:
    clamd.down = True
    with clinic.as_("ann") as ann, clinic.as_("dora") as dora:
        document = sent_now(ann, b"a note")
        review = dora.post(f"DocumentReference/{document['id']}/$review", json=asked(outcome="accepted"))
        assert (review.status_code, "HS-DOCUMENT-HELD" in review.text) == (422, True)
        now = dora.get(f"DocumentReference/{document['id']}").json()
        plain = dora.put(f"DocumentReference/{document['id']}", json={**now, "docStatus": "final"})
        assert (plain.status_code, "HS-DOCUMENT-HELD" in plain.text) == (422, True)
