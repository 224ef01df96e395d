"""How accounts come to be, for patients, doctors, staff and proxies; a form tells nobody which addresses are known."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from smart_auth.accounts import now
from smart_auth.parts import AccountRules, Visit
from smart_auth.registration import LinkError

PASSWORD = "tangerine gravel kazoo"
PERSON = {"given": "Ida Maria", "family": "Berg", "birth_date": "1980-03-01", "email": "ida@example.org"}
DOCTOR = {
    "given": "Dora",
    "family": "Doc",
    "email": "dora@example.org",
    "specialty": "Cardiology",
    "licence": "L-4711",
    "issuer": "Board of Medicine",
    "organization": "Clinic North",
}


def register(browser: Any, path: str = "/auth/register", **fields: str) -> Any:
    browser.get(path)
    return browser.send(path, **fields)


def follow(browser: Any, link: str, password: str = PASSWORD, repeat: str | None = None) -> Any:
    browser.get(link)
    path, _, token = link.partition("?token=")
    return browser.send(path, token=token, password=password, repeat=password if repeat is None else repeat)


# --- patients ---------------------------------------------------------------------------------------------------------


def test_a_patient_registers_proves_the_address_and_has_an_account_and_a_record(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    assert "Look into your mailbox" in browser.text
    assert site.side.parts.accounts.row_of_email("ida@example.org") is None  # nothing exists yet
    assert not site.records.kept
    assert follow(browser, site.link("ida@example.org")).url.path == "/auth/account"
    row = site.row("ida@example.org")
    assert (row["state"], row["role"], row["name"]) == ("active", "patient", "Ida Maria Berg")
    patient = site.records.kept[row["fhir_user"]]
    assert patient["resourceType"] == "Patient"
    assert patient["birthDate"] == "1980-03-01"
    assert patient["name"] == [
        {"use": "official", "text": "Ida Maria Berg", "family": "Berg", "given": ["Ida", "Maria"]}
    ]
    assert patient["telecom"] == [{"system": "email", "value": "ida@example.org"}]
    assert site.records.agents == [row["_id"]]
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/account"


def test_a_link_works_once(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    link = site.link("ida@example.org")
    for _ in range(2):  # programs that look into mails open it, too
        assert browser.get(link).status_code == 200
    follow(browser, link)
    assert site.browser().get(link).status_code == 410
    assert len(site.records.kept) == 1


def test_a_link_ends_after_a_day(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    site.store.rows("tickets").update_many({}, {"$set": {"expires_at": now() - timedelta(seconds=1)}})
    answer = browser.get(site.link("ida@example.org"))
    assert answer.status_code == 410
    assert "does not work any more" in browser.text


def test_the_database_holds_no_link_that_could_be_followed(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    token = site.link("ida@example.org").partition("=")[2]
    assert token not in str(list(site.store.rows("tickets").find()))


def test_two_who_follow_a_link_at_once_make_one_account(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    token = site.link("ida@example.org").partition("=")[2]

    async def both() -> list[Any]:
        verify = site.side.registrar.verify
        return await asyncio.gather(*(verify(token, PASSWORD, Visit()) for _ in range(2)), return_exceptions=True)

    outcomes = site.loop.run(both())
    assert sorted(isinstance(outcome, LinkError) for outcome in outcomes) == [False, True]
    assert len(site.records.kept) == 1


def test_registering_twice_makes_one_account_and_the_second_link_leads_nowhere(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    first = site.link("ida@example.org")
    register(browser, **PERSON)
    second = site.link("ida@example.org")
    follow(browser, first)
    assert follow(site.browser(), second).status_code == 410
    assert len(site.records.kept) == 1


def test_a_known_address_gets_the_same_answer_and_a_mail_that_says_so(site: Any) -> None:
    site.account("known@example.org")
    pages = []
    for email in ("known@example.org", "fresh@example.org"):
        browser = site.browser()
        answer = register(browser, **{**PERSON, "email": email})
        pages.append((answer.status_code, answer.text.replace(email, "")))
    assert pages[0] == pages[1]
    assert site.mails("known@example.org")[-1]["subject"] == "You have an account already"
    assert site.mails("fresh@example.org")[-1]["subject"] == "Confirm your e-mail address"


def test_what_a_form_leads_to_happens_after_its_answer(site: Any) -> None:
    """Else the time that it takes to send a mail would tell who has an account."""
    browser = site.browser()
    browser.get("/auth/register")
    seen: list[int] = []
    request = {
        "type": "http",
        "method": "POST",
        "path": "/auth/register",
        "query_string": b"",
        "client": ("1.1.1.1", 1),
    }
    cookie = f"hs-csrf={browser.client.cookies['hs-csrf']}".encode()
    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"cookie", cookie)]
    body = "&".join(f"{name}={value}" for name, value in {**PERSON, "csrf": browser.csrf}.items()).encode()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            seen.append(len(site.mails("ida@example.org")))

    site.loop.run(site.app({**request, "headers": headers}, receive, send))
    assert seen == [0]
    assert len(site.mails("ida@example.org")) == 1


def test_nobody_floods_a_mailbox(site: Any) -> None:
    for n in range(8):
        register(site.browser(f"198.51.100.{n}"), **PERSON)
    assert len(site.mails("ida@example.org")) == 4


def test_one_address_cannot_make_the_server_send_mails_without_end(site: Any, browser: Any) -> None:
    statuses = [register(browser, **{**PERSON, "email": f"p{n}@example.org"}).status_code for n in range(21)]
    assert statuses == [200] * 20 + [429]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "a@b@c.org"),
        ("email", "ida@example.org\nBcc: all@example.org"),
        ("email", f"{'x' * 250}@example.org"),
        ("given", " "),
        ("family", "x" * 61),
        ("birth_date", "1980-02-30"),
        ("birth_date", "2980-01-01"),
        ("birth_date", "1879-03-14"),
        ("birth_date", "19800301"),
    ],
)
def test_a_form_that_is_not_filled_in_says_where(site: Any, browser: Any, field: str, value: str) -> None:
    answer = register(browser, **{**PERSON, field: value})
    assert answer.status_code == 400
    assert f'id="{field}-about"' in answer.text
    assert 'value="1980-03-01"' in answer.text or field == "birth_date"  # what was right is kept
    assert site.store.rows("mails").count_documents({}) == 0


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("short", "at least 10"),
        ("passwordpassword", "easy to guess"),
        ("ida@example.org", "name or e-mail address"),
        ("Ida Maria Berg", "name or e-mail address"),
        ("1234567890", "easy to guess"),
        ("idaberg1980", "easy to guess"),
        ("x" * 257, "at most 256"),
    ],
)
def test_a_password_that_is_easily_guessed_is_not_taken(site: Any, browser: Any, password: str, says: str) -> None:
    register(browser, **PERSON)
    answer = follow(browser, site.link("ida@example.org"), password)
    assert answer.status_code == 400
    assert says in browser.text
    assert f'type="password" value="{password}"' not in answer.text
    assert follow(browser, site.link("ida@example.org")).url.path == "/auth/account"  # the link is still good


def test_the_repetition_must_be_the_same(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    assert follow(browser, site.link("ida@example.org"), repeat="something else").status_code == 400
    assert "differ" in browser.text


def test_a_record_that_is_refused_leaves_the_link_good(site: Any, browser: Any) -> None:
    register(browser, **PERSON)
    site.records.refuses = True
    assert follow(browser, site.link("ida@example.org")).status_code == 422
    assert site.side.parts.accounts.row_of_email("ida@example.org") is None
    site.records.refuses = False
    assert follow(browser, site.link("ida@example.org")).url.path == "/auth/account"


@pytest.mark.parametrize("who", ["patient", "doctor"])
def test_a_registration_that_ended_half_way_is_finished_by_registering_again(site: Any, who: str) -> None:
    """The server may end between the account and its record."""
    path, fields = ("/auth/apply", DOCTOR) if who == "doctor" else ("/auth/register", PERSON)
    register(site.browser(), path, **fields)
    token = site.link(fields["email"]).partition("=")[2]

    async def ended(*_: Any) -> str:
        raise SystemError("the machine went down")

    create, site.records.create = site.records.create, ended
    with pytest.raises(SystemError):
        site.loop.run(site.side.registrar.verify(token, PASSWORD, Visit()))
    site.records.create = create
    assert site.row(fields["email"])["state"] == "unverified"
    assert site.browser().sign_in(fields["email"]).status_code == 403
    browser = site.browser()
    register(browser, path, **fields)
    follow(browser, site.link(fields["email"]))
    row = site.row(fields["email"])
    assert row["state"] == ("pending" if who == "doctor" else "active")
    assert list(site.records.kept) == [row["fhir_user"]]
    assert "resource" not in row


def test_of_two_who_decide_at_once_the_practitioner_follows_the_one_that_counts(site: Any) -> None:
    account_id = apply(site)

    async def both() -> list[Any]:
        return await asyncio.gather(
            *(
                site.side.verification.decide(account_id, decision, by=f"admin-{decision}", visit=Visit())
                for decision in ("approve", "reject")
            ),
            return_exceptions=True,
        )

    site.loop.run(both())
    row = site.row("dora@example.org")
    assert len(row["verification"]["decisions"]) == 1
    assert site.records.kept[row["fhir_user"]]["active"] is (row["verification"]["state"] == "verified")


def test_registration_can_be_switched_off(make_site: Any) -> None:
    site = make_site(rules=AccountRules(self_registration=False, applications=False))
    browser = site.browser()
    assert browser.get("/auth/register").status_code == 404
    assert browser.get("/auth/apply").status_code == 404
    assert "Register" not in browser.get("/auth/sign-in").text


# --- doctors ----------------------------------------------------------------------------------------------------------


def apply(site: Any) -> str:
    """The id of the account of a doctor who has applied and proven the address."""
    browser = site.browser()
    register(browser, "/auth/apply", **DOCTOR)
    follow(browser, site.link("dora@example.org"))
    assert "Your application has arrived" in browser.text
    return str(site.row("dora@example.org")["_id"])


def decide(site: Any, account_id: str, decision: str, by: str) -> Any:
    return site.loop.run(site.side.verification.decide(account_id, decision, by=by, visit=Visit()))


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


# --- staff ------------------------------------------------------------------------------------------------------------


def invite(site: Any, role: str = "front-desk", **more: Any) -> Any:
    return site.loop.run(
        site.side.administration.invite(
            email="sam@example.org", name="Sam Desk", role=role, by="admin-1", inviter="Rosa", visit=Visit(), **more
        )
    )[0]


def test_staff_take_an_invitation_up_and_get_a_practitioner_of_their_organization(site: Any, browser: Any) -> None:
    site.records.kept["Organization/1"] = {"resourceType": "Organization", "id": "1"}
    account = invite(site, organization="Organization/1")
    assert account.state == "unverified"
    assert "Rosa has prepared an account" in site.mails("sam@example.org")[-1]["text"]
    assert follow(browser, site.link("sam@example.org")).url.path == "/auth/account"
    row = site.row("sam@example.org")
    assert (row["state"], row["role"], row["organization"]) == ("active", "front-desk", "Organization/1")
    assert site.records.kept[row["fhir_user"]]["resourceType"] == "Practitioner"


def test_an_invited_administrator_sets_a_second_factor_up_before_getting_in(site: Any, browser: Any) -> None:
    invite(site, role="administrator")
    assert follow(browser, site.link("sam@example.org")).url.path == "/auth/sign-in/set-up"
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_a_fresh_invitation_makes_the_earlier_one_void(site: Any, browser: Any) -> None:
    account = invite(site)
    first = site.link("sam@example.org")
    site.loop.run(site.side.administration.send_link(account.id, by="admin-1", visit=Visit()))
    assert browser.get(first).status_code == 410
    assert follow(browser, site.link("sam@example.org")).url.path == "/auth/account"


def test_whoever_is_invited_and_registers_or_forgets_gets_the_invitation_again(site: Any, browser: Any) -> None:
    invite(site)
    register(browser, **{**PERSON, "email": "sam@example.org"})
    browser.get("/auth/forgot")
    browser.send("/auth/forgot", email="sam@example.org")
    subjects = [mail["subject"] for mail in site.mails("sam@example.org")]
    assert subjects == ["You are invited to HealthSphere"] * 3


def test_an_invitation_cannot_be_taken_up_after_the_account_was_disabled(site: Any, browser: Any) -> None:
    account = invite(site)
    site.loop.run(site.side.administration.disable(account.id, by="admin-1", visit=Visit()))
    assert browser.get(site.link("sam@example.org")).status_code == 410


# --- proxies ----------------------------------------------------------------------------------------------------------


def ask(site: Any, email: str) -> Any:
    patient = site.browser()
    patient.sign_in("ida@example.org")
    patient.send("/auth/account/proxies", email=email, name="Paul Berg")
    return patient


def test_a_patient_asks_somebody_new_to_act_for_them(site: Any, browser: Any) -> None:
    site.account()
    patient = ask(site, "paul@example.org")
    assert "a mail is on its way" in patient.text
    assert "has not accepted yet" in patient.text
    assert "Ida Berg has prepared an account" in site.mails("paul@example.org")[-1]["text"]
    follow(browser, site.link("paul@example.org"))
    row = site.row("paul@example.org")
    assert (row["role"], row["state"], row["patients"]) == ("proxy", "active", ["Patient/3"])
    related = site.records.kept[row["fhir_user"]]
    assert (related["resourceType"], related["patient"]) == ("RelatedPerson", {"reference": "Patient/3"})


def test_another_patient_accepts_to_act_and_only_that_one_can(site: Any, browser: Any) -> None:
    site.account()
    site.account("paul@example.org", fhir_user="Patient/4", name="Paul Berg")
    site.account("eve@example.org", fhir_user="Patient/5")
    patient = ask(site, "paul@example.org")
    assert "Paul" not in patient.text.partition("Ask somebody")[0].partition("People who act for you")[2]
    link = site.link("paul@example.org")
    eve = site.browser()
    eve.sign_in("eve@example.org")
    assert eve.get(link).status_code == 410
    browser.sign_in("paul@example.org")
    browser.get(link)
    assert "Ida Berg would like you" in browser.text
    browser.send("/auth/proxy", token=link.partition("=")[2])
    assert site.row("paul@example.org")["patients"] == ["Patient/3"]
    assert site.row("eve@example.org")["patients"] == []


def test_the_patient_ends_it_at_once(site: Any) -> None:
    site.account()
    proxy = site.account("paul@example.org", role="proxy", patients=("Patient/3", "Patient/9"))
    patient = site.browser()
    patient.sign_in("ida@example.org")
    patient.send("/auth/account/proxies/end", id=proxy.id)
    assert site.row("paul@example.org")["patients"] == ["Patient/9"]
    assert site.apps.cut_off == [proxy.id]


def test_the_page_does_not_tell_whether_somebody_has_an_account(site: Any) -> None:
    site.account()
    site.account("doc@example.org", role="practitioner")
    texts = []
    for email in ("doc@example.org", "ida@example.org"):
        patient = ask(site, email)
        texts.append((patient.page.status_code, patient.page.url.path, "on its way" in patient.text))
    assert texts == [(200, "/auth/account", True)] * 2
    assert site.mails("doc@example.org") == []


def test_staff_cannot_make_somebody_a_proxy_of_theirs(site: Any, browser: Any) -> None:
    site.account("doc@example.org", role="practitioner", fhir_user="Practitioner/1")
    browser.sign_in("doc@example.org")
    answer = browser.send("/auth/account/proxies", email="paul@example.org", name="Paul")
    assert answer.status_code == 403
    assert not re.search("paul", str(site.store.rows("accounts").distinct("key")))
