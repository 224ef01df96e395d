"""The authorization server, built: its parts, and its endpoints as routes.

`AuthorizationServer` is what the composition root makes, one in each worker: `open` it before it serves, let `watch`
run while it does, mount `routes`, judge requests by `bearer`, and give `flow` to the pages.

Spec: RFC 6749, https://hl7.org/fhir/smart-app-launch/STU2.2/
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import structlog
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import InvalidRequestError
from pymongo.errors import PyMongoError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.model.happening import Happening, Trail
from smart_auth import discovery
from smart_auth.access_token import AccessTokens
from smart_auth.answers import (
    answer,
    body_of,
    document,
    form_of,
    of_error,
    of_oauth,
    page,
    parameters_of,
    preflight,
    sent_to,
)
from smart_auth.authorizations import Authorizations
from smart_auth.authorize import RefusedError, SmartParameters, asked_of
from smart_auth.backend_services import BackendGrant
from smart_auth.bearer import Bearer, TokenError
from smart_auth.client_auth import PrivateKeyJwt
from smart_auth.client_keys import ClientKeys
from smart_auth.clients import Clients
from smart_auth.code_grant import CodeGrant
from smart_auth.codes import Codes
from smart_auth.fetch import Fetch, fetcher
from smart_auth.flow import CONTINUE, Flow, FlowError
from smart_auth.id_token import IdTokens
from smart_auth.introspect import Introspection
from smart_auth.keys import PUBLISHED_MAX_AGE_S, Keys
from smart_auth.oauth import ClientWait, Exchange, OAuthServer, Parts, Threads
from smart_auth.operator_token import OperatorToken
from smart_auth.pkce import Pkce
from smart_auth.ports import Launches, Sessions
from smart_auth.pushed import PushedRequests
from smart_auth.refresh import RefreshGrant
from smart_auth.refresh_tokens import RefreshTokens
from smart_auth.register import PATH as REGISTER
from smart_auth.register import DynamicRegistration
from smart_auth.revocations import Revocations
from smart_auth.revoke import Revocation
from smart_auth.store import AuthStore
from smart_auth.terms import Terms
from smart_auth.token_answer import STYLE_PATH
from smart_auth.userinfo import userinfo_of
from smart_auth.vault import Vault

#: How long discovery documents and the style may be kept.
DOCUMENT_MAX_AGE_S: Final = 300

#: How often a worker looks whether a signing key is to be replaced.
ROTATION_CHECK_S: Final = 600

#: When to come again while the database is away.
RETRY_AFTER_S: Final = 2

Endpoint = Callable[[Request], Awaitable[Response]]


log = structlog.get_logger("auth")


class AuthorizationServer:
    """The parts and the endpoints.

    Attributes:
        bearer: judges the `Authorization` header of FHIR requests
        clients, authorizations, revocations, keys: what administrators work with
        store, vault: where rows are, and what is sealed in them
        flow: what the pages of an authorization talk to
    """

    def __init__(
        self,
        terms: Terms,
        store: AuthStore,
        vault: Vault,
        sessions: Sessions,
        *,
        rotate_days: int = 90,
        launches: Launches | None = None,
        trail: Trail | None = None,
        operator: OperatorToken | None = None,
        fetch: Fetch | None = None,
        more_configuration: dict[str, Any] | None = None,
        client_wait_s: ClientWait = lambda _: 0,
        purposes: Mapping[str, str] | None = None,
    ) -> None:
        self.terms = terms
        self.store = store
        self.vault = vault
        self.keys = Keys(store, vault, rotate_days=rotate_days)
        self.revocations = Revocations(store)
        self.authorizations = Authorizations(store, self.revocations)
        self.clients = Clients(store, self.authorizations)
        self.access_tokens = AccessTokens(self.keys, terms.issuer)
        self.bearer = Bearer(self.keys, self.revocations, terms.issuer, operator, purposes)
        self._assertions = PrivateKeyJwt(
            store, ClientKeys(fetch or fetcher()), (terms.at(discovery.TOKEN), terms.issuer)
        )
        self._codes = Codes(store)
        self._refresh_tokens = RefreshTokens(store, terms.refresh_grace_s)
        parts = Parts(
            terms,
            store,
            self.clients,
            self.authorizations,
            self.access_tokens,
            IdTokens(self.keys, terms.issuer),
            self._assertions,
            self._codes,
            self._refresh_tokens,
            sessions,
        )
        self._sessions = sessions
        self._trail = trail
        self._threads = Threads()
        self._looked_at = float("-inf")
        self._oauth = OAuthServer(parts, client_wait_s)
        self._oauth.register_grant(CodeGrant, [SmartParameters(self._oauth), Pkce()])
        self._oauth.register_grant(RefreshGrant)
        self._oauth.register_grant(BackendGrant)
        self.flow = Flow(self._oauth, launches, trail)
        self._pushed = PushedRequests(store, terms.pushed_s)
        self._introspection = Introspection(self._oauth, self.bearer)
        self._revocation = Revocation(self._oauth, self.bearer, self.revocations)
        self._registration = DynamicRegistration(terms, self.clients, self.bearer)
        self._more_configuration = more_configuration

    def open(self) -> None:
        """Make indexes and first keys, read keys and revocations; blocking."""
        for part in (
            self.keys,
            self.revocations,
            self.authorizations,
            self.clients,
            self._assertions,
            self._codes,
            self._refresh_tokens,
            self._pushed,
            self.flow,
        ):
            part.open()

    async def watch(self) -> None:
        """Keep revocations and keys up to date, until cancelled."""
        await self.revocations.watch(self._refresh_keys)

    def _refresh_keys(self) -> None:
        if self.keys.refresh():
            self.bearer.forget()
        if time.monotonic() >= self._looked_at + ROTATION_CHECK_S:
            self._looked_at = time.monotonic()
            self.keys.rotate_when_due()

    @property
    def routes(self) -> list[Route]:
        """The endpoints; discovery lies below the FHIR base, everything else below `/auth`."""
        base = "/fhir"
        called: list[tuple[str, list[str], Endpoint]] = [
            (discovery.TOKEN, ["POST"], self.token),
            (discovery.PUSH, ["POST"], self.push),
            (discovery.INTROSPECT, ["POST"], self.introspect),
            (discovery.REVOKE, ["POST"], self.revoke),
            (discovery.USERINFO, ["GET", "POST"], self.userinfo),
            (discovery.JWKS, ["GET"], self.jwks),
            (STYLE_PATH, ["GET"], self.style),
            (REGISTER, ["POST"], self.register),
            (REGISTER + "/{client_id}", ["GET", "PUT", "DELETE"], self.registered),
            (f"{base}/.well-known/smart-configuration", ["GET"], self.smart_configuration),
            (f"{base}/.well-known/openid-configuration", ["GET"], self.openid_configuration),
            (f"/.well-known/oauth-authorization-server{base}", ["GET"], self.openid_configuration),
        ]
        routes = [
            Route(discovery.AUTHORIZE, _shown(self.authorize), methods=["GET", "POST"]),
            Route(CONTINUE, _shown(self.go_on), methods=["GET"]),
        ]
        for path, methods, endpoint in called:
            routes.append(Route(path, _answered(endpoint), methods=methods))
            routes.append(Route(path, preflight, methods=["OPTIONS"]))
        return routes

    # The browser comes here.

    async def authorize(self, request: Request) -> Response:
        """The authorization endpoint, by GET and by POST."""
        try:
            data = await form_of(request) if request.method == "POST" else parameters_of(request.scope["query_string"])
            asked = await self._threads.run(self._asked, data)
            return sent_to(await self.flow.begin(asked, await self._sessions.current(request)))
        except RefusedError as error:
            await self._refused(request, error.error, "authorization")
            return sent_to(error.redirect) if error.redirect else _refusal_page(error.description)
        except OAuth2Error as error:
            return _refusal_page(error.description)
        except FlowError as error:
            return _over_page(error)

    def _asked(self, data: dict[str, str]) -> Any:
        return asked_of(self._oauth, self._pushed.take(data))

    async def go_on(self, request: Request) -> Response:
        """Where the browser comes back to after signing in."""
        try:
            session = await self._sessions.current(request)
            return sent_to(await self.flow.take_up(request.query_params.get("request", ""), session))
        except FlowError as error:
            return _over_page(error)

    # Apps call these.

    async def token(self, request: Request) -> Response:
        """The token endpoint."""
        exchange = await _exchange_of(request)
        given = await self._threads.run(self._oauth.create_token_response, exchange)
        status, body, _ = given
        detail = exchange.noted.detail or f"{exchange.payload.grant_type}: {body.get('error')}"
        await self._tell(
            request, exchange, "token" if status == 200 else "token-refused", 0 if status == 200 else 4, detail
        )
        return of_oauth(given)

    async def push(self, request: Request) -> Response:
        """Pushed authorization requests."""
        return answer(201, await self._threads.run(self._pushed.push, self._oauth, await _exchange_of(request)))

    async def introspect(self, request: Request) -> Response:
        """Token introspection."""
        return answer(200, await self._threads.run(self._introspection.answer, await _exchange_of(request)))

    async def revoke(self, request: Request) -> Response:
        """Token revocation."""
        exchange = await _exchange_of(request)
        await self._threads.run(self._revocation.revoke, exchange)
        if exchange.noted.detail:
            await self._tell(request, exchange, "token-revoked", 0, exchange.noted.detail)
        return answer(200, {})

    async def userinfo(self, request: Request) -> Response:
        """User info."""
        try:
            identity = self.bearer.identify(request.headers.get("authorization"))
        except TokenError as error:
            return answer(401, {"error": "invalid_token"}, error.headers)
        claims = await userinfo_of(identity, self._sessions, self.terms.issuer)
        if claims is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="FHIR", error="insufficient_scope", scope="openid"'}
            return answer(403, {"error": "insufficient_scope"}, challenge)
        return answer(200, claims)

    async def register(self, request: Request) -> Response:
        """Dynamic registration."""
        body, header = await body_of(request), request.headers.get("authorization")
        said = await self._threads.run(self._registration.register, body, header)
        if self._trail is not None:
            await self._trail.happened(
                Happening("client", client_id=said["client_id"], address=_address(request), detail="registered itself")
            )
        return answer(201, said)

    async def registered(self, request: Request) -> Response:
        """A client's own registration."""
        client_id, header = request.path_params["client_id"], request.headers.get("authorization")
        if request.method == "GET":
            return answer(200, await self._threads.run(self._registration.read, client_id, header))
        if request.method == "PUT":
            body = await body_of(request)
            return answer(200, await self._threads.run(self._registration.change, client_id, body, header))
        await self._threads.run(self._registration.remove, client_id, header)
        return Response(status_code=204, headers=answer(204, None).headers)

    # Everybody may read these.

    async def jwks(self, _: Request) -> Response:
        """The key set."""
        return document(self.keys.published(), PUBLISHED_MAX_AGE_S)

    async def style(self, _: Request) -> Response:
        """How apps may look."""
        return document(discovery.style(), DOCUMENT_MAX_AGE_S)

    async def smart_configuration(self, _: Request) -> Response:
        """SMART discovery."""
        return document(discovery.smart_configuration(self.terms, self._more_configuration), DOCUMENT_MAX_AGE_S)

    async def openid_configuration(self, _: Request) -> Response:
        """OpenID discovery."""
        return document(discovery.openid_configuration(self.terms), DOCUMENT_MAX_AGE_S)

    # What the audit trail is told.

    async def _tell(self, request: Request, exchange: Exchange, kind: str, outcome: int, detail: str) -> None:
        if self._trail is not None:
            noted = exchange.noted
            await self._trail.happened(
                Happening(
                    kind,
                    outcome,
                    account_id=noted.account_id,
                    client_id=noted.client_id,
                    fhir_user=noted.fhir_user,
                    patient=noted.patient,
                    address=_address(request),
                    request_id=request.headers.get("x-request-id", "")[:64],
                    detail=detail,
                )
            )

    async def _refused(self, request: Request, error: str, what: str) -> None:
        if self._trail is not None:
            await self._trail.happened(
                Happening("token-refused", 4, address=_address(request), detail=f"{what}: {error}")
            )


def _answered(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with errors of the standards as their answers."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except OAuth2Error as error:
            return of_error(error)
        except PyMongoError as error:
            log.warning("database unavailable", error=type(error).__name__)
            return answer(503, {"error": "temporarily_unavailable"}, {"Retry-After": str(RETRY_AFTER_S)})

    return answered


def _shown(endpoint: Endpoint) -> Endpoint:
    """The endpoint, for a browser: a page says that the database is away."""

    async def shown(request: Request) -> Response:
        try:
            return await endpoint(request)
        except PyMongoError as error:
            log.warning("database unavailable", error=type(error).__name__)
            return page(503, "This does not work just now", "Try again in a moment.")

    return shown


async def _exchange_of(request: Request) -> Exchange:
    """The request, as Authlib reads it.

    Raises:
        InvalidRequestError: its body is no form.
    """
    if request.scope["query_string"]:
        raise InvalidRequestError("Parameters belong into the body")
    return Exchange(request.method, await form_of(request), request.headers)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _refusal_page(text: str) -> Response:
    return page(400, "The app could not be authorized", f"{text.rstrip('.')}. Tell whoever makes the app.")


def _over_page(error: FlowError) -> Response:
    return page(400, "This did not work", str(error))
