"""Signing in through an outside OpenID provider: a real little one, and all the ways in which one can lie."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from smart_auth.outside import Provider

ISSUER = "https://login.example.org"
CALLBACK = "/auth/outside/health/callback"
PROVIDER = Provider("health", "National Health Login", ISSUER, "our client", "s%cret")


@dataclass
class OpenIdProvider:
    """An OpenID provider that signs `subject` in without asking, and lies as it is told to."""

    subject: str = "person-1"
    key: Any = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    #: The key that signs, where it is not the published one.
    signs_with: Any = None
    lies: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.configuration),
                Route("/jwks", self.jwks),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
            ]
        )

    async def configuration(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": ISSUER,
                "authorization_endpoint": f"{ISSUER}/authorize",
                "token_endpoint": f"{ISSUER}/token",
                "jwks_uri": f"{ISSUER}/jwks",
                **self.metadata,
            }
        )

    async def jwks(self, _: Request) -> Response:
        return JSONResponse(KeySet([self.key]).as_dict(private=False))

    async def authorize(self, request: Request) -> Response:
        query = dict(request.query_params)
        assert query["response_type"] == "code"
        assert query["client_id"] == PROVIDER.client_id
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = f"code-{len(self.codes)}"
        self.codes[code] = query
        return RedirectResponse(f"{query['redirect_uri']}?code={code}&state={query['state']}", 302)

    async def token(self, request: Request) -> Response:
        form = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(form["code"], None)
        verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        basic = request.headers.get("authorization", "")
        posted = (form.get("client_id"), form.get("client_secret")) == (PROVIDER.client_id, PROVIDER.client_secret)
        known = basic == "Basic " + base64.b64encode(b"our+client:s%25cret").decode() or posted
        if asked is None or challenge != asked["code_challenge"] or not known:
            self.refused.append("token")
            return JSONResponse({"error": "invalid_grant"}, 400)
        moment = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": self.subject,
            "aud": PROVIDER.client_id,
            "iat": moment,
            "exp": moment + 300,
            "nonce": asked["nonce"],
            "email": "ida@example.org",
            **self.lies,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.signs_with or self.key
        header = {"alg": "ES256" if isinstance(key, ECKey) else "RS256", "kid": key.kid}
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": jwt.encode(header, claims, key)})


@pytest.fixture
def provider() -> OpenIdProvider:
    return OpenIdProvider()


@pytest.fixture
def site(make_site: Any, provider: OpenIdProvider) -> Any:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=provider.app()))
    return make_site(providers=(PROVIDER,), client=client)


def there_and_back(site: Any, provider: OpenIdProvider, browser: Any, start: httpx.Response) -> httpx.Response:
    """Follow the browser's way to the provider and back to us."""
    assert start.status_code == 303
    assert start.headers["location"].startswith(f"{ISSUER}/authorize?")
    transport = httpx.ASGITransport(app=provider.app())

    async def visit() -> str:
        async with httpx.AsyncClient(transport=transport) as client:
            return str((await client.get(start.headers["location"])).headers["location"])

    back = site.loop.run(visit())
    assert back.startswith(f"{site.side.parts.origin}{CALLBACK}?")
    return browser.get(back)


def sign_in(site: Any, provider: OpenIdProvider, browser: Any, next_path: str = "/auth/account") -> httpx.Response:
    start = browser.client.get("/auth/outside/health", params={"next": next_path}, follow_redirects=False)
    return there_and_back(site, provider, browser, start)


def link(site: Any, provider: OpenIdProvider, browser: Any) -> httpx.Response:
    browser.get("/auth/account")
    start = browser.client.post("/auth/outside/health/link", data={"csrf": browser.csrf}, follow_redirects=False)
    return there_and_back(site, provider, browser, start)


def test_an_identity_is_linked_by_its_owner_and_then_signs_in(site: Any, provider: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    assert "National Health Login" in browser.text
    assert "sign in with this identity from now on" in (link(site, provider, browser), browser.text)[1]
    other = site.browser()
    assert "Continue with National Health Login" in (other.get("/auth/sign-in"), other.text)[1]
    answer = sign_in(site, provider, other, "/auth/account?x=1")
    assert str(answer.url).endswith("/auth/account?x=1")
    assert site.trail.details("sign-in")[-1] == "fed"


def test_the_same_address_alone_links_and_opens_nothing(site: Any, provider: Any, browser: Any) -> None:
    site.account()
    answer = sign_in(site, provider, browser)
    assert answer.status_code == 403
    assert "No account is linked" in browser.text
    assert "outside" not in site.row("ida@example.org")
    assert browser.get("/auth/account").url.path == "/auth/sign-in"


def test_an_identity_belongs_to_one_account(site: Any, provider: Any, browser: Any) -> None:
    site.account()
    site.account("eve@example.org", fhir_user="Patient/5")
    browser.sign_in("ida@example.org")
    link(site, provider, browser)
    eve = site.browser()
    eve.sign_in("eve@example.org")
    assert link(site, provider, eve).status_code == 409


def test_an_unlinked_identity_opens_nothing_and_can_be_linked_again(site: Any, provider: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    for _ in range(2):
        link(site, provider, browser)
        browser.send("/auth/account/outside/unlink", provider="health", subject="person-1")
        assert "is not linked any more" in browser.text
        assert sign_in(site, provider, site.browser()).status_code == 403


def test_a_second_factor_is_asked_for_after_an_outside_sign_in_too(site: Any, provider: Any, browser: Any) -> None:
    account = site.account()
    browser.sign_in("ida@example.org")
    link(site, provider, browser)
    sealed = site.side.parts.vault.sealed("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
    site.side.parts.accounts.change(account.id, {"totp": {"secret": sealed, "last_step": 0}})
    assert sign_in(site, provider, site.browser()).url.path == "/auth/sign-in/second"
    site.side.parts.accounts.change(account.id, {"state": "disabled"})
    assert sign_in(site, provider, site.browser()).status_code == 403


def test_linking_needs_the_form_of_the_session(site: Any, provider: Any, browser: Any) -> None:
    site.account()
    browser.sign_in("ida@example.org")
    assert browser.client.post("/auth/outside/health/link", data={"csrf": "x"}).status_code == 403
    assert browser.client.get("/auth/outside/health/link").status_code == 405


def test_a_link_that_somebody_else_began_is_not_finished_in_this_browser(
    site: Any, provider: Any, browser: Any
) -> None:
    """Else Eve could have Ida link Eve's identity with Ida's account, and sign in as Ida."""
    site.account()
    site.account("eve@example.org", fhir_user="Patient/5")
    eve = site.browser()
    eve.sign_in("eve@example.org")
    start = eve.client.post("/auth/outside/health/link", data={"csrf": eve.csrf}, follow_redirects=False)
    browser.sign_in("ida@example.org")
    assert there_and_back(site, provider, browser, start).status_code == 502
    assert "outside" not in site.row("ida@example.org")


def test_state_is_good_once_and_only_in_the_browser_that_it_was_given_to(
    site: Any, provider: Any, browser: Any
) -> None:
    start = browser.client.get("/auth/outside/health", follow_redirects=False)
    state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
    assert site.browser().get(CALLBACK, params={"code": "x", "state": state}).status_code == 502
    assert browser.get(CALLBACK, params={"code": "x", "state": "made-up"}).status_code == 502
    answer = there_and_back(site, provider, browser, start)
    assert answer.status_code == 502  # used above, by the other browser
    assert len(site.trail.details("sign-in-refused")) == 3


OTHER_RSA = RSAKey.generate_key(2048, {"kid": "other", "use": "sig"})
SAME_KID = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@pytest.mark.parametrize(
    "lies",
    [
        {"iss": "https://evil.example"},
        {"aud": "another client"},
        {"aud": ["our client", "another client"], "azp": "another client"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": 1_600_000_000},
        {"exp": None},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    site: Any, provider: Any, browser: Any, lies: dict[str, Any]
) -> None:
    provider.lies = lies
    assert sign_in(site, provider, browser).status_code == 502
    assert "did not tell us who you are" in browser.text


@pytest.mark.parametrize("key", [OTHER_RSA, SAME_KID], ids=["unknown key", "same name, other key"])
def test_an_id_token_that_somebody_else_signed_is_refused(site: Any, provider: Any, browser: Any, key: Any) -> None:
    provider.signs_with = key
    assert sign_in(site, provider, browser).status_code == 502


def test_a_new_key_of_the_provider_is_read(site: Any, provider: Any, browser: Any) -> None:
    assert sign_in(site, provider, browser).status_code == 403  # known, not linked
    provider.key = ECKey.generate_key("P-256", {"kid": "two", "use": "sig"})
    assert sign_in(site, provider, site.browser()).status_code == 403


def test_a_provider_that_takes_the_secret_in_the_form_gets_it_there(site: Any, provider: Any, browser: Any) -> None:
    provider.metadata = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert sign_in(site, provider, browser).status_code == 403
    assert provider.refused == []


@pytest.mark.parametrize(
    "metadata", [{"issuer": "https://evil.example"}, {"token_endpoint": None}, {"jwks_uri": 5}], ids=str
)
def test_metadata_of_another_issuer_or_with_holes_are_not_used(
    site: Any, provider: Any, browser: Any, metadata: dict[str, Any]
) -> None:
    provider.metadata = metadata
    assert browser.get("/auth/outside/health").status_code == 502


def test_an_answer_from_another_issuer_or_an_error_is_refused(site: Any, provider: Any, browser: Any) -> None:
    for more in ({"iss": "https://evil.example", "code": "x"}, {"error": "access_denied"}, {}):
        start = browser.client.get("/auth/outside/health", follow_redirects=False)
        state = parse_qs(urlsplit(start.headers["location"]).query)["state"][0]
        assert browser.get(CALLBACK, params={"state": state, **more}).status_code == 502


def test_a_provider_that_is_not_there_is_told_in_words(make_site: Any) -> None:
    site = make_site(providers=(Provider("health", "Health", "http://127.0.0.1:9", "c", "s"),))
    browser = site.browser()
    assert browser.get("/auth/outside/health").status_code == 502
    assert browser.get("/auth/outside/none").status_code == 404
