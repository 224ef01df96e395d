"""The authorization server over real HTTP, with stand-ins for accounts, launches and the audit trail."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.model.clock import new_id
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.bearer import TokenError
from smart_auth.model import Account, Client, Launch, LaunchContext, Session
from smart_auth.vault import Vault
from tests.smart_auth.serving import APP_SCOPE, Heard, Served

T = TypeVar("T")

REDIRECT = "https://app.example.org/callback?keep=this"


class Accounts:
    """Stands in for accounts and sessions: the cookie `who` is the id of a session."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.sessions: dict[str, Session] = {}

    async def current(self, request: Request) -> Session | None:
        return self.sessions.get(request.cookies.get("who", ""))

    async def account(self, account_id: str) -> Account | None:
        """By a worker thread, as a look-up in a database is."""
        return await run_in_threadpool(self.accounts.get, account_id)

    async def alive(self, session_id: str) -> bool:
        return session_id in self.sessions

    def person(self, role: Any = "practitioner", **given: Any) -> Account:
        id = new_id()
        account = Account(id, f"{id}@example.org", "Ida Müller", role, "active", **given)
        self.accounts[id] = account
        return account

    def sign_in(self, account: Account, methods: tuple[str, ...] = ("pwd",)) -> Session:
        session = Session(new_id(), account, datetime.now(UTC), methods, "csrf")
        self.sessions[session.id] = session
        return session

    def change(self, account: Account, **changes: Any) -> None:
        self.accounts[account.id] = replace(self.accounts[account.id], **changes)


class LaunchTokens:
    """Stands in for launches: each token once, for its client."""

    def __init__(self) -> None:
        self.tokens: dict[str, tuple[str, Launch]] = {}

    def make(self, client_id: str, account: Account, context: LaunchContext) -> str:
        token = secrets.token_urlsafe(16)
        self.tokens[token] = (client_id, Launch(account.id, context))
        return token

    async def redeem(self, token: str, client_id: str) -> Launch | None:
        there = self.tokens.get(token)
        if there is None or there[0] != client_id:
            return None
        return self.tokens.pop(token)[1]


@dataclass
class KeySets:
    """Clients' key sets, as they publish them; `served` counts."""

    answers: dict[str, tuple[int, Any, dict[str, str]]] = field(default_factory=dict)
    served: dict[str, int] = field(default_factory=dict)
    delay_s: float = 0.0

    async def serve(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.served[name] = self.served.get(name, 0) + 1
        status, body, headers = self.answers[name]
        await asyncio.sleep(self.delay_s)
        return JSONResponse(body, status, headers)


class World(Served):
    """A running authorization server, and what a test does with it."""

    def __init__(self, uri: str, database: str, **terms: Any) -> None:
        super().__init__(uri, database, **terms)
        self.accounts, self.launches, self.heard, self.keysets = Accounts(), LaunchTokens(), Heard(), KeySets()
        self.vault_key = Fernet.generate_key().decode()
        self.auth = self.worker()
        self.start(
            Starlette(
                routes=[
                    *self.auth.routes,
                    Route("/fhir/metadata", self.metadata),
                    Route("/fhir/Patient/{id}", self._patient),
                    Route("/keys/{name}", self.keysets.serve),
                ]
            )
        )

    def worker(self) -> AuthorizationServer:
        """Another worker of the same server; the first one serves."""
        server = self.authorization(Vault((self.vault_key,)), self.accounts, self.launches, self.heard)
        server.open()
        return server

    async def _patient(self, request: Request) -> Response:
        """A FHIR read, as a stand-in: it tells who reads."""
        try:
            who = self.auth.bearer.identify(request.headers.get("authorization"))
        except TokenError as error:
            return JSONResponse(error.outcome(), 401, error.headers)
        body = {"resourceType": "Patient", "id": request.path_params["id"], "language": who.role}
        return JSONResponse(body, headers={"Access-Control-Allow-Origin": "*"})

    # What a test registers and does.

    def client(self, **given: Any) -> tuple[Client, str]:
        """A registered client and its secret; a public one when nothing else is said."""
        values: dict[str, Any] = {
            "client_id": "",
            "name": "Test app",
            "auth_method": "none",
            "redirect_uris": (REDIRECT,),
            "scope": APP_SCOPE,
            **given,
        }
        return self.auth.clients.add(Client(**values))

    def backend(self, key: Any, **given: Any) -> Client:
        """A registered client that acts for itself and signs with `key`."""
        values: dict[str, Any] = {
            "auth_method": "private_key_jwt",
            "redirect_uris": (),
            "grant_types": ("client_credentials",),
            "scope": "system/*.rs",
            "jwks": {"keys": [key.as_dict(private=False)]},
            **given,
        }
        return self.client(**values)[0]

    def browse(
        self,
        params: dict[str, str],
        session: Session | None,
        *,
        patient: str = "Patient/7",
        encounter: str | None = "Encounter/8",
        allow: str | None = None,
        post: bool = False,
        lasts_s: int | None = None,
        remember: bool = False,
    ) -> Back:
        """Play the browser, the user and the pages, from the authorization endpoint back to the app."""
        visited: list[str] = []
        with httpx.Client(base_url=self.root, timeout=30) as browser:
            if session is not None:
                browser.cookies.set("who", session.id)
            answer = (
                browser.post("/auth/authorize", data=params) if post else browser.get("/auth/authorize", params=params)
            )
            while answer.status_code == 303:
                location = answer.headers["location"]
                parts = urlsplit(location)
                if parts.scheme:
                    return Back(answer, location, dict(parse_qsl(parts.query)), visited)
                visited.append(parts.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                if parts.path == "/auth/authorize/continue":
                    answer = browser.get(location)
                    continue
                if session is None or parts.path == "/auth/sign-in":
                    return Back(answer, location, query, visited)
                flow, id = self.auth.flow, query["request"]
                if parts.path == "/auth/choose-patient":
                    self.run(flow.choose(id, session, LaunchContext(patient=patient)))
                elif parts.path == "/auth/choose-encounter":
                    if encounter is None:
                        self.run(flow.without_encounter(id, session))
                    else:
                        there = self.run(flow.request(id, session)).context
                        self.run(flow.choose(id, session, replace(there, encounter=encounter)))
                else:
                    asked = self.run(flow.request(id, session)).scope
                    granted = asked if allow is None else allow
                    self.run(flow.allow(id, session, granted, lasts_s, remember=remember))
                answer = httpx.Response(303, headers={"location": self.run(flow.next(id, session))})
        return Back(answer, "", {}, visited)

    def token(self, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        """A request to the token endpoint."""
        return self.http.post("/auth/token", data=form, headers=headers or {})

    def signed_in(self, client: Client, scope: str, **how: Any) -> tuple[dict[str, Any], Session]:
        """The whole code flow of a public client; the answer of the token endpoint."""
        session = how.pop("session", None) or self.accounts.sign_in(
            self.accounts.person(fhir_user="Practitioner/5", organization="Organization/1")
        )
        verifier, params = self.asking(client, scope, **how.pop("params", {}))
        back = self.browse(params, session, **how)
        assert "code" in back.params, (back.answer.status_code, back.location, back.answer.text)
        answer = self.redeem(client, back.params["code"], verifier)
        assert answer.status_code == 200, answer.text
        return answer.json(), session

    def redeem(self, client: Client, code: str, verifier: str, **more: str) -> httpx.Response:
        """Redeem a code as a public client does."""
        form = {
            "grant_type": "authorization_code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "code": code,
            "code_verifier": verifier,
            **more,
        }
        return self.token(**{name: value for name, value in form.items() if value is not None})

    def refresh(self, client: Client, token: str, **more: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", client_id=client.client_id, refresh_token=token, **more)

    def reads(self, token: str) -> int:
        """The status of a FHIR read with an access token."""
        return self.http.get("/fhir/Patient/7", headers={"Authorization": f"Bearer {token}"}).status_code

    def assertion(self, client: Client, key: Any, **changes: Any) -> str:
        """A client assertion; a change of None leaves the claim or header out."""
        moment = int(time.time())
        header = {"alg": "ES384" if key.key_type == "EC" else "RS384", "kid": key.kid, "typ": "JWT"}
        header |= changes.pop("header", {})
        claims = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": f"{self.root}/auth/token",
            "exp": moment + 240,
            "iat": moment,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {name: value for name, value in header.items() if value is not None}
        return jwt.encode(header, claims, key, algorithms=[header["alg"]])

    def backend_token(self, assertion: str, **more: str) -> httpx.Response:
        form = {
            "grant_type": "client_credentials",
            "scope": "system/*.rs",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
            **more,
        }
        return self.token(**{name: value for name, value in form.items() if value is not None})


@dataclass
class Back:
    """How the browser came back."""

    answer: httpx.Response
    location: str
    params: dict[str, str]
    visited: list[str]


def payload_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    part = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def header_of(token: str) -> dict[str, Any]:
    part = token.split(".", maxsplit=1)[0]
    return dict(json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))))


@pytest.fixture(scope="session")
def world(mongodb_uri: str) -> Iterator[World]:
    """A server that the tests of this process share: register clients and people of your own."""
    there = World(mongodb_uri, f"hs_test_{uuid.uuid4().hex[:12]}")
    yield there
    there.close()


@pytest.fixture(scope="session")
def make_world(mongodb_uri: str) -> Iterator[Any]:
    """Makes servers with terms of your choice."""
    made: list[World] = []

    def make(**terms: Any) -> World:
        made.append(World(mongodb_uri, f"hs_test_{uuid.uuid4().hex[:12]}", **terms))
        return made[-1]

    yield make
    for there in made:
        there.close()


@pytest.fixture(scope="session")
def ec_key() -> ECKey:
    return ECKey.generate_key("P-384", {"kid": "ec-1"}, private=True)


@pytest.fixture(scope="session")
def rsa_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "rsa-1"}, private=True)
