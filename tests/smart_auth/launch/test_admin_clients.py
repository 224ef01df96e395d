"""Apps and authorizations in the hands of administrators, by pages and by JSON."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

CLIENTS = "/auth/admin/clients"
OPERATOR = {"Authorization": "Bearer operator-token-of-the-tests-000"}
APP = {
    "client_name": "Growth Chart",
    "token_endpoint_auth_method": "client_secret_basic",
    "redirect_uris": ["https://app.example.org/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "scope": "openid launch/patient patient/*.rs offline_access",
}


@pytest.fixture
def administrator(launch_site: Any) -> Any:
    """An administrator's browser."""
    browser = launch_site.browser()
    account = launch_site.account("administrator", name="Ada Min", fhir_user=None)
    _, secret = launch_site.side.sessions.begin(account, ("pwd", "otp"), address="", agent="")
    browser.http.cookies.set(launch_site.side.sessions.cookie, secret)
    return browser


def test_an_app_is_registered_changed_disabled_and_enabled_by_json(launch_site: Any) -> None:
    http = launch_site.http
    made = http.post(CLIENTS, json={**APP, "description": "Draws."}, headers=OPERATOR)
    assert made.status_code == 201, made.text
    one = made.headers["location"]
    secret = made.json()["client_secret"]
    assert http.get(one, headers=OPERATOR).json() == {
        name: value for name, value in made.json().items() if name != "client_secret"
    }
    assert secret not in http.get(CLIENTS, headers=OPERATOR).text
    assert http.patch(one, json={"publisher": "Makers"}, headers=OPERATOR).json()["publisher"] == "Makers"
    assert http.get(one, headers=OPERATOR).json()["description"] == "Draws."
    assert http.post(f"{one}/disable", headers=OPERATOR).json()["active"] is False
    assert http.post(f"{one}/enable", headers=OPERATOR).json()["active"] is True
    renewed = http.post(f"{one}/rotate-secret", headers=OPERATOR).json()["client_secret"]
    assert renewed != secret
    details = [told.detail for told in launch_site.trail.happenings if told.client_id == made.json()["client_id"]]
    assert details == [
        "added by operator",
        "changed by operator: publisher",
        "disabled by operator",
        "enabled by operator",
        "new secret made by operator",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uris": ["http://app.example.org/"]},
        {"scope": "everything"},
        {"role": "operator"},
        {"client_name": ""},
        {"trusted": "yes"},
        {"state_systems": ["no uri"]},
        {"secret_hash": "x"},
        {"redirect_uris": "https://app.example.org"},
    ],
)
def test_a_registration_that_is_no_good_is_refused(launch_site: Any, wrong: Any) -> None:
    answer = launch_site.http.post(CLIENTS, json={**APP, **wrong}, headers=OPERATOR)
    assert answer.status_code == 400, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_what_is_unknown_is_not_found(launch_site: Any) -> None:
    http = launch_site.http
    assert http.get(f"{CLIENTS}/none", headers=OPERATOR).status_code == 404
    assert http.post(f"{CLIENTS}/none/disable", headers=OPERATOR).status_code == 404
    assert http.delete("/auth/admin/grants/none", headers=OPERATOR).status_code == 404
    public = launch_site.client().client_id
    assert http.post(f"{CLIENTS}/{public}/rotate-secret", headers=OPERATOR).status_code == 409


def test_grants_are_listed_by_account_and_by_app_and_end_when_they_are_revoked(launch_site: Any) -> None:
    app, person = launch_site.client(), launch_site.account("patient")
    token = launch_site.token(app, person, "openid launch/patient patient/Patient.rs")["access_token"]
    http = launch_site.http
    (grant,) = http.get("/auth/admin/grants", params={"account": person.id}, headers=OPERATOR).json()["grants"]
    assert (grant["client_id"], grant["account"]) == (app.client_id, person.id)
    assert "Patient/3" not in str(grant)
    by_app = http.get("/auth/admin/grants", params={"client": app.client_id}, headers=OPERATOR).json()["grants"]
    assert by_app == [grant]
    assert http.delete(f"/auth/admin/grants/{grant['id']}", headers=OPERATOR).status_code == 204
    assert http.delete(f"/auth/admin/grants/{grant['id']}", headers=OPERATOR).status_code == 404
    assert http.get("/auth/admin/grants", params={"account": person.id}, headers=OPERATOR).json()["grants"] == []
    assert http.get("/fhir/Patient/3", headers={"Authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize("role", ["practitioner", "patient", "auditor", "front-desk"])
def test_nobody_but_administrators_gets_in(launch_site: Any, role: str) -> None:
    browser = launch_site.browser()
    browser.sign_in(launch_site.account(role, fhir_user="Practitioner/1" if role != "patient" else "Patient/3"))
    for path in (CLIENTS, "/auth/admin/grants", "/auth/admin/apps", "/auth/admin/app/x"):
        assert browser.go(path).page.status_code == 403
    assert launch_site.trail.happenings[-1].outcome == 4


def test_an_app_of_an_administrator_gets_in_only_with_the_scope_for_it(launch_site: Any, administrator: Any) -> None:
    app = launch_site.client()
    verifier, params = launch_site.asking(app, "openid user/Organization.rs")
    administrator.go("/auth/authorize", params=params).send("/auth/consent", action="allow")
    token = launch_site.redeem(app, administrator, verifier)["access_token"]
    answer = launch_site.http.get(CLIENTS, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 403
    assert launch_site.http.get(CLIENTS).status_code == 401


def test_a_browser_session_changes_something_only_with_its_token(launch_site: Any, administrator: Any) -> None:
    csrf = administrator.csrf
    address = f"{launch_site.root}{CLIENTS}"
    assert administrator.http.post(address, json=APP).status_code == 403
    assert administrator.http.post(address, json=APP, headers={"X-CSRF-Token": csrf}).status_code == 201


def test_an_administrator_registers_an_app_on_the_page_and_sees_its_secret_once(
    launch_site: Any, administrator: Any
) -> None:
    administrator.go("/auth/admin/apps")
    administrator.send(
        "/auth/admin/apps",
        client_name="Paper Chart",
        redirect_uris="https://paper.example.org/back",
        launch_url="https://paper.example.org/launch",
        method="client_secret_basic",
        publisher="Paper Makers",
    )
    assert "The app is registered." in administrator.text
    assert "Copy it now" in administrator.text
    client = next(client for client in launch_site.auth.clients.all() if client.name == "Paper Chart")
    page = f"/auth/admin/app/{client.client_id}"
    assert "Copy it now" not in administrator.go(page).text
    administrator.send(page, action="rotate-secret")
    assert "Copy it now" in administrator.text
    administrator.go(page).send(page, action="disable")
    assert "all that it was allowed has ended" in administrator.text
    assert launch_site.auth.clients.active(client.client_id) is None


def test_a_registration_on_the_page_that_is_no_good_says_why_and_keeps_what_was_typed(administrator: Any) -> None:
    administrator.go("/auth/admin/apps")
    administrator.send("/auth/admin/apps", client_name="Paper Chart", redirect_uris="http://paper.example.org/")
    assert administrator.page.status_code == 400
    assert "A redirect URI is https" in administrator.text
    assert administrator.fields["client_name"] == "Paper Chart"


def test_an_app_is_changed_on_its_page_and_a_grant_ended(launch_site: Any, administrator: Any) -> None:
    app, person = launch_site.client(listed=False), launch_site.account("patient")
    launch_site.token(app, person, "openid launch/patient patient/Patient.rs")
    page = f"/auth/admin/app/{app.client_id}"
    administrator.go(page)
    assert person.email in administrator.text
    csrf = administrator.csrf
    administrator.go(page, headers={})
    form = {
        "csrf": csrf,
        "action": "change",
        "client_name": "New name",
        "redirect_uris": app.redirect_uris[0],
        "scope": app.scope,
        "listed": "yes",
        "state_systems": "https://one.example.org https://two.example.org",
    }
    assert administrator.http.post(f"{launch_site.root}{page}", data=form).status_code == 303
    changed = launch_site.auth.clients.get(app.client_id)
    assert (changed.name, changed.listed, changed.trusted) == ("New name", True, False)
    assert changed.state_systems == ("https://one.example.org", "https://two.example.org")
    assert changed.grant_types == app.grant_types
    (grant,) = launch_site.auth.authorizations.of(client_id=app.client_id)
    data = {"csrf": csrf, "action": "revoke", "grant": grant.id}
    assert administrator.http.post(f"{launch_site.root}{page}", data=data).status_code == 303
    assert launch_site.auth.authorizations.of(client_id=app.client_id) == []


def test_apps_are_listed_page_by_page_in_the_order_in_which_they_were_registered(
    launch_site: Any, administrator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("admin_apps", "administrators"):
        monkeypatch.setattr(f"smart_auth.pages.{module}.ON_A_PAGE", 2)
    made = [launch_site.client(name=f"Numbered app {number}").client_id for number in range(5)]
    expected = [client.client_id for client in launch_site.auth.clients.all()]
    assert [one for one in expected if one in made] == made
    seen: list[str] = []
    address = "/auth/admin/apps"
    while address:
        administrator.go(address)
        page = re.findall(r'href="/auth/admin/app/([^"]+)"', administrator.page.text)
        assert 1 <= len(page) <= 2
        seen += page
        found = re.search(r'href="(/auth/admin/apps\?[^"]+)"', administrator.page.text)
        address = unescape(found[1]) if found else ""
    assert seen == expected
