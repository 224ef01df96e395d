"""Licences end: the doctor is told before, vanishes at the moment, and comes back with a new one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pymongo import MongoClient

from resources.verification.licence import is_hidden, is_licensed, licence_ends_us
from tests.resources.prescription.conftest import key_of
from tests.resources.verification.conftest import DEGREE, Board, ahead, licence

Json = dict[str, Any]

DAY_US = 86_400_000_000


def test_a_licence_holds_on_its_last_day_and_not_on_the_next() -> None:
    person = {"qualification": [licence("1", "2030-06-30")]}
    end = licence_ends_us(person)
    assert end is not None
    assert is_licensed(person, end - 1)
    assert not is_licensed(person, end)
    assert end % DAY_US == 0


def test_one_licence_that_holds_is_enough_and_none_is_not_asked_for() -> None:
    ended, open_ended = licence("1", "2011-01-01"), licence("2")
    later = {**licence("3"), "period": {"start": "2090-01-01"}}
    now = 1_800_000_000_000_000
    assert not is_licensed({"qualification": [ended]}, now)
    assert not is_licensed({"qualification": [ended, later]}, now)
    assert is_licensed({"qualification": [ended, open_ended]}, now)
    assert is_licensed({}, now)
    assert is_licensed({"qualification": [DEGREE]}, now)
    assert is_hidden({"active": False}, now)
    assert not is_hidden({}, now)


def test_a_doctor_is_told_a_month_before_and_vanishes_when_the_licence_ends(board: Board) -> None:
    doctor = board.verified(licence("E-1", ahead(40)))
    role = board.role_of(doctor)
    board.settle()
    assert not told(board, doctor, "licence-ends")
    board.clock.ahead = timedelta(days=15)
    board.settle()
    assert told(board, doctor, "licence-ends") == 1
    assert board.get(role, "patient")

    board.clock.ahead = timedelta(days=42)
    board.settle()
    for hidden in (doctor, role):
        assert board.call("patient", "GET", hidden).status_code == 404
    assert [one["id"] for one in board.found(f"PractitionerRole?practitioner={doctor}", "patient")] == []
    assert told(board, doctor, "licence-ended") == 1
    assert board.task(doctor)["status"] == "requested"
    claims = board.claims(doctor)
    assert (claims["licence"]["status"], claims["identity"]["status"]) == ("req-revalid", "validated")
    assert key_of(board.do("admin-1", doctor, "approve", 422)) == "HS-VERIFY-ENDED"

    # With the new one, and two approvals, they are back.
    new = {"resourceType": "Practitioner", "qualification": [licence("E-1", ahead(3000))]}
    assert board.call("admin-3", "POST", f"{doctor}/$apply", new).status_code == 200
    board.do("admin-1", doctor, "approve")
    assert board.call("patient", "GET", doctor).status_code == 404
    board.do("admin-2", doctor, "approve")
    for shown in (doctor, role):
        assert board.call("patient", "GET", shown).status_code == 200


def test_a_licence_of_another_number_takes_the_place_of_one_that_is_over(board: Board) -> None:
    doctor = board.verified(licence("N-1", ahead(40)))
    board.settle()
    board.clock.ahead = timedelta(days=42)
    board.settle()
    new = {"resourceType": "Practitioner", "qualification": [licence("N-2", ahead(3000))]}
    assert board.call("admin-3", "POST", f"{doctor}/$apply", new).status_code == 200
    for admin in ("admin-1", "admin-2"):
        board.do(admin, doctor, "approve")
    assert board.task(doctor)["status"] == "completed"
    shown = board.get(doctor, "patient")
    assert [row["identifier"][0]["value"] for row in shown["qualification"]] == ["N-1", "N-2"]
    board.settle()
    assert board.call("patient", "GET", doctor).status_code == 200


def told(board: Board, person: str, kind: str) -> int:
    """How often somebody was told something of a kind."""
    client = MongoClient[Json](board.server.settings.mongodb_uri.get_secret_value())
    with client:
        rows = client[board.server.settings.mongodb_database]["_events"]
        return rows.count_documents({"person": person, "kind": kind})


def test_who_is_imported_active_counts_as_verified_while_the_licence_holds(board: Board) -> None:
    fine = board.put("Practitioner", who="system", active=True, qualification=[licence("I-1", ahead(300))])
    old = board.put("Practitioner", who="system", active=True, qualification=[licence("I-2", "2020-01-01")])
    none = board.put("Practitioner", who="system")
    assert board.call("patient", "GET", fine).status_code == 200
    assert board.call("patient", "GET", none).status_code == 200
    assert board.call("patient", "GET", old).status_code == 404
    board.settle()
    # The importing system's word is left as it is, and administrators have something to look at.
    assert board.get(old)["active"] is True
    assert board.task(old)["status"] == "requested"
    board.put("Practitioner", who="system", **{**board.get(old), "qualification": [licence("I-2", ahead(300))]})
    assert board.call("patient", "GET", old).status_code == 200


def test_who_was_imported_is_verified_here_when_somebody_doubts_it(board: Board) -> None:
    doctor = board.put("Practitioner", who="system", active=True, qualification=[licence("I-3", ahead(300))])
    board.do("admin-1", doctor, "revalidate", reason="Nobody knows where this came from.")
    assert board.call("patient", "GET", doctor).status_code == 404
    assert {one["status"] for one in board.claims(doctor).values()} == {"attested"}
    for admin in ("admin-1", "admin-2"):
        board.do(admin, doctor, "approve")
    assert board.call("patient", "GET", doctor).status_code == 200


def test_a_role_is_hidden_with_its_practitioner_whoever_writes(board: Board) -> None:
    doctor = board.verified(licence("R-1"))
    role = board.role_of(doctor)
    body = board.get(doctor)
    board.put("Practitioner", who="system", **{**body, "active": False})
    assert board.call("patient", "GET", role).status_code == 404
    # Whoever updates the role does not show it again, and a new role of who is hidden is hidden soon.
    board.put("PractitionerRole", who="system", id=role.partition("/")[2], practitioner={"reference": doctor})
    assert board.call("patient", "GET", role).status_code == 404
    another = board.role_of(doctor)
    board.settle()
    assert board.call("patient", "GET", another).status_code == 404
    board.put("Practitioner", who="system", **body)
    board.settle()
    for shown in (doctor, role, another):
        assert board.call("patient", "GET", shown).status_code == 200
    assert board.call("system", "DELETE", doctor).status_code in (200, 204)
    for hidden in (role, another):
        assert board.call("patient", "GET", hidden).status_code == 404
    assert board.call("operator", "GET", role).status_code == 200


def test_clinicians_and_administrators_see_who_is_hidden(board: Board) -> None:
    doctor, other = board.doctor(licence("S-1")), board.verified(licence("S-2"))
    assert board.call(other, "GET", doctor).status_code == 200
    assert board.call("admin-1", "GET", doctor).status_code == 200
