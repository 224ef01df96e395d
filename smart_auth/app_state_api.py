"""The FHIR endpoint of SMART app state, `/auth/app-state`: Basic resources of apps, apart from everybody else's.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-state.html#app-state-interactions
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pymongo.errors import PyMongoError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhir_server.model import codec
from fhir_server.model.access import Identity, Verb
from fhir_server.model.errors import (
    FhirError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    PreconditionFailedError,
    TooLargeError,
    UnavailableError,
)
from smart_auth.app_state import (
    LARGEST_BYTES,
    AppStates,
    State,
    changed_since,
    require,
    sent_of,
    subject_named,
    subjects_for,
)
from smart_auth.bearer import Bearer
from smart_auth.clients import Clients
from smart_auth.model import Client
from smart_auth.terms import Terms

BASE: Final = "/auth/app-state"
CAPABILITY: Final = "smart-app-state"

FHIR_JSON: Final = "application/fhir+json"
VERSION: Final = re.compile(r'(?:W/)?"([1-9]\d{0,15})"')

CORS: Final = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "ETag, Location"}
PREFLIGHT: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, If-Match",
    "Access-Control-Max-Age": "86400",
}

#: Parameters of every FHIR interaction that change nothing here.
IGNORED: Final = frozenset({"_format", "_pretty"})

Handler = Callable[[Request, Identity, Client], Awaitable[Response]]


class AppStateApi:
    """`/auth/app-state/Basic`."""

    def __init__(self, terms: Terms, states: AppStates, clients: Clients, bearer: Bearer) -> None:
        self._issuer = terms.issuer
        self._base = terms.at(BASE)
        self._states = states
        self._clients = clients
        self._bearer = bearer

    def routes(self) -> list[Route]:
        many, one = f"{BASE}/Basic", f"{BASE}/Basic/{{id}}"
        return [
            Route(f"{BASE}/metadata", self.metadata, methods=["GET"]),
            self._route(many, self.search, "GET"),
            self._route(many, self.create, "POST"),
            self._route(one, self.read, "GET"),
            self._route(one, self.update, "PUT"),
            self._route(one, self.delete, "DELETE"),
            *(Route(path, _preflight, methods=["OPTIONS"]) for path in (many, one)),
        ]

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                identity = self._bearer.identify(request.headers.get("authorization"))
                client = await run_in_threadpool(self._clients.active, identity.client_id)
                if client is None:
                    raise ForbiddenError("App state is for registered apps.", key="HS-STATE-FORBIDDEN")
                return await handler(request, identity, client)
            except FhirError as error:
                return _answer(error.status, error.outcome(), dict(error.headers))
            except PyMongoError:
                away = UnavailableError("The database is away; try again.", headers={"Retry-After": "2"})
                return _answer(away.status, away.outcome(), dict(away.headers))

        return Route(path, endpoint, methods=[method])

    async def metadata(self, _: Request) -> Response:
        """What this endpoint can do."""
        codes = ("read", "create", "update", "delete", "search-type")
        parameters = [{"name": "code", "type": "token"}, {"name": "subject", "type": "reference"}]
        basic = {"type": "Basic", "interaction": [{"code": code} for code in codes], "searchParam": parameters}
        statement = {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": "2026-11-25",
            "kind": "instance",
            "instantiates": ["http://hl7.org/fhir/smart-app-launch/CapabilityStatement/smart-app-state-server"],
            "implementation": {"description": "State of SMART apps", "url": self._base},
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [{"mode": "server", "resource": [basic]}],
        }
        return _answer(200, statement)

    async def create(self, request: Request, identity: Identity, client: Client) -> Response:
        sent = sent_of(await _body(request), self._issuer)
        require(identity, "c", sent.system, sent.code, sent.subject)
        state = await run_in_threadpool(self._states.create, client, sent)
        return _answer(201, state.resource, {"ETag": state.etag, "Location": f"{self._base}/Basic/{state.id}"})

    async def read(self, request: Request, identity: Identity, client: Client) -> Response:
        state = await self._there(request, identity, client, "r")
        if state is None:
            raise NotFoundError("There is no such state.", key="HS-STATE-UNKNOWN")
        return _answer(200, state.resource, {"ETag": state.etag})

    async def update(self, request: Request, identity: Identity, client: Client) -> Response:
        version = _version_of(request)
        sent = sent_of(await _body(request), self._issuer, request.path_params["id"])
        there = await self._there(request, identity, client, "u")
        if there is None:
            raise changed_since()
        state = await run_in_threadpool(self._states.replace, there, version, sent)
        return _answer(200, state.resource, {"ETag": state.etag})

    async def delete(self, request: Request, identity: Identity, client: Client) -> Response:
        version = _version_of(request)
        there = await self._there(request, identity, client, "d")
        if there is None:
            raise changed_since()
        await run_in_threadpool(self._states.delete, there, version)
        return Response(status_code=204, headers=CORS)

    async def search(self, request: Request, identity: Identity, client: Client) -> Response:
        asked = dict(request.query_params)
        if len(asked) < len(request.query_params.multi_items()) or asked.keys() - IGNORED - {
            "code",
            "subject",
            "subject:missing",
        }:
            raise InvalidError(
                "App state is looked for by `code` and `subject` or `subject:missing`, each once.", key="HS-STATE-QUERY"
            )
        system, _, code = asked.get("code", "").rpartition("|")
        if not system or not code:
            raise InvalidError("`code` is needed, with its system: `system|code`.", key="HS-STATE-QUERY")
        subjects = self._subjects_asked(asked, subjects_for(identity, "s", system, code))
        for subject in subjects:
            require(identity, "s", system, code, subject)
        if not subjects:
            raise ForbiddenError("The access token does not allow that for this code.", key="HS-STATE-FORBIDDEN")
        found = await run_in_threadpool(self._states.find, client, system, code, subjects)
        return _answer(200, self._bundle(str(request.url.query), found))

    def _subjects_asked(self, asked: dict[str, str], allowed: list[str | None]) -> list[str | None]:
        missing = asked.get("subject:missing")
        if missing not in (None, "true", "false") or (missing is not None and "subject" in asked):
            raise InvalidError("`subject:missing` is true or false, and comes alone.", key="HS-STATE-QUERY")
        if "subject" in asked:
            return [subject_named(asked["subject"], self._issuer)]
        if missing == "true":
            return [None]
        return [subject for subject in allowed if subject is not None or missing is None]

    def _bundle(self, query: str, found: list[State]) -> dict[str, Any]:
        return {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": len(found),
            "link": [{"relation": "self", "url": f"{self._base}/Basic?{query}"}],
            **(
                {
                    "entry": [
                        {
                            "fullUrl": f"{self._base}/Basic/{state.id}",
                            "resource": state.resource,
                            "search": {"mode": "match"},
                        }
                        for state in found
                    ]
                }
                if found
                else {}
            ),
        }

    async def _there(self, request: Request, identity: Identity, client: Client, verb: Verb) -> State | None:
        """The state of the address; None when there is none, or none with which the app may do that."""
        state = await run_in_threadpool(self._states.get, client, request.path_params["id"])
        if state is None or state.subject not in subjects_for(identity, verb, state.system, state.code):
            return None
        return state


def _version_of(request: Request) -> int:
    found = VERSION.fullmatch(request.headers.get("if-match", "").strip())
    if found is None:
        raise PreconditionFailedError(
            'Changes need `If-Match` with the version that the app knows, such as W/"1".', key="HS-STATE-VERSION"
        )
    return int(found[1])


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BYTES:
            raise TooLargeError(f"App state has {LARGEST_BYTES} bytes at most.", key="HS-STATE-LARGE")
    return body


async def _preflight(_: Request) -> Response:
    return Response(status_code=204, headers=PREFLIGHT)


def _answer(status: int, resource: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(codec.encode(resource), status, {**CORS, "Cache-Control": "no-store", **(headers or {})}, FHIR_JSON)
