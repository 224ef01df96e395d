"""Changing how one signs in: passwords, addresses, authenticator apps, recovery codes; and getting back in."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import timedelta
from typing import Any

import pyotp
import pytest

from smart_auth import recovery_codes, totp
from smart_auth.accounts import now
from smart_auth.parts import AccountRules, Visit

PASSWORD = "tangerine gravel kazoo"
OTHER = "marmot velvet staircase"
KEY = re.compile(r'<code class="key">([A-Z2-7]+)</code>')
CODES = re.compile(r"<li><code>([0-9A-Z-]{19})</code></li>")


def forget(site: Any, browser: Any, email: str = "ida@example.org") -> None:
    browser.get("/auth/forgot")
    browser.send("/auth/forgot", email=email)


def reset(browser: Any, link: str, password: str = OTHER) -> Any:
    browser.get(link)
    return browser.send("/auth/reset", token=link.partition("=")[2], password=password, repeat=password)


def with_totp(browser: Any) -> tuple[str, list[str]]:
    """Set an authenticator app up; its secret, and the recovery codes."""
    browser.get("/auth/account/totp")
    found = KEY.search(browser.page.text)
    assert found
    answer = browser.send("/auth/account/totp", code=pyotp.TOTP(found[1]).now())
    codes = CODES.findall(answer.text)
    assert len(codes) == 10
    return found[1], codes


def fresh_code(site: Any, secret: str) -> str:
    """A code that was not used yet, as if time had passed."""
    site.store.rows("accounts").update_many({"totp": {"$exists": True}}, {"$set": {"totp.last_step": 0}})
    return pyotp.TOTP(secret).now()


# --- forgotten passwords ----------------------------------------------------------------------------------------------


def test_a_forgotten_password_is_replaced_by_a_link(site: Any, browser: Any) -> None:
    account = site.account()
    signed_in = site.browser()
    signed_in.sign_in("ida@example.org")
    forget(site, browser)
    assert reset(browser, site.link("ida@example.org")).status_code == 200
    assert browser.sign_in("ida@example.org", PASSWORD).status_code == 403
    assert browser.sign_in("ida@example.org", OTHER).url.path == "/auth/account"
    assert signed_in.get("/auth/account").url.path == "/auth/sign-in"
    assert site.apps.cut_off == [account.id]
    assert site.mails("ida@example.org")[-1]["subject"] == "Your account was changed"


def test_an_unknown_address_gets_the_same_answer_and_no_mail(site: Any) -> None:
    site.account()
    site.account("off@example.org", state="disabled", fhir_user="Patient/4")
    pages = []
    for email in ("ida@example.org", "off@example.org", "nobody@example.org"):
        browser = site.browser()
        forget(site, browser, email)
        pages.append((browser.page.status_code, browser.page.text.replace(email, "")))
    assert len(set(pages)) == 1
    assert [len(site.mails(f"{who}@example.org")) for who in ("ida", "off", "nobody")] == [1, 0, 0]


def test_a_reset_link_works_once_ends_soon_and_the_next_one_makes_it_void(site: Any, browser: Any) -> None:
    site.account()
    forget(site, browser)
    first = site.link("ida@example.org")
    forget(site, browser)
    second = site.link("ida@example.org")
    assert browser.get(first).status_code == 410
    assert reset(browser, second).status_code == 200
    assert browser.get(second).status_code == 410
    forget(site, browser)
    third = next(mail for mail in reversed(site.mails("ida@example.org")) if "token" in mail["text"])["text"]
    site.store.rows("tickets").update_many({}, {"$set": {"expires_at": now()}})
    assert browser.get(third.split("8765")[1].split()[0]).status_code == 410


def test_a_link_of_another_kind_sets_no_password(site: Any, browser: Any) -> None:
    account = site.account()
    token = site.side.parts.tickets.issue("new-address", {"account_id": account.id}, timedelta(minutes=5))
    assert browser.get(f"/auth/reset?token={token}").status_code == 410


def test_recovery_by_mail_does_not_replace_the_second_factor(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    with_totp(browser)
    forget(site, site.browser())
    reset(site.browser(), site.link("ida@example.org"))
    assert site.browser().sign_in("ida@example.org", OTHER).url.path == "/auth/sign-in/second"


def test_whoever_is_kept_waiting_by_somebody_elses_guesses_gets_in_by_recovery(site: Any) -> None:
    site.account()
    for _ in range(6):
        site.browser().sign_in("ida@example.org", "wrong password")
    forget(site, site.browser())
    reset(site.browser(), site.link("ida@example.org"))
    assert site.browser().sign_in("ida@example.org", OTHER).url.path == "/auth/account"


# --- password and address ---------------------------------------------------------------------------------------------


def test_a_changed_password_signs_out_everybody_else(site: Any, browser: Any) -> None:
    account = site.account()
    other = site.browser()
    other.sign_in("ida@example.org")
    browser.sign_in("ida@example.org")
    browser.get("/auth/account/password")
    answer = browser.send("/auth/account/password", password=OTHER, repeat=OTHER)
    assert answer.url.path == "/auth/account"
    assert "Your password is changed" in browser.text
    assert other.get("/auth/account").url.path == "/auth/sign-in"
    assert site.apps.cut_off == [account.id]
    assert site.browser().sign_in("ida@example.org", OTHER).url.path == "/auth/account"


def test_a_new_address_counts_when_its_link_was_followed_and_the_old_one_is_told(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    browser.get("/auth/account/email")
    browser.send("/auth/account/email", email="new@example.org")
    assert site.row("ida@example.org")["email"] == "ida@example.org"
    link = site.link("new@example.org")
    assert browser.get(link).status_code == 200
    browser.send("/auth/new-address", token=link.partition("=")[2])
    assert site.side.parts.accounts.row_of_email("ida@example.org") is None
    assert "now new@example.org" in site.mails("ida@example.org")[-1]["text"]
    assert site.browser().sign_in("new@example.org").url.path == "/auth/account"
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_a_reset_link_in_the_old_mailbox_is_void_after_the_address_has_changed(site: Any, browser: Any) -> None:
    site.account()
    forget(site, site.browser())
    old = site.link("ida@example.org")
    browser.sign_in("ida@example.org")
    browser.get("/auth/account/email")
    browser.send("/auth/account/email", email="new@example.org")
    link = site.link("new@example.org")
    browser.get(link)
    browser.send("/auth/new-address", token=link.partition("=")[2])
    assert site.browser().get(old).status_code == 410


def test_the_address_of_another_account_cannot_be_taken_and_the_page_does_not_tell(site: Any, browser: Any) -> None:
    site.account()
    site.account("known@example.org", fhir_user="Patient/4")
    browser.sign_in("ida@example.org")
    browser.get("/auth/account/email")
    assert browser.send("/auth/account/email", email="known@example.org").url.path == "/auth/account"
    assert "We have sent a mail" in browser.text
    assert "token" not in site.mails("known@example.org")[-1]["text"]


def test_an_address_that_was_taken_meanwhile_is_not_given_twice(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    browser.get("/auth/account/email")
    browser.send("/auth/account/email", email="new@example.org")
    link = site.link("new@example.org")
    site.account("NEW@example.org", fhir_user="Patient/4")
    browser.get(link)
    assert browser.send("/auth/new-address", token=link.partition("=")[2]).status_code == 410
    assert site.row("ida@example.org")["email"] == "ida@example.org"


# --- authenticator apps -----------------------------------------------------------------------------------------------


def test_codes_of_an_authenticator_app_are_asked_for_once_it_is_set_up(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    secret, _ = with_totp(browser)
    assert secret not in str(site.row("ida@example.org"))  # sealed
    again = site.browser()
    assert again.sign_in("ida@example.org", next_path="/auth/account?x=1").url.path == "/auth/sign-in/second"
    assert again.client.get("/auth/account").url.path == "/auth/sign-in"
    again.get("/auth/sign-in/second", params={"next": "/auth/account?x=1"})
    answer = again.send("/auth/sign-in/second", code=f" {fresh_code(site, secret)[:3]} 000", next="/auth/account?x=1")
    assert answer.status_code == 403
    answer = again.send("/auth/sign-in/second", code=fresh_code(site, secret), next="/auth/account?x=1")
    assert str(answer.url).endswith("/auth/account?x=1")
    assert site.trail.details("sign-in")[-1] == "pwd otp mfa"


def test_the_picture_is_of_the_secret(site: Any) -> None:
    address = totp.address_of("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "ida@example.org", "HealthSphere")
    assert address == (
        "otpauth://totp/HealthSphere:ida%40example.org?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=HealthSphere"
    )
    assert totp.picture_of(address).startswith("<svg")


def test_a_code_is_good_once_even_for_two_who_come_at_once(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    secret, _ = with_totp(browser)
    code = fresh_code(site, secret)
    row = site.row("ida@example.org")

    async def five() -> list[Any]:
        used = (site.side.sign_in.code_used(row, code, Visit()) for _ in range(5))
        return await asyncio.gather(*used, return_exceptions=True)

    outcomes = site.loop.run(five())
    assert [outcome for outcome in outcomes if outcome is None] == [None]


@pytest.mark.parametrize(("offset_s", "good"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)])
def test_clocks_may_differ_by_one_step(offset_s: int, good: bool) -> None:
    secret, moment = pyotp.random_base32(), 1_800_000_000
    code = pyotp.TOTP(secret).at(moment + offset_s)
    step = totp.step_of(secret, code, 0, moment)
    assert (step == (moment + offset_s) // 30) if good else (step is None)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "١٢٣٤٥٦", "12 34 5x"])
def test_what_is_no_code_is_no_code(code: str) -> None:
    assert totp.step_of(pyotp.random_base32(), code, 0) is None


def test_guessing_codes_is_slowed_down(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    with_totp(browser)
    thief = site.browser()
    thief.sign_in("ida@example.org")
    statuses = []
    for _ in range(6):
        thief.get("/auth/sign-in/second")
        statuses.append(thief.send("/auth/sign-in/second", code="000000").status_code)
    assert statuses == [403] * 5 + [429]


def test_a_second_step_ends_with_its_time_and_with_a_changed_password(site: Any, browser: Any) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    secret, _ = with_totp(browser)
    for change in ("time", "password"):
        again = site.browser()
        again.sign_in("ida@example.org")
        if change == "time":
            site.store.rows("tickets").update_many({"kind": "sign-in-step"}, {"$set": {"expires_at": now()}})
        else:
            site.side.parts.accounts.change(account.id, {"credentials_changed_at": now()})
        answer = again.send("/auth/sign-in/second", code=fresh_code(site, secret))
        assert answer.status_code == 403
        assert "Sign in again" in again.text
        assert again.get("/auth/sign-in/second").url.path == "/auth/sign-in"


def test_an_authenticator_app_can_be_removed(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    with_totp(browser)
    browser.get("/auth/account")
    assert browser.send("/auth/account/totp/remove").url.path == "/auth/account"
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/account"


def test_a_role_that_needs_a_second_factor_sets_it_up_at_the_first_sign_in(site: Any, browser: Any) -> None:
    site.account("root@example.org", role="administrator")
    assert browser.sign_in("root@example.org", next_path="/auth/admin").url.path == "/auth/sign-in/set-up"
    found = KEY.search(browser.page.text)
    assert found
    assert browser.send("/auth/sign-in/set-up", code="000000", next="/auth/admin").status_code == 403
    answer = browser.send("/auth/sign-in/set-up", code=pyotp.TOTP(found[1]).now(), next="/auth/admin")
    assert len(CODES.findall(answer.text)) == 10
    assert 'href="/auth/admin"' in answer.text
    assert browser.get("/auth/admin").status_code == 200
    assert site.browser().sign_in("root@example.org").url.path == "/auth/sign-in/second"


def test_whoever_has_one_factor_cannot_set_another_up_half_signed_in(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    secret, _ = with_totp(browser)
    thief = site.browser()
    thief.sign_in("ida@example.org")
    assert thief.get("/auth/sign-in/set-up").url.path == "/auth/sign-in/second"
    mine = pyotp.random_base32()
    assert thief.send("/auth/sign-in/set-up", code=pyotp.TOTP(mine).now()).url.path == "/auth/sign-in/second"
    assert site.side.parts.vault.opened(site.row("ida@example.org")["totp"]["secret"]) == secret


def test_which_roles_need_a_second_factor_is_a_rule(make_site: Any) -> None:
    site = make_site(rules=AccountRules(second_factor_roles=frozenset({"patient"})))
    site.account()
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/sign-in/set-up"


# --- recovery codes ---------------------------------------------------------------------------------------------------


def test_a_recovery_code_lets_in_once_as_people_type_it(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    _, codes = with_totp(browser)
    assert codes[0] not in str(site.row("ida@example.org"))
    typed = codes[0].lower().replace("-", " ").replace("0", "o").replace("1", "l")
    again = site.browser()
    again.sign_in("ida@example.org")
    assert again.send("/auth/sign-in/second", code=typed).url.path == "/auth/account"
    third = site.browser()
    third.sign_in("ida@example.org")
    assert third.send("/auth/sign-in/second", code=codes[0]).status_code == 403
    assert "9 left" in again.text


def test_new_recovery_codes_make_the_earlier_ones_void(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    _, codes = with_totp(browser)
    browser.get("/auth/account")
    fresh = CODES.findall(browser.send("/auth/account/recovery-codes").text)
    assert len(fresh) == 10
    assert not set(fresh) & set(codes)
    again = site.browser()
    again.sign_in("ida@example.org")
    assert again.send("/auth/sign-in/second", code=codes[1]).status_code == 403
    assert again.send("/auth/sign-in/second", code=fresh[1]).url.path == "/auth/account"


def test_what_cannot_be_a_recovery_code_is_told_by_its_form() -> None:
    codes, digests = recovery_codes.new_codes()
    assert [recovery_codes.digest_of_code(code) for code in codes] == digests
    assert recovery_codes.digest_of_code("U" * 16) is None
    assert recovery_codes.digest_of_code("") is None


def test_unknown_accounts_take_as_long_as_known_ones(make_site: Any) -> None:
    """With the real cost of a hash: without it an unknown address would answer at once."""
    from smart_auth.passwords import Passwords  # noqa: PLC0415

    site = make_site(passwords=Passwords())
    site.account(name="Ida Berg")
    site.side.parts.accounts.change(
        site.row("ida@example.org")["_id"], {"password": site.loop.run(site.side.parts.passwords.hash(PASSWORD))}
    )
    times: dict[str, list[float]] = {"ida@example.org": [], "nobody@example.org": []}
    for n in range(5):
        for email, taken in times.items():
            browser = site.browser(f"198.51.100.{n}")
            browser.get("/auth/sign-in")
            began = time.perf_counter()
            browser.send("/auth/sign-in", email=email, password="wrong password")
            taken.append(time.perf_counter() - began)
    known, unknown = (min(taken) for taken in times.values())
    assert 0.5 < unknown / known < 2
