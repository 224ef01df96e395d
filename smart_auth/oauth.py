"""Authlib's authorization server, fitted to this one: where clients are, how requests and answers look.

Authlib's grants are blocking; everything here runs in worker threads.

Spec: RFC 6749
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, TypeVar

from anyio import CapacityLimiter, from_thread, to_thread
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidClientError,
    InvalidRequestError,
    InvalidScopeError,
    OAuth2Payload,
    OAuth2Request,
)

from smart_auth.access_token import AccessTokens
from smart_auth.authorizations import Authorizations
from smart_auth.client_auth import OAuthClient, PrivateKeyJwt, check_one_way
from smart_auth.clients import Clients
from smart_auth.codes import Codes
from smart_auth.id_token import IdTokens
from smart_auth.model import Account
from smart_auth.ports import Sessions
from smart_auth.refresh_tokens import RefreshTokens
from smart_auth.store import AuthStore
from smart_auth.terms import Terms

T = TypeVar("T")

#: In this order: a client that sends its name alone is public only if it tries nothing else.
AUTH_METHODS = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")
CONFIDENTIAL_METHODS = AUTH_METHODS[:3]

#: More scope than that nobody asks for.
LONGEST_SCOPE = 16_384

#: Counts a request of a client; the seconds that it must wait instead, or 0.
ClientWait = Callable[[str], int]

#: Status, body, headers.
OAuthAnswer = tuple[int, dict[str, Any], list[tuple[str, str]]]


@dataclass(slots=True)
class Noted:
    """What the audit trail is to know of a request."""

    account_id: str = ""
    client_id: str = ""
    fhir_user: str = ""
    patient: str = ""
    detail: str = ""


class Payload(OAuth2Payload):  # type: ignore[misc]  # Authlib ships no types
    """The parameters of a request, each once."""

    def __init__(self, data: dict[str, str]) -> None:
        self._data = data

    @property
    def data(self) -> dict[str, str]:
        return self._data

    @property
    def datalist(self) -> dict[str, list[str]]:
        return {name: [value] for name, value in self._data.items()}


class Exchange(OAuth2Request):  # type: ignore[misc]  # Authlib ships no types
    """One request to an OAuth endpoint, as Authlib reads it.

    Attributes:
        noted: what the audit trail is to know
    """

    def __init__(self, method: str, data: dict[str, str], headers: Mapping[str, str]) -> None:
        # Authlib refuses addresses without TLS; whether the server may do without is judged once, by its settings.
        super().__init__(method, "https://localhost/", headers=headers)
        self.payload = Payload(data)
        self.noted = Noted(client_id=data.get("client_id", "")[:128])

    @property
    def form(self) -> dict[str, str]:
        return self.payload.data

    @property
    def args(self) -> dict[str, str]:
        return self.payload.data


@dataclass(frozen=True, slots=True)
class Parts:
    """What the endpoints are made of."""

    terms: Terms
    store: AuthStore
    clients: Clients
    authorizations: Authorizations
    access_tokens: AccessTokens
    id_tokens: IdTokens
    assertions: PrivateKeyJwt
    codes: Codes
    refresh_tokens: RefreshTokens
    sessions: Sessions


@dataclass(slots=True)
class _Waiting:
    """Calls from a worker thread into the event loop that it was called from."""

    sessions: Sessions = field(repr=False)

    def account(self, account_id: str) -> Account | None:
        return waited(self.sessions.account, account_id)

    def alive(self, session_id: str) -> bool:
        return waited(self.sessions.alive, session_id)


def waited(ask: Callable[[str], Coroutine[Any, Any, T]], name: str) -> T:
    """The result of a coroutine of the event loop, awaited in a worker thread."""
    return from_thread.run(ask, name)


class TooManyError(OAuth2Error):  # type: ignore[misc]  # Authlib ships no types
    """429: a client sends more requests than are taken from it."""

    error = "temporarily_unavailable"
    status_code = 429

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"Too many requests of this client; wait {wait_s} s.")
        self._wait_s = wait_s

    def get_headers(self) -> list[tuple[str, str]]:
        return [*super().get_headers(), ("Retry-After", str(self._wait_s))]


class OAuthServer(AuthorizationServer):  # type: ignore[misc]  # Authlib ships no types
    """What Authlib leaves to the server."""

    def __init__(self, parts: Parts, client_wait_s: ClientWait = lambda _: 0) -> None:
        super().__init__()
        self.parts = parts
        self._client_wait_s = client_wait_s
        self._counting = Lock()
        self.sessions = _Waiting(parts.sessions)
        self.register_client_auth_method("private_key_jwt", parts.assertions)

    def query_client(self, client_id: str) -> OAuthClient | None:
        client = self.parts.clients.active(client_id)
        return None if client is None else OAuthClient(client)

    def authenticate_client(self, request: Exchange, methods: tuple[str, ...], endpoint: str = "token") -> OAuthClient:
        """Who sends a request.

        Raises:
            InvalidClientError: 401 if a header was sent, else 400; it is nobody, or somebody who has not proved it.
        """
        header = request.headers.get("authorization", "")
        try:
            check_one_way(request.form, header)
            client: OAuthClient = super().authenticate_client(request, methods, endpoint)
            if request.form.get("client_id", client.get_client_id()) != client.get_client_id():
                raise InvalidClientError(description="The client_id is that of another client")
        except (InvalidClientError, UnicodeDecodeError) as error:
            said = error.description if isinstance(error, InvalidClientError) else ""
            if not said or "methods" in said:
                said = "The client is unknown, or has not proved who it is"
            status = 401 if header.lower().startswith("basic ") else 400
            raise InvalidClientError(description=said, status_code=status) from None
        request.noted.client_id = client.get_client_id()
        if client.client.auth_method != "none":
            self._count(client.get_client_id())
        return client

    def _count(self, client_id: str) -> None:
        """Count a request of a client that has proved who it is, wherever it comes from.

        One that only says its name is not counted by it: else anybody could use up what another client may send. Such a
        client is held to the limit of its address.

        Raises:
            TooManyError: 429
        """
        with self._counting:
            wait_s = self._client_wait_s(client_id)
        if wait_s:
            raise TooManyError(wait_s)

    def validate_requested_scope(self, scope: str | None) -> None:
        if scope and len(scope) > LONGEST_SCOPE:
            raise InvalidScopeError("The scope is too long")

    def create_oauth2_request(self, request: Exchange) -> Exchange:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> OAuthAnswer:
        return status, body, list(headers)

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens: what happened is noted in the request."""

    def save_token(self, token: dict[str, Any], request: Exchange) -> None:
        """Access tokens are not stored; refresh tokens were stored when they were made."""


class Threads:
    """Worker threads for OAuth requests, apart from those of everything else.

    A request that waits here for an account would otherwise hold the very thread that looking the account up needs;
    with enough of them none would ever go on.
    """

    def __init__(self, most: int = 16) -> None:
        self._limiter = CapacityLimiter(most)

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run blocking work, and wait for it."""
        return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)


def refuse_repeated(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name, without empty ones, which count as left out (RFC 6749 section 3.1).

    Raises:
        InvalidRequestError: one comes twice.
    """
    data: dict[str, str] = {}
    for name, value in pairs:
        if name in data:
            raise InvalidRequestError("A parameter comes more than once")
        if value:
            data[name] = value
    return data
