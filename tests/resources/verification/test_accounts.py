"""Accounts and the verification of doctors are one process, whichever way a decision comes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import InProcessServer
from tests.resources.callers import Roles
from tests.resources.verification.conftest import Board, ahead
from tests.resources.verification.front import Front


class Office(Front):
    """A server with accounts, and a second one over the same database that knows callers by name."""

    def __init__(self, make_server: Callable[..., InProcessServer]) -> None:
        super().__init__(make_server(auth="on"))
        roles = Roles()
        roles.server = make_server({"gate": roles}, auth="on", mongodb_database=self.server.settings.mongodb_database)
        roles.add("operator", "operator", scopes=())
        for number in (1, 2):
            roles.add(f"admin-{number}", "administrator")
        self.board = Board(roles.server, roles)
        roles.add("patient", "patient", self.board.put("Patient"))


@pytest.fixture(scope="module")
def office(make_server: Callable[..., InProcessServer]) -> Office:
    return Office(make_server)


def test_who_applies_on_the_page_is_approved_over_fhir_and_gets_in(office: Office) -> None:
    account = office.applied("dora@example.org", until=ahead(700))
    doctor, board = account["fhirUser"], office.board
    assert (account["state"], account["verification"]["state"]) == ("pending", "applied")
    (licence,) = board.get(doctor)["qualification"]
    assert (licence["issuer"]["display"], licence["period"]["end"]) == ("Board of Medicine", ahead(700))
    assert set(board.claims(doctor)) == {"identity", "licence"}
    board.do("admin-1", doctor, "approve", note="called the board")
    office.caught_up()
    assert office.account("dora@example.org")["state"] == "pending"
    board.do("admin-2", doctor, "approve")
    office.caught_up()  # another process has decided: this one follows
    account = office.account("dora@example.org")
    assert (account["state"], account["verification"]["state"]) == ("active", "verified")
    told = account["verification"]["decisions"]
    assert [(d["by"], d["decision"], d["note"]) for d in told] == [
        ("admin-1", "approve", "called the board"),
        ("admin-2", "approve", ""),
    ]
    assert "accepted" in office.mail("dora@example.org")
    assert board.call("patient", "GET", doctor).status_code == 200


def test_what_is_decided_on_the_page_of_accounts_is_decided_of_the_claims(office: Office) -> None:
    account = office.applied("dina@example.org")
    doctor, board = account["fhirUser"], office.board
    decision = f"/{account['id']}/verification"
    office.api("POST", decision, {"decision": "approve"})
    assert {one["status"] for one in board.claims(doctor).values()} == {"in-process"}
    office.api("POST", decision, {"decision": "approve"}, expect=409)
    board.do("admin-1", doctor, "approve")
    office.caught_up()
    assert office.account("dina@example.org")["state"] == "active"
    office.api("POST", decision, {"decision": "reopen", "note": "a complaint"})
    assert office.account("dina@example.org")["state"] == "pending"
    assert board.task(doctor)["status"] == "requested"
    assert board.call("patient", "GET", doctor).status_code == 404
    assert office.api("POST", decision, {"decision": "reject"})["state"] == "disabled"
    assert {one["status"] for one in board.claims(doctor).values()} == {"reval-fail"}


def test_a_doctor_who_is_invited_is_verified_like_any_other(office: Office) -> None:
    invited = {"email": "ivo@example.org", "name": "Ivo Invited", "role": "practitioner"}
    office.api("POST", "", invited, expect=201)
    with office.browser() as browser:
        assert "Your application has arrived" in office.followed(browser, "ivo@example.org")
    account = office.account("ivo@example.org")
    assert account["state"] == "pending"
    assert office.board.get(account["fhirUser"])["active"] is False
    assert office.board.task(account["fhirUser"])["status"] == "requested"


def test_a_disabled_account_stays_so_when_its_doctor_is_verified(office: Office) -> None:
    account = office.applied("dale@example.org")
    office.api("POST", f"/{account['id']}/disable")
    for admin in ("admin-1", "admin-2"):
        office.board.do(admin, account["fhirUser"], "approve")
    office.caught_up()
    assert office.account("dale@example.org")["state"] == "disabled"
    assert office.api("POST", f"/{account['id']}/enable")["state"] == "active"
