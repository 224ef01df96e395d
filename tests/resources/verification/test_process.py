"""Applications, two who approve, reasons, and what nobody writes by hand."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from resources.verification.states import APPLICATION, CLAIM
from tests.resources.prescription.conftest import key_of
from tests.resources.verification.conftest import DEGREE, Board, ahead, licence

Json = dict[str, Any]

REASON = "The register does not know this number."


def test_a_doctor_is_found_when_two_administrators_have_approved_each_claim(board: Board) -> None:
    doctor = board.doctor(licence("L-1", ahead(900)), DEGREE)
    task = board.call(doctor, "POST", f"{doctor}/$apply").json()
    assert (task["status"], len(task["input"])) == ("requested", 3)
    claims = board.claims(doctor)
    assert {kind: one["status"] for kind, one in claims.items()} == dict.fromkeys(
        ("identity", "licence", "education"), "attested"
    )
    assert claims["licence"]["nextScheduled"] == ahead(900)
    assert [one["id"] for one in board.found(f"Task?_id={task['id']}", "admin-1")] == [task["id"]]

    first = board.do("admin-1", f"VerificationResult/{claims['licence']['id']}", "approve", source="Register of 2026")
    assert (first["status"], first["primarySource"][0]["who"]["display"]) == ("in-process", "Register of 2026")
    assert board.call("patient", "GET", doctor).status_code == 404
    for admin in ("admin-1", "admin-2"):
        for claim in claims.values():
            if (admin, claim["id"]) != ("admin-1", claims["licence"]["id"]):
                board.do(admin, f"VerificationResult/{claim['id']}", "approve")
    assert board.task(doctor)["status"] == "completed"
    assert {one["status"] for one in board.claims(doctor).values()} == {"validated"}
    assert board.get(doctor, "patient")["active"] is True


def test_who_decided_when_and_why_stands_in_the_claim(board: Board) -> None:
    doctor = board.doctor(licence("L-2"))
    board.do(doctor, doctor, "apply")
    board.do("admin-1", doctor, "approve", note="called the board")
    extension = board.claims(doctor)["licence"]["extension"][-1]
    parts = {row["url"]: row for row in extension["extension"]}
    assert parts["who"]["valueReference"]["identifier"] == {"system": "urn:healthsphere:account", "value": "admin-1"}
    assert (parts["decision"]["valueCode"], parts["note"]["valueString"]) == ("approve", "called the board")
    assert parts["at"]["valueInstant"] == board.claims(doctor)["licence"]["statusDate"]


def test_nobody_approves_twice_and_the_applicant_never(board: Board) -> None:
    doctor = board.doctor(licence("L-3"))
    board.do(doctor, doctor, "apply")
    board.do("admin-1", doctor, "approve")
    assert key_of(board.do("admin-1", doctor, "approve", 403)) == "HS-VERIFY-APART"
    # An administrator who is a doctor, too, under their role and under their own name.
    role = board.role_of(doctor)
    for name, user in (("doctor-admin", doctor), ("role-admin", role)):
        board.roles.add(name, "administrator", user)
        assert key_of(board.do(name, doctor, "approve", 403)) == "HS-VERIFY-APART"
    assert board.get(doctor)["active"] is False


def test_who_signs_in_as_a_role_applies_for_whose_role_it_is(board: Board) -> None:
    doctor, other = board.doctor(licence("L-3a")), board.doctor(licence("L-3b"))
    role = board.role_of(doctor)
    board.roles.add(role, "practitioner", role)
    assert key_of(board.do(role, other, "apply", 403)) == "HS-VERIFY-OWN"
    assert board.do(role, doctor, "apply")["for"]["reference"] == doctor
    # A role that is not there for the caller is nobody's.
    board.roles.add("stranger", "practitioner", f"PractitionerRole/x{uuid.uuid4().hex[:12]}")
    assert key_of(board.do("stranger", doctor, "apply", 404)) == "HS-READ-NOT-FOUND"


def test_two_who_approve_at_once_count_as_two(board: Board) -> None:
    doctor = board.doctor(licence("L-4"))
    board.do(doctor, doctor, "apply")
    client = board.server.client
    requests = [
        client.build_request("POST", f"{doctor}/$approve", headers={"Authorization": f"Bearer admin-{n}"})
        for n in (1, 2, 1, 2)
    ]
    codes = sorted(answer.status_code for answer in board.server.gather(*requests))
    assert codes[:2] == [200, 200]
    assert set(codes[2:]) <= {403, 422}
    assert board.get(doctor)["active"] is True


def test_who_is_refused_hears_why_and_can_apply_again(board: Board) -> None:
    doctor = board.doctor(licence("L-5"))
    board.do(doctor, doctor, "apply")
    assert key_of(board.do("admin-1", doctor, "refuse", 400)) == "HS-OP-PARAMETER"
    assert key_of(board.do("admin-1", doctor, "refuse", 422, reason="no")) == "HS-VERIFY-REASON"
    claim = f"VerificationResult/{board.claims(doctor)['licence']['id']}"
    assert board.do("admin-1", claim, "refuse", reason=REASON)["status"] == "val-fail"
    task = board.get(f"Task/{board.task(doctor)['id']}", doctor)  # the doctor reads it
    assert (task["status"], task["statusReason"]["text"]) == ("rejected", REASON)
    assert key_of(board.do("admin-2", claim, "approve", 422)) == "HS-VERIFY-STATE"

    assert board.do(doctor, doctor, "apply")["status"] == "requested"
    assert board.claims(doctor)["licence"]["status"] == "req-revalid"
    assert board.do("admin-1", claim, "refuse", reason=REASON)["status"] == "reval-fail"
    assert board.do("admin-1", claim, "revalidate", reason="New papers have come.")["status"] == "req-revalid"
    board.do("admin-1", doctor, "approve")
    board.do("admin-2", doctor, "approve")
    assert board.get(doctor)["active"] is True


def test_what_is_to_be_verified_again_hides_the_doctor_at_once(board: Board) -> None:
    doctor = board.verified(licence("L-6"))
    role = board.role_of(doctor)
    assert board.get(role, "patient")
    claim = board.claims(doctor)["identity"]
    board.do("admin-3", f"VerificationResult/{claim['id']}", "revalidate", reason="Somebody else has this name.")
    for hidden in (doctor, role):
        assert board.call("patient", "GET", hidden).status_code == 404
    assert board.task(doctor)["status"] == "requested"
    board.do("admin-1", doctor, "approve")
    assert board.call("patient", "GET", role).status_code == 404
    board.do("admin-2", doctor, "approve")
    for shown in (doctor, role):
        assert board.call("patient", "GET", shown).status_code == 200


def test_a_new_licence_is_handed_in_while_the_old_one_holds(board: Board) -> None:
    doctor = board.verified(licence("L-7", ahead(20)))
    new = {"resourceType": "Practitioner", "qualification": [licence("L-7", ahead(2000))]}
    answer = board.call(doctor, "POST", f"{doctor}/$apply", new)
    assert answer.status_code == 200, answer.text
    # What is claimed counts when it is approved: until then the old one is what patients see, and the doctor works.
    assert board.get(doctor, "patient")["qualification"][0]["period"]["end"] == ahead(20)
    board.do("admin-1", doctor, "approve")
    assert board.get(doctor, "patient")["qualification"][0]["period"]["end"] == ahead(20)
    board.do("admin-2", doctor, "approve")
    (only,) = board.get(doctor, "patient")["qualification"]
    assert only["period"]["end"] == ahead(2000)
    assert "contained" not in board.claims(doctor)["licence"]


def test_a_refused_new_licence_leaves_the_old_one(board: Board) -> None:
    doctor = board.verified(licence("L-8", ahead(20)))
    new = {"resourceType": "Practitioner", "qualification": [licence("L-9", ahead(2000))]}
    board.call(doctor, "POST", f"{doctor}/$apply", new)
    board.do("admin-1", doctor, "refuse", reason=REASON)
    shown = board.get(doctor, "patient")
    assert [row["identifier"][0]["value"] for row in shown["qualification"]] == ["L-8"]


@pytest.mark.parametrize("missing", ["issuer", "period"])
def test_a_licence_says_who_issued_it_and_until_when(board: Board, missing: str) -> None:
    doctor = board.doctor()
    bare = {name: value for name, value in licence("L-10").items() if name != missing}
    answer = board.call(doctor, "POST", f"{doctor}/$apply", {"resourceType": "Practitioner", "qualification": [bare]})
    assert (answer.status_code, key_of(answer)) == (422, "HS-VERIFY-LICENCE")


def test_people_apply_for_themselves_and_administrators_file_for_them(board: Board) -> None:
    doctor, other = board.doctor(licence("L-11")), board.doctor()
    assert key_of(board.do(other, doctor, "apply", 403)) == "HS-VERIFY-OWN"
    assert board.call("patient", "POST", f"{doctor}/$apply").status_code == 403
    assert board.do("admin-1", doctor, "apply")["requester"] == {"reference": doctor}
    assert key_of(board.do("admin-1", doctor, "apply", 409)) == "HS-VERIFY-NOTHING"


def test_what_has_changed_since_it_was_claimed_is_not_approved(board: Board) -> None:
    doctor = board.doctor(licence("L-12"))
    board.do(doctor, doctor, "apply")
    body = board.get(doctor)
    board.put("Practitioner", **{**body, "id": body["id"], "qualification": [licence("L-12", ahead(5000))]})
    assert key_of(board.do("admin-1", doctor, "approve", 409)) == "HS-VERIFY-CHANGED"


def test_people_make_nobody_active_by_hand(board: Board) -> None:
    name = [{"family": uuid.uuid4().hex}]
    made = board.call("admin-1", "POST", "Practitioner", {"resourceType": "Practitioner", "name": name})
    assert (made.status_code, made.json()["active"]) == (201, False)
    new = {"resourceType": "Practitioner", "name": name, "active": True}
    assert key_of(board.call("admin-1", "POST", "Practitioner", new)) == "HS-VERIFY-ACTIVE"
    address, body = f"Practitioner/{made.json()['id']}", made.json()
    for change in ({**body, "active": True}, {k: v for k, v in body.items() if k != "active"}):
        answer = board.call("admin-1", "PUT", address, change)
        assert (answer.status_code, key_of(answer)) == (422, "HS-VERIFY-ACTIVE")
    papers = {**body, "qualification": [licence("L-13")]}
    assert key_of(board.call("admin-1", "PUT", address, papers)) == "HS-VERIFY-QUALIFICATION"
    patch = [{"op": "replace", "path": "/active", "value": True}]
    answer = board.roles.as_("admin-1").patch(
        address, json=patch, headers={"Content-Type": "application/json-patch+json"}
    )
    assert (answer.status_code, key_of(answer)) == (422, "HS-VERIFY-ACTIVE")
    # A Bundle is no way around.
    entry = {"resource": {**body, "active": True}, "request": {"method": "PUT", "url": address}}
    answer = board.call("admin-1", "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    assert answer.status_code == 422
    # What programs import is believed, and an administrator takes it away.
    assert board.call("system", "PUT", address, {**body, "active": True}).status_code == 200
    assert board.call("patient", "GET", address).status_code == 200
    assert board.call("admin-1", "PUT", address, {**body, "active": False}).status_code == 200
    assert board.call("patient", "GET", address).status_code == 404


def test_claims_and_applications_are_not_written_by_hand(board: Board) -> None:
    doctor = board.doctor(licence("L-14"))
    task = board.do(doctor, doctor, "apply")
    claim = board.claims(doctor)["licence"]
    for who in (doctor, "admin-1"):
        for body in ({**task, "status": "completed"}, {**claim, "status": "validated"}):
            address = f"{body['resourceType']}/{body['id']}"
            assert board.call(who, "PUT", address, body).status_code in (403, 404, 405), who
    for kind, body in (("VerificationResult", claim), ("Task", task)):
        answer = board.call("system", "PUT", f"{kind}/{body['id']}", {**body, "status": "draft"})
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize("machine", [CLAIM, APPLICATION], ids=["claim", "application"])
def test_every_edge_that_is_not_drawn_is_refused(board: Board, machine: Any) -> None:
    """And those that are drawn are an operation's alone."""
    doctor = board.doctor(licence(uuid.uuid4().hex))
    task = board.do(doctor, doctor, "apply")
    body = task if machine is APPLICATION else board.claims(doctor)["licence"]
    for state in machine.next:
        key = f"e{uuid.uuid4().hex[:12]}"
        base = {**{k: v for k, v in body.items() if k != "meta"}, "id": key, "status": state}
        assert board.call("system", "PUT", f"{machine.type}/{key}", base).status_code == 201
        for after in machine.next:
            if after != state:
                answer = board.call("system", "PUT", f"{machine.type}/{key}", {**base, "status": after})
                wanted = "HS-STATE-OPERATION" if after in machine.next[state] else "HS-STATE"
                assert (answer.status_code, key_of(answer)) == (422, wanted), (state, after)
