"""What administrators can do with accounts, over JSON and on pages; that nobody else can; that they see no records."""

from __future__ import annotations

from typing import Any

import pyotp
import pytest

from fhir_server.model.access import Identity
from smart_auth.accounts import now
from smart_auth.parts import AccountRules, Visit

PASSWORD = "tangerine gravel kazoo"
BASE = "/auth/admin/accounts"


@pytest.fixture
def admin(site: Any) -> Any:
    """The browser of an administrator who is signed in; `admin.api` sends JSON."""
    secret = pyotp.random_base32()
    sealed = site.side.parts.vault.sealed(secret)
    site.account(
        "root@example.org",
        role="administrator",
        name="Rosa Root",
        totp={"secret": sealed, "last_step": 0, "since": now()},
    )
    browser = site.browser()
    browser.sign_in("root@example.org")
    browser.send("/auth/sign-in/second", code=pyotp.TOTP(secret).now())
    assert browser.page.url.path == "/auth/account"
    return browser


def api(browser: Any, method: str, path: str = "", body: Any = None, **how: Any) -> Any:
    headers = {"X-CSRF-Token": browser.csrf, **how.pop("headers", {})}
    return browser.client.request(method, BASE + path, json=body, headers=headers, **how)


def key_of(answer: Any) -> str:
    assert answer.json()["resourceType"] == "OperationOutcome"
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


# --- who may ----------------------------------------------------------------------------------------------------------

ROUTES = [
    ("GET", ""),
    ("POST", ""),
    ("GET", "/x"),
    ("PATCH", "/x"),
    *(
        ("POST", f"/x/{action}")
        for action in ("disable", "enable", "reset-second-factor", "sign-out", "send-link", "verification")
    ),
]


def test_every_route_of_the_api_is_among_those_tried_here(site: Any) -> None:
    found = {
        (method, route.path.removeprefix(BASE).replace("{id}", "x"))
        for route in site.app.routes
        if route.path.startswith(BASE)
        for method in route.methods - {"HEAD"}
    }
    assert found == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_nobody_but_an_administrator_gets_in(site: Any, browser: Any, method: str, path: str) -> None:
    assert browser.client.request(method, BASE + path).status_code == 401
    for role in ("patient", "proxy", "practitioner", "pharmacy", "front-desk", "auditor"):
        email = f"{role}@example.org"
        site.account(email, role=role, fhir_user=None)
        person = site.browser()
        person.sign_in(email)
        assert api(person, method, path, {}).status_code == 403
    assert "account administration refused" in site.trail.details("account")


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] != "GET"])
def test_changes_from_a_browser_need_the_token_of_the_session(site: Any, admin: Any, method: str, path: str) -> None:
    answer = api(admin, method, path, {}, headers={"X-CSRF-Token": "x"})
    assert (answer.status_code, key_of(answer)) == (403, "HS-ADMIN-CSRF")


@pytest.mark.parametrize(
    ("role", "scope", "status"),
    [
        ("administrator", "openid accounts", 200),
        ("administrator", "user/*.rs", 403),
        ("patient", "accounts", 403),
        ("system", "accounts system/*.cruds", 403),
        ("operator", "", 200),
    ],
)
def test_a_token_needs_the_role_and_the_scope(site: Any, browser: Any, role: Any, scope: str, status: int) -> None:
    site.tokens["good"] = Identity("someone", "app", role, scope=scope)
    assert browser.client.get(BASE, headers={"Authorization": "Bearer good"}).status_code == status
    answer = browser.client.get(BASE, headers={"Authorization": "Bearer bad"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_bad_token_is_not_made_good_by_a_session(site: Any, admin: Any) -> None:
    assert admin.client.get(BASE, headers={"Authorization": "Bearer bad"}).status_code == 401


@pytest.mark.parametrize("path", ["/auth/admin", "/auth/admin/mail", "/auth/admin/account/x"])
def test_the_pages_are_for_administrators_too(site: Any, browser: Any, path: str) -> None:
    assert browser.get(path).url.path == "/auth/sign-in"
    site.account()
    browser.sign_in("ida@example.org")
    assert browser.get(path).status_code == 403
    assert 'href="/auth/admin"' not in browser.get("/auth/account").text


# --- what they do -----------------------------------------------------------------------------------------------------


def test_accounts_are_listed_page_by_page_and_found_by_name_address_role_and_state(site: Any, admin: Any) -> None:
    for n in range(5):
        site.account(f"p{n}@example.org", name=f"Person Nr{n}", fhir_user=f"Patient/{n}")
    seen, after = [], ""
    while after is not None:
        page = api(admin, "GET", params={"count": "2", "after": after}).json()
        seen += [account["email"] for account in page["accounts"]]
        after = page["after"]
    # They come in the order of their ids, which of one millisecond is none.
    assert sorted(seen) == sorted(["root@example.org", *(f"p{n}@example.org" for n in range(5))])

    def found(**query: str) -> list[str]:
        return [account["email"] for account in api(admin, "GET", params=query).json()["accounts"]]

    assert found(text="P3@EXAMPLE") == ["p3@example.org"]
    assert found(text="nr4") == ["p4@example.org"]
    assert found(text=".*") == []
    assert found(role="administrator") == ["root@example.org"]
    assert found(state="disabled") == []
    assert api(admin, "GET", params={"count": "many"}).status_code == 400


def test_an_account_shows_no_secret(site: Any, admin: Any) -> None:
    text = api(admin, "GET", params={"text": "root"}).text
    row = site.row("root@example.org")
    assert row["password"] not in text
    assert "argon2" not in text
    assert '"totp":true' in text


def test_somebody_is_invited_and_gets_a_mail(site: Any, admin: Any) -> None:
    body = {"email": "sam@example.org", "name": "Sam Desk", "role": "front-desk"}
    answer = api(admin, "POST", "", body)
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{BASE}/{answer.json()['id']}"
    assert answer.json()["state"] == "unverified"
    assert "Rosa Root has prepared" in site.mails("sam@example.org")[0]["text"]
    again = api(admin, "POST", "", {**body, "email": "SAM@example.org"})
    assert (again.status_code, key_of(again)) == (409, "HS-ACCOUNT-EMAIL")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"email": "nothing"}, "email"),
        ({"name": " "}, "name"),
        ({"role": "operator"}, "role"),
        ({"role": "king"}, "role"),
        ({"fhirUser": "Patient/3"}, "fhirUser"),
        ({"fhirUser": "Practitioner/none"}, "fhirUser"),
        ({"organization": "Organization/none"}, "organization"),
        ({"organization": "Patient/3"}, "organization"),
        ({"patients": ["Patient/3"]}, "patients"),
        ({"role": "proxy", "patients": ["Patient/none"]}, "patients"),
    ],
)
def test_a_field_that_is_not_possible_is_named(site: Any, admin: Any, fields: dict[str, Any], names: str) -> None:
    site.records.kept["Patient/3"] = {"resourceType": "Patient", "id": "3"}
    body = {"email": "sam@example.org", "name": "Sam Desk", "role": "pharmacy", **fields}
    answer = api(admin, "POST", "", body)
    assert (answer.status_code, key_of(answer)) == (400, "HS-ACCOUNT-FIELD")
    assert answer.json()["issue"][0]["expression"] == [names]
    assert site.mails("sam@example.org") == []


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"email": 1}', b'{"password": "x"}', b'{"patients": [1]}', b"[" * 9999]
)
def test_a_body_of_another_shape_is_refused(site: Any, admin: Any, body: bytes) -> None:
    headers = {"X-CSRF-Token": admin.csrf}
    answer = admin.client.post(BASE, content=body, headers=headers)
    assert (answer.status_code, key_of(answer)) == (400, "HS-ACCOUNT-FIELD")


def test_a_disabled_account_is_locked_out_at_once_and_enabled_again(site: Any, admin: Any, browser: Any) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    assert api(admin, "POST", f"/{account.id}/disable").json()["state"] == "disabled"
    assert browser.get("/auth/account").url.path == "/auth/sign-in"
    assert site.apps.cut_off == [account.id]
    assert browser.sign_in("ida@example.org").status_code == 403
    assert api(admin, "POST", f"/{account.id}/enable").json()["state"] == "active"
    assert browser.sign_in("ida@example.org").url.path == "/auth/account"
    assert key_of(api(admin, "POST", f"/{account.id}/enable")) == "HS-ACCOUNT-STATE"


def test_an_invitation_that_was_disabled_is_an_invitation_again_when_enabled(site: Any, admin: Any) -> None:
    api(admin, "POST", "", {"email": "sam@example.org", "name": "Sam", "role": "pharmacy"})
    account_id = site.row("sam@example.org")["_id"]
    api(admin, "POST", f"/{account_id}/disable")
    assert key_of(api(admin, "POST", f"/{account_id}/send-link")) == "HS-ACCOUNT-STATE"
    assert api(admin, "POST", f"/{account_id}/enable").json()["state"] == "unverified"


def test_the_last_administrator_stays(site: Any, admin: Any) -> None:
    own = site.row("root@example.org")["_id"]
    assert key_of(api(admin, "POST", f"/{own}/disable")) == "HS-ACCOUNT-STATE"
    assert key_of(api(admin, "PATCH", f"/{own}", {"role": "auditor"})) == "HS-ACCOUNT-STATE"
    second = site.account("two@example.org", role="administrator")
    assert api(admin, "POST", f"/{second.id}/disable").status_code == 200


def test_another_role_ends_what_was_allowed_before(site: Any, admin: Any, browser: Any) -> None:
    site.records.kept["Practitioner/1"] = {"resourceType": "Practitioner", "id": "1"}
    account = site.account("sam@example.org", role="practitioner", fhir_user="Practitioner/1")
    browser.sign_in("sam@example.org")
    answer = api(admin, "PATCH", f"/{account.id}", {"role": "front-desk", "name": "Sam Desk"})
    assert (answer.json()["role"], answer.json()["name"]) == ("front-desk", "Sam Desk")
    assert browser.get("/auth/account").url.path == "/auth/sign-in"
    assert site.apps.cut_off == [account.id]
    assert api(admin, "PATCH", f"/{account.id}", {"fhirUser": None}).json()["fhirUser"] is None
    assert key_of(api(admin, "PATCH", f"/{account.id}", {"state": "active"})) == "HS-ACCOUNT-FIELD"


def test_lost_second_factors_are_removed_and_the_owner_is_told(site: Any, admin: Any) -> None:
    secret = site.side.parts.vault.sealed(pyotp.random_base32())
    account = site.account(totp={"secret": secret, "last_step": 0, "since": now()})
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/sign-in/second"
    answer = api(admin, "POST", f"/{account.id}/reset-second-factor")
    assert answer.json()["secondFactors"] == {"totp": False, "passkeys": 0, "recoveryCodes": 0}
    assert site.browser().sign_in("ida@example.org").url.path == "/auth/account"
    assert "removed your second factors" in site.mails("ida@example.org")[-1]["text"]


def test_somebody_is_signed_out_everywhere_or_gets_a_link(site: Any, admin: Any, browser: Any) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    assert api(admin, "POST", f"/{account.id}/sign-out").status_code == 200
    assert browser.get("/auth/account").url.path == "/auth/sign-in"
    assert api(admin, "POST", f"/{account.id}/send-link").status_code == 200
    assert site.link("ida@example.org").startswith("/auth/reset?token=")


def test_a_doctor_is_verified_over_the_api(site: Any, admin: Any) -> None:
    reference = site.loop.run(site.records.create({"resourceType": "Practitioner", "active": False}, "x"))
    account = site.account(
        "dora@example.org",
        role="practitioner",
        state="pending",
        fhir_user=reference,
        application={"specialty": "Cardiology", "licence": "1", "issuer": "Board", "organization": ""},
        verification={"state": "applied", "decisions": [], "since": now()},
    )
    assert key_of(api(admin, "POST", f"/{account.id}/verification", {"decision": "maybe"})) == "HS-ACCOUNT-FIELD"
    answer = api(admin, "POST", f"/{account.id}/verification", {"decision": "approve", "note": "called the board"})
    assert (answer.json()["state"], answer.json()["verification"]["state"]) == ("active", "verified")
    assert answer.json()["verification"]["decisions"][0]["note"] == "called the board"
    again = api(admin, "POST", f"/{account.id}/verification", {"decision": "approve"})
    assert (again.status_code, key_of(again)) == (409, "HS-ACCOUNT-STATE")
    patient = site.account()
    answer = api(admin, "POST", f"/{patient.id}/verification", {"decision": "approve"})
    assert (answer.status_code, key_of(answer)) == (404, "HS-ACCOUNT-UNKNOWN")


def test_an_unknown_account_is_not_found(site: Any, admin: Any) -> None:
    for method, path in ROUTES[2:]:
        answer = api(admin, method, path, {"decision": "approve"} if "verification" in path else {})
        assert (answer.status_code, key_of(answer)) == (404, "HS-ACCOUNT-UNKNOWN")


# --- the pages --------------------------------------------------------------------------------------------------------


def test_an_administrator_invites_finds_and_disables_on_pages(site: Any, admin: Any) -> None:
    admin.get("/auth/admin")
    assert "Rosa Root" in admin.text
    admin.send("/auth/admin/invite", email="sam@example.org", name="Sam Desk", role="front-desk")
    assert "sam@example.org is invited" in admin.text
    answer = admin.send("/auth/admin/invite", email="sam@example.org", name="Sam Desk", role="front-desk")
    assert answer.status_code == 409
    answer = admin.send("/auth/admin/invite", email="x@example.org", name="X", role="front-desk", patients="Patient/3")
    assert answer.status_code == 400
    assert "Only a proxy" in admin.text
    account_id = site.row("sam@example.org")["_id"]
    admin.get(f"/auth/admin/account/{account_id}")
    for action, state in (("disable", "disabled"), ("enable", "unverified"), ("send-link", "unverified")):
        admin.send(f"/auth/admin/account/{account_id}", action=action)
        assert admin.page.status_code == 200
        assert site.row("sam@example.org")["state"] == state
    assert len(site.mails("sam@example.org")) == 2
    assert admin.send(f"/auth/admin/account/{account_id}", action="explode").status_code == 400
    own = site.row("root@example.org")["_id"]
    admin.get(f"/auth/admin/account/{own}")
    assert admin.send(f"/auth/admin/account/{own}", action="disable").status_code == 409
    assert admin.get("/auth/admin/account/none").status_code == 404


def test_local_mails_are_read_by_administrators_and_by_all_only_without_access_control(
    site: Any, admin: Any, make_site: Any
) -> None:
    site.account()
    site.loop.run(site.side.credentials.forgotten("ida@example.org", Visit()))
    admin.get("/auth/admin/mail")
    assert "Choose a new password" in admin.text
    assert f'href="{site.side.parts.origin}/auth/reset?token=' in admin.page.text
    open_site = make_site(rules=AccountRules(open_mail=True))
    assert open_site.browser().get("/auth/admin/mail").status_code == 200
