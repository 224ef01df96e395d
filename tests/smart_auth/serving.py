"""A sign-in side that is served over real HTTP by a thread of the test's process: what its forms have in common."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from fhir_server.model.happening import Happening, Trail
from smart_auth.authorization_server import AuthorizationServer
from smart_auth.discovery import security_of
from smart_auth.fetch import fetcher
from smart_auth.model import Client
from smart_auth.operator_token import OperatorToken
from smart_auth.ports import Launches, Sessions
from smart_auth.store import AuthStore
from smart_auth.terms import Terms
from smart_auth.vault import Vault

T = TypeVar("T")

OPERATOR = "operator-token-of-the-tests-000"

#: What an app may ask for that the test registers without saying more.
APP_SCOPE = (
    "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access "
    "patient/*.cruds user/*.cruds"
)


def challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass
class Heard:
    """Stands in for the audit trail."""

    happenings: list[Happening] = field(default_factory=list)

    async def happened(self, happening: Happening) -> None:
        self.happenings.append(happening)

    def kinds(self) -> list[str]:
        return [happening.kind for happening in self.happenings]


class Served:
    """A server in a thread with an event loop of its own, on a free port and a database that goes when it is closed.

    Attributes:
        root, issuer: its address, and that of its FHIR base
        auth: the authorization server that answers; whoever inherits makes it before `start`
    """

    auth: AuthorizationServer

    def __init__(self, uri: str, database: str, *, host: str = "127.0.0.1", **terms: Any) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.root = f"http://{host}:{self.listener.getsockname()[1]}"
        self.issuer = f"{self.root}/fhir"
        self.terms = Terms(self.issuer, **terms)
        self.store = AuthStore.connect(uri, database)
        self.loop = asyncio.new_event_loop()
        self._server = uvicorn.Server(uvicorn.Config(Starlette(), log_level="warning", lifespan="off"))
        self._thread = threading.Thread(target=self._serve, name="sign-in-side", daemon=True)

    def authorization(
        self, vault: Vault, sessions: Sessions, launches: Launches, trail: Trail, more: dict[str, Any] | None = None
    ) -> AuthorizationServer:
        """An authorization server as the tests have it: it may fetch from this machine, and has an operator."""
        return AuthorizationServer(
            self.terms,
            self.store,
            vault,
            sessions,
            launches=launches,
            trail=trail,
            operator=OperatorToken(OPERATOR),
            fetch=fetcher(loopback=True),
            more_configuration=more,
        )

    def start(self, app: ASGIApp) -> None:
        self._server.config.app = app
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.http = httpx.Client(base_url=self.root, timeout=30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._server.serve([self.listener]))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the server runs, as its pages do."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=60)

    def close(self) -> None:
        self.http.close()
        self._server.should_exit = True
        self._thread.join()
        self.loop.close()
        self.listener.close()
        self.store.client.drop_database(self.store.rows("clients").database.name)
        self.store.close()

    async def metadata(self, _: Request) -> Response:
        """The part of a CapabilityStatement in which clients look for the endpoints."""
        rest = {"mode": "server", "security": security_of(self.terms)}
        statement = {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-11-01",
            "kind": "instance",
        }
        body = {**statement, "fhirVersion": "4.0.1", "format": ["json"], "rest": [rest]}
        return JSONResponse(body, headers={"Access-Control-Allow-Origin": "*"})

    def asking(self, client: Client, scope: str, **more: Any) -> tuple[str, dict[str, str]]:
        """A verifier, and the parameters of a good authorization request; a change of None leaves one out."""
        verifier = secrets.token_urlsafe(48)
        params = {
            "response_type": "code",
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uris[0],
            "scope": scope,
            "state": "the state",
            "aud": self.issuer,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            **more,
        }
        return verifier, {name: value for name, value in params.items() if value is not None}
