"""How accounts come to be that somebody asks for: of staff, and of proxies of patients."""

from __future__ import annotations

import re
from typing import Any

from smart_auth.parts import Visit
from tests.smart_auth.accounts.registering import PERSON, follow, register

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
