"""Opening apps from here: the gallery, the page from which a clinician launches one, and the endpoint behind it.

The endpoint takes the form of the page, JSON with the session's CSRF token, and JSON with an access token of a client
that an administrator trusts: our own portal (a user's token), or an EHR's back end (its own token; it names the user).

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#launch-app-ehr-launch
"""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhir_server.model.access import Identity
from fhir_server.model.errors import (
    FhirError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
    UnauthorizedError,
)
from smart_auth import scopes
from smart_auth.accounts import account_of
from smart_auth.answers import sent_to
from smart_auth.bearer import Bearer
from smart_auth.clients import Clients
from smart_auth.launches import LASTS, checked_context, checked_intent, checked_reference
from smart_auth.model import Account, Client, LaunchContext, Session
from smart_auth.pages.authorizing import AppCard, card_of
from smart_auth.pages.page import CSRF_HEADER, PageError, Pages
from smart_auth.ports import Records
from smart_auth.scope_words import words_of
from smart_auth.starting import Started, Starting
from smart_auth.viewer import patients_of, viewer_of, visible_patient

LAUNCH: Final = "/auth/launch"
APPS: Final = "/auth/apps"

MOST: Final = 25
LONGEST_TEXT: Final = 100
LARGEST_BODY_BYTES: Final = 64 * 1024

#: The members of the endpoint's JSON, and of what kind they are.
MEMBERS: Final[dict[str, type]] = {
    "client_id": str,
    "patient": str,
    "encounter": str,
    "intent": str,
    "fhirContext": list,
    "need_patient_banner": bool,
    "user": str,
}


class LaunchPages:
    """`/auth/launch`, `/auth/apps`."""

    def __init__(self, pages: Pages, starting: Starting, records: Records, clients: Clients, bearer: Bearer) -> None:
        self._pages = pages
        self._starting = starting
        self._records = records
        self._clients = clients
        self._bearer = bearer

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [route(APPS, self.gallery), route(LAUNCH, self.show), route(LAUNCH, self.launch, "POST")]

    # --- pages --------------------------------------------------------------------------------------------------

    async def gallery(self, request: Request) -> Response:
        """The apps that can be opened from here, and those that have access."""
        session = await self._pages.signed_in(request)
        return self._pages.show(
            request,
            "apps.html",
            session=session,
            # Taking access back is a form of the account page, which leads back there.
            apps=[(self._card(client), _wishes(client)) for client in await self._starting.apps()],
            connected=await self._pages.parts.apps.of(session.account.id),
        )

    async def show(self, request: Request) -> Response:
        return await self._page(request, await self._pages.signed_in(request), dict(request.query_params))

    async def _page(
        self, request: Request, session: Session, values: dict[str, str], *, status: int = 200, error: str = ""
    ) -> Response:
        account = session.account
        text = values.get("text", "").strip()[:LONGEST_TEXT]
        patient = await visible_patient(self._records, account, values.get("patient", ""))
        found = [] if patient else await patients_of(self._records, account, text, MOST + 1)
        encounters = await self._records.encounters(viewer_of(account), patient.reference, MOST) if patient else []
        return self._pages.show(
            request,
            "launch.html",
            session=session,
            status=status,
            error=error,
            form_action=None,  # from here the browser goes to the app
            text=text,
            patient=patient,
            patients=found[:MOST],
            more=len(found) > MOST,
            searches=account.acts_for is None,
            encounters=encounters,
            apps=[self._card(client) for client in await self._starting.apps()],
            values=values,
        )

    def _card(self, client: Client) -> AppCard:
        return card_of(client, self._pages.parts.origin)

    # --- the endpoint -------------------------------------------------------------------------------------------

    async def launch(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if "authorization" in request.headers or kind.endswith("json"):
            try:
                return await self._launch_by_json(request)
            except FhirError as error:
                headers = {"Cache-Control": "no-store", **error.headers}
                return JSONResponse(error.outcome(), error.status, headers, "application/fhir+json")
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        try:
            started = await self._start(request, session.account, fields)
        except (InvalidError, NotFoundError) as error:
            said = error.issues[0].diagnostics
            return await self._page(request, session, fields, status=error.status, error=said)
        return sent_to(started.address)

    async def _launch_by_json(self, request: Request) -> Response:
        members = await _object_of(request)
        account, by = await self._launcher(request, members.pop("user", ""))
        started = await self._start(request, account, members, by=by)
        return JSONResponse(
            {
                "launch_url": started.address,
                "launch": started.token,
                "iss": self._starting.terms.issuer,
                "expires_in": int(LASTS.total_seconds()),
            },
            201,
            {"Cache-Control": "no-store", "Pragma": "no-cache"},
        )

    async def _start(self, request: Request, account: Account, members: dict[str, Any], *, by: str = "") -> Started:
        patient = checked_reference(members.get("patient", ""), "Patient", "patient")
        context = LaunchContext(
            patient=patient,
            encounter=checked_reference(members.get("encounter", ""), "Encounter", "encounter"),
            fhir_context=checked_context(members.get("fhirContext", []), self._starting.terms.resource_types),
            intent=checked_intent(members.get("intent", "").strip()),
            need_patient_banner=members.get("need_patient_banner", True),
        )
        return await self._starting.start(
            account, members.get("client_id", ""), context, self._pages.visit(request), by=by
        )

    async def _launcher(self, request: Request, user: str) -> tuple[Account, str]:
        """Who launches, and through which client.

        Raises:
            UnauthorizedError, ForbiddenError, InvalidError
        """
        if "authorization" in request.headers:
            identity = self._bearer.identify(request.headers["authorization"])
            return await self._launcher_by_token(identity, user), identity.client_id
        session = await self._pages.session(request)
        if session is None:
            raise UnauthorizedError(
                "Sign in, or send an access token.", key="HS-LAUNCH-USER", headers={"WWW-Authenticate": "Bearer"}
            )
        try:
            self._pages.check_csrf(request, session, request.headers.get(CSRF_HEADER, ""))
        except PageError:
            raise ForbiddenError("X-CSRF-Token is not that of the session.", key="HS-LAUNCH-USER") from None
        if user:
            raise ForbiddenError("A session launches for its own user.", expression="user", key="HS-LAUNCH-USER")
        return session.account, ""

    async def _launcher_by_token(self, identity: Identity, user: str) -> Account:
        """The user of a portal's token; of a back end's, whom it names."""
        client = await run_in_threadpool(self._clients.active, identity.client_id)
        operator = identity.role == "operator"
        if not operator and (client is None or not client.trusted):
            raise ForbiddenError("Only clients that an administrator trusts launch apps.", key="HS-LAUNCH-CLIENT")
        itself = operator or identity.subject == identity.client_id
        if itself and not user:
            raise InvalidError(
                "`user` names the account that launches, by id or e-mail address.",
                expression="user",
                key="HS-LAUNCH-USER",
            )
        if not itself and user:
            raise ForbiddenError("A user's token launches for that user.", expression="user", key="HS-LAUNCH-USER")
        account = await run_in_threadpool(self._account, user if itself else identity.subject)
        if account is None or account.state != "active":
            raise ForbiddenError("There is no such user who may sign in.", expression="user", key="HS-LAUNCH-USER")
        return account

    def _account(self, named: str) -> Account | None:
        accounts = self._pages.parts.accounts
        row = accounts.row_of_email(named) if "@" in named else accounts.row(named)
        return None if row is None else account_of(row)


def _wishes(client: Client) -> list[str]:
    """What an app may ask for, in words; the plain ones of every app left out."""
    plain = {*scopes.OTHERS} - {scopes.OFFLINE, scopes.ACCOUNTS}
    return [words_of(word)[0] for word in scopes.words_in(client.scope) if word not in plain]


async def _object_of(request: Request) -> dict[str, Any]:
    """The object in the body, its members of the right kinds.

    Raises:
        InvalidError, TooLargeError
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY_BYTES:
            raise TooLargeError("The body is too large.", key="HS-LAUNCH-BODY")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidError("The body is no JSON object.", key="HS-LAUNCH-BODY")
    for name, value in found.items():
        if name not in MEMBERS or not isinstance(value, MEMBERS[name]):
            raise InvalidError(f"`{name[:40]}` is not a member of this, or of another kind.", key="HS-LAUNCH-BODY")
    return found
