"""What keeps browsers and strangers out: headers, origins, forged forms, proxies, metrics, and ends of sessions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fhirclient import client as fhirclient
from starlette.routing import Route

from fhir_server.cli.accounts import with_account_side
from fhir_server.http.pages import POLICY
from smart_auth.authorizations import Authorizations
from smart_auth.model import Authorization, LaunchContext
from smart_auth.operator_token import load_or_create
from smart_auth.revocations import Revocations
from smart_auth.store import AuthStore

ROOT = "http://test"
PASSWORD = "tangerine gravel kazoo"
CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@pytest.fixture(scope="module")
def guarded(make_server: Callable[..., Any]) -> Any:
    """A server with access control, on which administrators need no second factor."""
    return make_server(auth="on", second_factor_roles=(), session_idle_minutes=60)


@pytest.fixture(scope="module")
def operator(guarded: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {load_or_create(guarded.settings.access_token_file)}"}


@pytest.fixture
def browser(guarded: Any) -> Iterator[httpx.Client]:
    with httpx.Client(transport=guarded.client._transport, base_url=ROOT) as client:
        yield client


@pytest.fixture
def administrator(guarded: Any, browser: httpx.Client) -> httpx.Client:
    """The browser of somebody who has just signed in as an administrator."""
    return signed_in(guarded, browser, "root@example.org", "administrator")


def signed_in(server: Any, browser: httpx.Client, email: str, role: str) -> httpx.Client:
    async def add() -> None:
        async with with_account_side(server.settings) as side:
            if side.parts.accounts.row_of_email(email) is None:
                fields = await side.administration.checked(email, "Rosa Root", role, "", "", [])
                await side.registrar.add(**fields, password=PASSWORD, by="operator")

    server.run(add())
    page = browser.get("/auth/sign-in")
    answer = browser.post("/auth/sign-in", data={"csrf": token_in(page), "email": email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return browser


def token_in(page: httpx.Response) -> str:
    found = CSRF.search(page.text)
    assert found, page.text
    return found[1]


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/metadata", "/Patient", "/Patient/none", "/nothing"])
def test_answers_of_fhir_are_data_that_no_browser_runs_frames_or_guesses_at(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in ("private, no-cache", "no-store")
    assert len(headers.get_list("content-security-policy")) == 1


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript"])
def test_what_was_uploaded_is_saved_and_never_runs_as_a_page_of_this_server(client: httpx.Client, kind: str) -> None:
    sent = client.post("/Binary", content=b"<script>alert(1)</script>", headers={"Content-Type": kind})
    headers = client.get(sent.headers["location"].partition("/_history")[0]).headers
    assert headers["content-type"].startswith(kind)
    assert headers["content-disposition"] == "attachment"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].endswith("; sandbox")


@pytest.mark.parametrize(
    "path", ["/", "/health/live", "/health/ready", "/metrics", "/auth/sign-in", "/auth/jwks", "/auth/authorize", "/no"]
)
def test_every_other_answer_has_the_headers_that_keep_browsers_strict(browser: httpx.Client, path: str) -> None:
    headers = browser.get(path).headers
    for name in (
        "x-content-type-options",
        "referrer-policy",
        "permissions-policy",
        "cross-origin-opener-policy",
        "x-frame-options",
    ):
        assert headers.get_list(name), name
    policy = headers.get_list("content-security-policy")
    assert len(policy) == 1
    assert "default-src 'none'" in policy[0]
    assert "frame-ancestors 'none'" in policy[0]
    assert "unsafe" not in policy[0]


def test_browsers_are_told_to_stay_with_https_where_the_server_is_reached_so(make_server: Callable[..., Any]) -> None:
    secure = make_server(auth="on", base_url="https://test/fhir", hsts_seconds=600).client
    for url in ("https://test/", "https://test/fhir/metadata", "https://test/auth/sign-in"):
        assert secure.get(url).headers["strict-transport-security"] == "max-age=600"
    unsaid = make_server(auth="on", base_url="https://test/fhir", hsts_seconds=0).client
    assert "strict-transport-security" not in unsaid.get("https://test/").headers


def test_plain_http_speaks_of_no_https(browser: httpx.Client) -> None:
    assert "strict-transport-security" not in browser.get("/").headers


# --- origins ----------------------------------------------------------------------------------------------------------


def test_apps_of_any_origin_reach_discovery_and_tokens_even_where_only_some_may_reach_the_records(
    make_server: Callable[..., Any],
) -> None:
    client = make_server(auth="on", cors_origins=("https://ours.example",)).client
    origin = {"Origin": "https://app.example"}
    asks = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "Content-Type"}
    for path in ("/fhir/.well-known/smart-configuration", "/auth/jwks"):
        assert client.get(f"{ROOT}{path}", headers=origin).headers["access-control-allow-origin"] == "*", path
    assert client.options(f"{ROOT}/auth/token", headers=asks).status_code == 204
    refused = client.post(f"{ROOT}/auth/token", data={"grant_type": "x"}, headers=origin)
    assert refused.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]
    assert client.options(f"{ROOT}/fhir/Patient", headers=asks).status_code == 400


def test_no_page_of_another_origin_is_let_in_with_cookies(administrator: httpx.Client) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for path in ("/fhir/Patient", "/fhir/metadata", "/auth/account", "/auth/token", "/auth/admin/accounts", "/"):
        for answer in (administrator.get(path, headers=origin), administrator.options(path, headers=origin)):
            assert "access-control-allow-credentials" not in answer.headers, path


def test_a_signed_in_browser_is_nobody_at_the_fhir_base(administrator: httpx.Client) -> None:
    assert administrator.get("/auth/account").status_code == 200
    assert administrator.get("/fhir/Patient").status_code == 401
    assert administrator.post("/fhir/Patient", json={"resourceType": "Patient"}).status_code == 401


# --- forms ------------------------------------------------------------------------------------------------------------


def routes_of(server: Any) -> list[Route]:
    front = server.app
    while hasattr(front, "app"):
        front = front.app
    return [route for route in front._others.app.routes if isinstance(route, Route)]


def changes_of_pages(server: Any) -> list[tuple[str, str]]:
    """What forms and scripts of our pages are sent to: everything that changes something and looks at cookies."""
    answers_preflights = {route.path for route in routes_of(server) if "OPTIONS" in (route.methods or ())}
    found = {
        (method, route.path)
        for route in routes_of(server)
        for method in (route.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}
        if route.path.startswith("/auth/") and route.path not in answers_preflights
    }
    # By POST the authorization begins just as by GET, and changes nothing before somebody has consented.
    return sorted(found - {("POST", "/auth/authorize")})


def test_each_form_is_refused_without_the_token_of_its_session(guarded: Any, administrator: httpx.Client) -> None:
    changes = changes_of_pages(guarded)
    assert len(changes) > 30
    accepted = []
    for method, path in changes:
        url = re.sub(r"\{\w+(:\w+)?\}", "any", path)
        answers = {
            "no token": administrator.request(method, url, data={"email": "ida@example.org"}),
            "another": administrator.request(method, url, data={"csrf": "x" * 43, "email": "ida@example.org"}),
            "a script's": administrator.request(method, url, json={}, headers={"X-CSRF-Token": "x" * 43}),
        }
        for how, answer in answers.items():
            # 415: a page takes forms alone, which a script cannot send to another origin unasked.
            if answer.status_code != 403 and not (how == "a script's" and answer.status_code == 415):
                accepted.append((method, path, how, answer.status_code))
    assert accepted == []


def test_the_same_forms_are_refused_to_a_browser_that_was_never_here(guarded: Any, browser: httpx.Client) -> None:
    accepted = []
    for method, path in changes_of_pages(guarded):
        url = re.sub(r"\{\w+(:\w+)?\}", "any", path)
        answer = browser.request(method, url, data={"email": "ida@example.org"})
        signs_in_first = answer.status_code == 303 and answer.headers["location"].startswith("/auth/sign-in")
        if answer.status_code not in (401, 403) and not signs_in_first:
            accepted.append((method, path, answer.status_code))
    assert accepted == []


def test_patients_register_at_a_form_that_is_no_endpoint_of_apps(guarded: Any, browser: httpx.Client) -> None:
    """Two parts of the sign-in side must not take the same path: the first would get what is for the other."""
    taken: dict[tuple[str, str], int] = {}
    for route in routes_of(guarded):
        for method in (route.methods or set()) - {"HEAD"}:
            taken[route.path, method] = taken.get((route.path, method), 0) + 1
    assert [where for where, times in taken.items() if times > 1] == []
    page = browser.get("/auth/register")
    answer = browser.post("/auth/register", data={"csrf": token_in(page), "email": "no address"})
    assert answer.headers["content-type"].startswith("text/html")


# --- proxies ----------------------------------------------------------------------------------------------------------


def test_a_proxy_is_believed_only_when_it_is_named(make_server: Callable[..., Any]) -> None:
    forwarded = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in (1, 2)]
    believed = make_server(auth="on", address_requests_per_minute=1, trusted_proxies=("127.0.0.0/8",)).client
    assert [believed.get("/metadata", headers=headers).status_code for headers in forwarded] == [200, 200]
    assert believed.get("/metadata", headers=forwarded[0]).status_code == 429
    # What a client puts in front of what the proxy says is the client's word.
    lying = {"X-Forwarded-For": "203.0.113.9, 198.51.100.1"}
    assert believed.get("/metadata", headers=lying).status_code == 429
    unnamed = make_server(auth="on", address_requests_per_minute=1, trusted_proxies=("10.0.0.1",)).client
    assert [unnamed.get("/metadata", headers=headers).status_code for headers in forwarded] == [200, 429]


# --- metrics ----------------------------------------------------------------------------------------------------------


def metrics_status(server: Any, address: str, **headers: str) -> int:
    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=server.app, client=(address, 50_000))
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.get(f"{ROOT}/metrics", headers=headers)

    return int(server.run(get()).status_code)


def test_metrics_are_for_this_machine_and_the_operator(guarded: Any, operator: dict[str, str]) -> None:
    assert metrics_status(guarded, "127.0.0.1") == 200
    assert metrics_status(guarded, "::1") == 200
    assert metrics_status(guarded, "198.51.100.1") == 401
    assert metrics_status(guarded, "198.51.100.1", **operator) == 200
    assert metrics_status(guarded, "198.51.100.1", Authorization="Bearer wrong") == 401
    # A proxy on this machine that nobody named hands on what comes from elsewhere.
    for header in ("X-Forwarded-For", "Forwarded", "Via"):
        assert metrics_status(guarded, "127.0.0.1", **{header: "198.51.100.1"}) == 401


def test_metrics_may_be_opened(make_server: Callable[..., Any]) -> None:
    assert metrics_status(make_server(auth="on", metrics_access="open"), "198.51.100.1") == 200


# --- the front page ---------------------------------------------------------------------------------------------------


def test_the_front_page_leads_to_signing_in_where_people_sign_in(browser: httpx.Client, server: Any) -> None:
    page = browser.get("/")
    assert page.headers["content-security-policy"] == POLICY
    assert "Access control is on." in page.text
    for link in ("/auth/sign-in", "/auth/account", "/auth/apps", "/auth/register", ".well-known/smart-configuration"):
        assert f'{link}"' in page.text
    assert "/fhir/Patient?" not in page.text
    off = server.client.get(f"{ROOT}/").text
    assert "Access control is off." in off
    assert "/auth/" not in off


# --- the statement of capabilities ------------------------------------------------------------------------------------


def test_the_statement_says_where_apps_sign_in_and_old_clients_find_it(guarded: Any, server: Any) -> None:
    security = guarded.client.get("/metadata").json()["rest"][0]["security"]
    assert security["cors"] is True
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    assert "security" not in server.client.get("/metadata").json()["rest"][0]
    normative = guarded.client.get("/metadata?mode=normative").json()["rest"][0]
    assert normative["security"] == security

    class Session:
        """What PyPI `fhirclient` calls, led to the server in this process."""

        def get(self, url: str, headers: Any = None, **_: Any) -> Any:
            answer = guarded.client.get(url, headers=dict(headers or {}))
            answer.raise_for_status()
            return answer

    app = fhirclient.FHIRClient(settings={"app_id": "my-app", "api_base": f"{ROOT}/fhir", "redirect_uri": f"{ROOT}/cb"})
    app.server.session = Session()
    app.server.get_capability()
    auth = app.server.auth
    assert (auth.auth_type, auth._authorize_uri, auth._token_uri) == (
        "oauth2",
        f"{ROOT}/auth/authorize",
        f"{ROOT}/auth/token",
    )


# --- ends of sessions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sign-out", "end-others"])
def test_signing_out_ends_what_apps_have_only_while_somebody_is_signed_in(guarded: Any, how: str) -> None:
    email = f"{how}@example.org"
    transport = guarded.client._transport
    with (
        httpx.Client(transport=transport, base_url=ROOT) as first,
        httpx.Client(transport=transport, base_url=ROOT) as second,
        ExitStack() as closing,
    ):
        signed_in(guarded, first, email, "auditor")
        uri = guarded.settings.mongodb_uri.get_secret_value()
        rows = AuthStore.connect(uri, guarded.settings.mongodb_database)
        closing.callback(rows.close)
        account_id = rows.rows("accounts").find_one({"email": email})["_id"]  # type: ignore[index]
        session_id = rows.rows("sessions").find_one({"account_id": account_id})["_id"]  # type: ignore[index]
        grants = Authorizations(rows, Revocations(rows))
        for scope in ("online_access", "offline_access"):
            grants.add(
                Authorization(
                    id=f"{how}-{scope}",
                    account_id=account_id,
                    client_id="app",
                    scope=f"{scope} user/*.rs",
                    context=LaunchContext(),
                    created_at=datetime.now(UTC),
                    session_id=session_id,
                )
            )
        signed_in(guarded, second, email, "auditor")
        if how == "sign-out":
            page = first.get("/auth/sign-out")
            assert first.post("/auth/sign-out", data={"csrf": token_in(page)}).status_code in (200, 303)
            others_end = False
        else:
            page = second.get("/auth/account")
            answer = second.post("/auth/account/sessions/end-others", data={"csrf": token_in(page)})
            assert answer.status_code in (200, 303)
            others_end = True  # "… apps too", as the button says
        ended = {name: grants.get(f"{how}-{name}").revoked_at for name in ("online_access", "offline_access")}  # type: ignore[union-attr]
        assert ended["online_access"] is not None
        assert (ended["offline_access"] is not None) == others_end
