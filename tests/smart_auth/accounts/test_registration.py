"""How accounts come to be, by registering; a form tells nobody which addresses are known."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from smart_auth.accounts import now
from smart_auth.parts import AccountRules, Visit
from smart_auth.registration import LinkError
from tests.smart_auth.accounts.registering import DOCTOR, PASSWORD, PERSON, apply, follow, register


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
