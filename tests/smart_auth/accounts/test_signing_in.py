"""Signing in and out: who gets in, who does not, and that the answer tells nobody more than it should."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI

from smart_auth.accounts import now
from smart_auth.pages.page import safe_next
from smart_auth.passwords import Passwords

PASSWORD = "tangerine gravel kazoo"


def test_a_patient_signs_in_and_sees_the_account(site: Any, browser: Any) -> None:
    site.account()
    answer = browser.sign_in("IDA@example.ORG ")
    assert answer.url.path == "/auth/account"
    assert "Ida Berg" in browser.text
    assert site.trail.details("sign-in") == ["pwd"]
    assert site.trail.happenings[0].address == "198.51.100.7"


def test_nobody_is_signed_in_without_a_session_and_comes_back_after_it(site: Any, browser: Any) -> None:
    site.account()
    answer = browser.get("/auth/account/email")
    assert answer.url.path == "/auth/sign-in"
    assert answer.url.params["next"] == "/auth/account/email"
    answer = browser.send("/auth/sign-in", email="ida@example.org", password=PASSWORD, next=answer.url.params["next"])
    assert answer.url.path == "/auth/account/email"


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(site: Any) -> None:
    site.account()
    answers = []
    for email, password in (("ida@example.org", "not the password"), ("nobody@example.org", PASSWORD)):
        browser = site.browser()
        answer = browser.sign_in(email, password)
        answers.append((answer.status_code, re.sub(r'(value|data-csrf)="[^"]*"', "", answer.text)))
        assert browser.client.cookies.get("hs-session") is None
    assert answers[0] == answers[1]
    assert answers[0][0] == 403
    assert "The e-mail address or the password is wrong." in answers[0][1]
    assert site.trail.details("sign-in-refused") == ["wrong password", "no such account"]


@pytest.mark.parametrize(
    ("state", "says"), [("pending", "still being looked at"), ("disabled", "is disabled"), ("unverified", "disabled")]
)
def test_why_an_account_is_closed_is_told_only_to_whoever_knows_the_password(
    site: Any, browser: Any, state: str, says: str
) -> None:
    site.account(state=state)
    assert browser.sign_in("ida@example.org", "not the password").status_code == 403
    assert says not in browser.text
    assert browser.sign_in("ida@example.org").status_code == 403
    assert says in browser.text
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_a_disabled_account_loses_its_open_sessions_at_once(site: Any, browser: Any) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    site.side.parts.accounts.change(account.id, {"state": "disabled"})
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_a_password_hashed_with_older_parameters_is_hashed_anew_at_sign_in(make_site: Any) -> None:
    site = make_site(passwords=Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)))
    site.account()
    assert "m=8,t=1" in site.row("ida@example.org")["password"]
    site.browser().sign_in("ida@example.org")
    assert "m=16,t=2" in site.row("ida@example.org")["password"]
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/account"


# --- throttling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["ida@example.org", "nobody@example.org"])
def test_guessing_is_slowed_down_for_known_and_unknown_addresses_alike(site: Any, email: str) -> None:
    site.account()
    statuses = [site.browser(f"198.51.100.{n}").sign_in(email, "wrong password").status_code for n in range(6)]
    assert statuses == [403] * 5 + [429]
    browser = site.browser("203.0.113.1")
    answer = browser.sign_in(email)
    assert answer.status_code == 429  # the right password must wait, too, else it could be found by its answer
    assert 25 <= int(answer.headers["retry-after"]) <= 30


def test_waits_double_and_end_and_a_right_password_forgets_them(site: Any) -> None:
    site.account()
    attempts = site.store.rows("attempts")
    for _ in range(5):
        site.browser().sign_in("ida@example.org", "wrong password")
    key = "password:ida@example.org"
    waits = []
    for _ in range(7):
        attempts.update_one({"_id": key}, {"$set": {"until": now() - timedelta(seconds=1)}})
        before = now()
        site.browser().sign_in("ida@example.org", "wrong password")
        waits.append(round((attempts.find_one({"_id": key})["until"] - before).total_seconds()))
    assert waits == [60, 120, 240, 480, 900, 900, 900]
    attempts.update_one({"_id": key}, {"$set": {"until": now() - timedelta(seconds=1)}})
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/account"
    assert attempts.find_one({"_id": key}) is None


def test_one_address_cannot_try_many_accounts(site: Any) -> None:
    statuses = [
        site.browser("198.51.100.9").sign_in(f"p{n}@example.org", "wrong password").status_code for n in range(41)
    ]
    assert statuses == [403] * 40 + [429]
    assert site.browser("198.51.100.10").sign_in("p1@example.org", "wrong password").status_code == 403


def test_a_clinic_behind_one_address_signs_in_as_often_as_it_likes(site: Any) -> None:
    site.account()
    for _ in range(45):
        assert site.browser("198.51.100.9").sign_in("ida@example.org").url.path == "/auth/account"


def test_guesses_sent_at_once_are_counted_before_any_is_judged(site: Any) -> None:
    site.account()

    async def guess() -> str:
        from smart_auth.parts import Visit  # noqa: PLC0415
        from smart_auth.signing_in import RefusedError  # noqa: PLC0415
        from smart_auth.throttle import ThrottledError  # noqa: PLC0415

        try:
            await site.side.sign_in.with_password("ida@example.org", "wrong password", Visit("198.51.100.1"))
        except RefusedError:
            return "judged"
        except ThrottledError:
            return "waits"
        return "in"

    async def all_at_once() -> list[str]:
        import asyncio  # noqa: PLC0415

        return await asyncio.gather(*(guess() for _ in range(30)))

    outcomes = site.loop.run(all_at_once())
    assert outcomes.count("judged") <= 5
    assert set(outcomes) == {"judged", "waits"}


# --- where one may be sent --------------------------------------------------------------------------------------------

ELSEWHERE = [
    "https://evil.example/",
    "//evil.example/",
    "/\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/%0a/evil\n.example",
    " /auth/account",
    "javascript:alert(1)",
    "evil",
    "",
]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nobody_is_sent_to_another_place_after_signing_in(site: Any, browser: Any, path: str) -> None:
    site.account()
    browser.client.follow_redirects = False
    browser.get("/auth/sign-in", params={"next": path})
    answer = browser.send("/auth/sign-in", email="ida@example.org", password=PASSWORD, next=path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/auth/account")


def test_paths_of_this_server_are_kept_whole() -> None:
    path = "/auth/authorize/continue?request=abc&x=%2F%2Fy"
    assert safe_next(path) == path


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/auth/sign-in", "/auth/register", "/auth/apply", "/auth/forgot"])
def test_a_form_without_the_token_of_this_browser_is_refused(site: Any, path: str) -> None:
    one, other = site.browser(), site.browser()
    other.get(path)
    one.get(path)
    for token in ("", "x" * 43, other.csrf):
        assert one.client.post(path, data={"csrf": token, "email": "ida@example.org"}).status_code == 403
    assert site.browser().client.post(path, data={"csrf": ""}).status_code == 403


def test_a_form_of_a_session_needs_the_token_of_that_session(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    anonymous = browser.client.cookies["hs-csrf"]
    assert browser.client.post("/auth/account/name", data={"csrf": anonymous, "name": "X"}).status_code == 403
    assert site.row("ida@example.org")["name"] == "Ida Berg"
    assert browser.send("/auth/account/name", name="Ida  Maria Berg").status_code == 200
    assert site.row("ida@example.org")["name"] == "Ida Maria Berg"


def test_what_the_browser_itself_calls_cross_site_is_refused(site: Any, browser: Any) -> None:
    site.account()
    browser.get("/auth/sign-in")
    answer = browser.client.post(
        "/auth/sign-in",
        data={"csrf": browser.csrf, "email": "ida@example.org", "password": PASSWORD},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403


def test_a_form_that_is_too_large_or_no_form_is_refused(site: Any, browser: Any) -> None:
    browser.get("/auth/sign-in")
    assert browser.send("/auth/sign-in", email="x" * 70_000).status_code == 413
    browser.get("/auth/sign-in")
    assert browser.client.post("/auth/sign-in", json={"csrf": browser.csrf}).status_code == 415
    body = b"&".join(b"a%d=1" % n for n in range(300))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert browser.client.post("/auth/sign-in", content=body, headers=form).status_code == 413


def test_pages_tell_browsers_to_be_strict(site: Any, browser: Any) -> None:
    answer = browser.get("/auth/register")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("/auth/sign-in", "/auth/register", "/auth/apply", "/auth/forgot"):
        text = browser.get(path).text
        assert not re.search(r"<script(?! src=)|<style|\sstyle=|\son\w+=", text)


def test_names_cannot_smuggle_markup_into_pages(site: Any, browser: Any) -> None:
    site.account(name="<script>alert(1)</script>")
    browser.sign_in("ida@example.org")
    assert "<script>alert" not in browser.page.text
    answer = browser.get("/auth/sign-in", params={"login_hint": '"><img src=x>', "next": '/"><b>'})
    assert "<img src=x" not in answer.text
    assert '"><b>' not in answer.text


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_signing_in_gives_a_new_cookie_and_ends_the_session_of_the_old_one(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    first = browser.client.cookies["hs-session"]
    browser.sign_in("ida@example.org")
    assert browser.client.cookies["hs-session"] != first
    thief = site.browser()
    thief.client.cookies.set("hs-session", first)
    assert thief.get("/auth/account").url.path == "/auth/sign-in"


def test_a_cookie_planted_before_signing_in_is_worth_nothing_after(site: Any, browser: Any) -> None:
    site.account()
    browser.client.cookies.set("hs-session", "planted-by-somebody-else", domain="localhost.local")
    browser.sign_in("ida@example.org")
    thief = site.browser()
    thief.client.cookies.set("hs-session", "planted-by-somebody-else")
    assert thief.get("/auth/account").url.path == "/auth/sign-in"


def test_the_database_holds_no_secret_of_a_session(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    assert browser.client.cookies["hs-session"] not in str(list(site.store.rows("sessions").find()))


def test_the_cookie_is_bound_to_the_host_where_people_come_by_https(make_site: Any) -> None:
    site = make_site(base_url="https://fhir.example.org/fhir")
    site.account()
    browser = site.browser()
    browser.client.follow_redirects = False
    cookies = browser.sign_in("ida@example.org").headers.get_list("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("__Host-hs-session="))
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= {part.strip() for part in session.split(";")}
    assert "Domain" not in session


@pytest.mark.parametrize(
    ("field", "value"), [("seen_at", timedelta(hours=-1)), ("expires_at", timedelta(0)), ("created_at", None)]
)
def test_a_session_ends_by_itself(site: Any, browser: Any, field: str, value: timedelta | None) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    if value is None:  # credentials were changed after it began
        site.side.parts.accounts.change(account.id, {"credentials_changed_at": now() + timedelta(seconds=1)})
    else:
        site.store.rows("sessions").update_one({}, {"$set": {field: now() + value}})
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_a_session_in_use_is_kept_alive(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    site.store.rows("sessions").update_one({}, {"$set": {"seen_at": now() - timedelta(minutes=59)}})
    assert browser.get("/auth/account").url.path == "/auth/account"
    assert now() - site.store.rows("sessions").find_one()["seen_at"] < timedelta(minutes=1)


def test_signing_out_ends_the_session_on_the_server_too(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    cookie = browser.client.cookies["hs-session"]
    browser.get("/auth/sign-out")
    browser.send("/auth/sign-out")
    assert "You are signed out" in browser.text
    browser.client.cookies.set("hs-session", cookie)
    assert browser.get("/auth/account").url.path == "/auth/sign-in"
    assert site.trail.details("sign-out") == ["signed out"]


def test_one_signs_out_other_browsers_one_by_one_or_all_at_once(site: Any) -> None:
    site.account()
    here, there, elsewhere = (site.browser(f"198.51.100.{n}") for n in range(3))
    for one in (here, there, elsewhere):
        one.sign_in("ida@example.org")
    here.get("/auth/account")
    assert "198.51.100.1" in here.text
    ids = re.findall(r'name="id" value="([^"]+)"', here.page.text)
    assert len(ids) == 2
    here.send("/auth/account/sessions/end", id=ids[0])
    assert [one.get("/auth/account").url.path for one in (there, elsewhere)].count("/auth/sign-in") == 1
    here.get("/auth/account")
    here.send("/auth/account/sessions/end-others")
    assert {one.get("/auth/account").url.path for one in (there, elsewhere)} == {"/auth/sign-in"}
    assert here.get("/auth/account").url.path == "/auth/account"
    assert site.apps.cut_off == [site.row("ida@example.org")["_id"]]


def test_nobody_ends_the_session_of_another_account(site: Any, browser: Any) -> None:
    site.account()
    site.account("eve@example.org")
    browser.sign_in("ida@example.org")
    victim = site.store.rows("sessions").find_one({"account_id": site.row("ida@example.org")["_id"]})
    eve = site.browser()
    eve.sign_in("eve@example.org")
    eve.send("/auth/account/sessions/end", id=victim["_id"])
    assert browser.get("/auth/account").url.path == "/auth/account"


def test_the_port_tells_whether_a_session_is_alive(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    session_id = site.store.rows("sessions").find_one()["_id"]
    assert site.loop.run(site.side.sessions.alive(session_id))
    site.side.sessions.end_all(site.row("ida@example.org")["_id"])
    assert not site.loop.run(site.side.sessions.alive(session_id))


# --- proving it once more ---------------------------------------------------------------------------------------------


def test_credentials_are_changed_only_by_whoever_has_just_proven_who_they_are(site: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    before = browser.client.cookies["hs-session"]
    site.proven_long_ago("ida@example.org")
    for path in ("password", "email", "totp", "passkeys"):
        assert browser.get(f"/auth/account/{path}").url.path == "/auth/confirm"
    assert browser.send("/auth/confirm", password="not the password", next="/auth/account/totp").status_code == 403
    answer = browser.send("/auth/confirm", password=PASSWORD, next="/auth/account/totp")
    assert answer.url.path == "/auth/account/totp"
    assert browser.client.cookies["hs-session"] != before


def test_whoever_has_a_second_factor_proves_it_once_more_with_both(site: Any, browser: Any) -> None:
    secret = pyotp.random_base32()
    sealed = site.side.parts.vault.sealed(secret)
    site.account(totp={"secret": sealed, "last_step": 0, "since": now()})
    browser.sign_in("ida@example.org")
    browser.send("/auth/sign-in/second", code=pyotp.TOTP(secret).now())
    site.proven_long_ago("ida@example.org")
    browser.get("/auth/account/password")
    assert browser.send("/auth/confirm", password=PASSWORD, next="/auth/account/password").status_code == 403
    used = pyotp.TOTP(secret).now()
    assert browser.send("/auth/confirm", password=PASSWORD, code=used).status_code == 403  # used at sign-in
    site.store.rows("accounts").update_one({}, {"$set": {"totp.last_step": 0}})
    answer = browser.send("/auth/confirm", password=PASSWORD, code=used, next="/auth/account/password")
    assert answer.url.path == "/auth/account/password"


def test_passkeys_are_offered_where_browsers_can_use_them(make_site: Any) -> None:
    """A browser binds them to a name: on 127.0.0.1 there is none; behind a proxy the inner host does not matter."""

    def offered(base_url: str, host: str) -> bool:
        browser = make_site(base_url=base_url).browser()
        return "Sign in with a passkey" in browser.get("/auth/sign-in", headers={"Host": host}).text

    assert offered("https://fhir.example.org/fhir", "inner:8000")
    assert offered("http://127.0.0.1:8000/fhir", "localhost:8000")
    assert not offered("http://127.0.0.1:8000/fhir", "127.0.0.1:8000")


def test_the_routes_stand_in_an_application_of_fastapi_too(site: Any) -> None:
    application = FastAPI(openapi_url=None)
    application.router.routes.extend(site.side.routes())

    async def pages() -> list[int]:
        transport = httpx.ASGITransport(app=application)
        async with httpx.AsyncClient(transport=transport, base_url=site.side.parts.origin) as client:
            return [
                (await client.get(path)).status_code
                for path in ("/auth/sign-in", "/auth/static/style.css", "/auth/static/passkeys.js", "/auth/none")
            ]

    assert site.loop.run(pages()) == [200, 200, 200, 404]
