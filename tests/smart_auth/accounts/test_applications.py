"""How accounts of doctors come to be: they apply, and get in when they are verified."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from smart_auth.parts import Visit
from tests.smart_auth.accounts.registering import apply, decide


def test_a_doctor_applies_and_gets_in_only_when_verified(site: Any) -> None:
    account_id = apply(site)
    row = site.row("dora@example.org")
    assert (row["state"], row["role"]) == ("pending", "practitioner")
    practitioner = site.records.kept[row["fhir_user"]]
    assert practitioner["active"] is False
    assert practitioner["qualification"] == [
        {
            "identifier": [{"value": "L-4711"}],
            "code": {"text": "Cardiology"},
            "issuer": {"display": "Board of Medicine"},
        }
    ]
    assert site.browser().sign_in("dora@example.org").status_code == 403
    assert decide(site, account_id, "approve", "admin-1").state == "active"
    assert site.records.kept[row["fhir_user"]]["active"] is True
    assert site.mails("dora@example.org")[-1]["text"].count("accepted") == 1
    assert site.browser().sign_in("dora@example.org").url.path == "/auth/account"


def test_where_two_must_approve_one_is_not_enough_and_does_not_count_twice(make_site: Any) -> None:
    site = make_site(approvals=2)
    account_id = apply(site)
    assert decide(site, account_id, "approve", "admin-1").state == "pending"
    with pytest.raises(Exception, match="somebody else must"):
        decide(site, account_id, "approve", "admin-1")
    assert decide(site, account_id, "approve", "admin-2").state == "active"


def test_two_who_approve_at_once_count_as_two_or_one_must_look_again(make_site: Any) -> None:
    site = make_site(approvals=2)
    account_id = apply(site)

    async def both() -> list[Any]:
        return await asyncio.gather(
            *(site.side.verification.decide(account_id, "approve", by=f"admin-{n}", visit=Visit()) for n in range(2)),
            return_exceptions=True,
        )

    outcomes = site.loop.run(both())
    decisions = site.row("dora@example.org")["verification"]["decisions"]
    done = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(decisions) == len(done) >= 1
    assert (site.row("dora@example.org")["state"] == "active") == (len(decisions) == 2)


def test_nobody_decides_on_their_own_application(site: Any) -> None:
    account_id = apply(site)
    with pytest.raises(Exception, match="their own"):
        decide(site, account_id, "approve", account_id)


#: What each state allows: (state, decision, what it becomes, or None where it is refused).
EDGES = [
    ("applied", "approve", "verified"),
    ("applied", "reject", "rejected"),
    ("applied", "reopen", None),
    ("verified", "approve", None),
    ("verified", "reject", None),
    ("verified", "reopen", "applied"),
    ("rejected", "approve", None),
    ("rejected", "reject", None),
    ("rejected", "reopen", "applied"),
]
WAY = {"applied": [], "verified": ["approve"], "rejected": ["reject"]}
STATE = {"applied": "pending", "verified": "active", "rejected": "disabled"}


@pytest.mark.parametrize(("state", "decision", "reached"), EDGES)
def test_every_edge_of_the_verification_and_no_other(site: Any, state: str, decision: str, reached: str | None) -> None:
    account_id = apply(site)
    for step in WAY[state]:
        decide(site, account_id, step, "admin-1")
    if reached is None:
        with pytest.raises(Exception, match=f"is {state}: only"):
            decide(site, account_id, decision, "admin-1")
        reached = state
    else:
        decide(site, account_id, decision, "admin-1")
    row = site.row("dora@example.org")
    assert (row["verification"]["state"], row["state"]) == (reached, STATE[reached])
    assert site.records.kept[row["fhir_user"]]["active"] is (reached == "verified")


def test_reopening_ends_sessions_and_what_apps_may_do_and_asks_for_new_approvals(site: Any) -> None:
    account_id = apply(site)
    decide(site, account_id, "approve", "admin-1")
    browser = site.browser()
    browser.sign_in("dora@example.org")
    decide(site, account_id, "reopen", "admin-1")
    assert browser.get("/auth/account").url.path == "/auth/sign-in"
    assert account_id in site.apps.cut_off
    assert decide(site, account_id, "approve", "admin-1").state == "active"
