"""An authorization under way, from the checked request to the code: which page comes next, and what the pages report.

The pages for signing in, choosing a patient or an encounter, and consent are others' work; this is what they talk to.
Each step is stored, so that any worker can go on with it, and belongs to one session.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html#process-step-by-step
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from pymongo import IndexModel, ReturnDocument

from fhir_server.model.clock import new_id
from fhir_server.model.happening import Happening, Trail
from smart_auth import scopes
from smart_auth.authorize import Asked, RefusedError, redirect_of
from smart_auth.model import Account, Authorization, AuthorizationRequest, Client, LaunchContext, Session
from smart_auth.oauth import OAuthServer
from smart_auth.ports import Launches
from smart_auth.rows import now, object_of, plain_of, row_of
from smart_auth.token_answer import context_of

REQUESTS: Final = "requests"

SIGN_IN: Final = "/auth/sign-in"
CONTINUE: Final = "/auth/authorize/continue"
CHOOSE_PATIENT: Final = "/auth/choose-patient"
CHOOSE_ENCOUNTER: Final = "/auth/choose-encounter"
CONSENT: Final = "/auth/consent"

#: What the page would have been for, told to an app that wants none shown (`prompt=none`).
ERROR_OF_PAGE: Final = {
    SIGN_IN: "login_required",
    CHOOSE_PATIENT: "interaction_required",
    CHOOSE_ENCOUNTER: "interaction_required",
    CONSENT: "consent_required",
}


class FlowError(Exception):
    """The authorization cannot be gone on with: it is over, or is another session's. The text is for the user."""


class Flow:
    """What the pages of an authorization talk to. `id` is the `request` in their addresses."""

    def __init__(self, server: OAuthServer, launches: Launches | None = None, trail: Trail | None = None) -> None:
        self._server = server
        self._store = server.parts.store
        self._launches = launches
        self._trail = trail

    def open(self) -> None:
        terms = self._server.parts.terms
        self._store.ensure(REQUESTS, [IndexModel("created_at", expireAfterSeconds=terms.request_s)])

    # What the authorization endpoint does.

    async def begin(self, asked: Asked, session: Session | None) -> str:
        """Take up a checked request; the address to send the browser to.

        Raises:
            RefusedError: the launch is none.
        """
        request = asked.request
        if asked.launch:
            launch = await self._launches.redeem(asked.launch, request.client_id) if self._launches else None
            if launch is None:
                raise self._refusal(request, "invalid_request", "The launch is unknown, was used before, or is over")
            request = replace(request, launch=launch.context, context=launch.context, launched_by=launch.account_id)
        elif scopes.has(request.scope, scopes.LAUNCH):
            # Apps that can be started both ways ask for it always; without a launch it means nothing.
            rest = scopes.without(request.scope, scopes.LAUNCH)
            if not rest:
                raise self._refusal(request, "invalid_scope", "Nothing that was asked for can be granted")
            request = replace(request, scope=rest)
        await asyncio.to_thread(self._store.rows(REQUESTS).insert_one, row_of(request, "id"))
        return await self.take_up(request.id, session)

    async def take_up(self, id: str, session: Session | None) -> str:
        """Let a session go on with a request, which belongs to it from then on; the next address.

        Raises:
            FlowError: it is over, or another session has taken it up.
        """
        request = await asyncio.to_thread(self._find, id)
        if session is None or self._must_sign_in(request, session):
            return await self._page(request, SIGN_IN)
        bound = await asyncio.to_thread(
            self._change, id, {"session_id": session.id}, {"session_id": {"$in": [None, session.id]}}
        )
        if bound is None:
            raise FlowError("This request belongs to another browser session. Start again from the app.")
        return await self.next(id, session)

    # What the pages do.

    async def request(self, id: str, session: Session) -> AuthorizationRequest:
        """The request, for the page to show.

        Raises:
            FlowError: it is over, or another session's.
        """
        request = await asyncio.to_thread(self._find, id)
        if request.session_id != session.id:
            raise FlowError("This request belongs to another browser session. Start again from the app.")
        return request

    async def client(self, request: AuthorizationRequest) -> Client:
        """The app that asks.

        Raises:
            FlowError: it is no longer active.
        """
        client = await asyncio.to_thread(self._server.parts.clients.active, request.client_id)
        if client is None:
            raise FlowError("The app is no longer registered here.")
        return client

    async def choose(self, id: str, session: Session, context: LaunchContext) -> None:
        """The user has chosen the patient, or the encounter; the page has checked that they may see it.

        Raises:
            FlowError: the request is over, or another session's, or the patient is not one of this person's.
        """
        await self.request(id, session)
        own = session.account.acts_for
        if own is not None and context.patient not in own:
            raise FlowError("That patient cannot be chosen.")
        await self._set(id, session, {"context": plain_of(context)})

    async def without_encounter(self, id: str, session: Session) -> None:
        """There is no encounter to choose, or the user wants none: the app is not told of one."""
        request = await self.request(id, session)
        await self._set(id, session, {"scope": scopes.without(request.scope, scopes.LAUNCH_ENCOUNTER)})

    async def allow(
        self, id: str, session: Session, granted_scope: str, lasts_s: int | None = None, *, remember: bool = False
    ) -> None:
        """The user allows some of what was asked for; scopes may be finer than those that were asked for.

        Args:
            id: which request
            session: whose
            granted_scope: what they allow
            lasts_s: for how long; None: as the server's settings say
            remember: whether they need not be asked again when the app wants no more than this

        Raises:
            FlowError: the request is over, or another session's; nothing is left; or it is more than was asked for.
        """
        request = await self.request(id, session)
        if not granted_scope.strip() or not scopes.within(granted_scope, request.scope):
            raise FlowError("What is allowed must be some of what the app asked for.")
        longest = self._server.parts.terms.refresh_token_s
        await self._set(
            id,
            session,
            {
                "granted_scope": " ".join(scopes.words_in(granted_scope)),
                "lasts_s": None if lasts_s is None else max(60, min(lasts_s, longest)),
                "remember": remember,
            },
        )

    async def purpose(self, id: str, session: Session, purpose: str, reason: str) -> None:
        """Why the user wants access, in a code and in their own words; else what is usual in their role."""
        await self._set(id, session, {"purpose": purpose, "reason": reason[:500]})

    async def deny(self, id: str, session: Session) -> str:
        """The user refuses; the address of the app, with the error."""
        request = await self.request(id, session)
        return await self._end(request, "access_denied", "The user did not allow it")

    async def next(self, id: str, session: Session) -> str:
        """Where to send the browser now (303): the next page, or back to the app.

        Raises:
            FlowError: the request is over, or another session's.
        """
        request = await self.request(id, session)
        if self._must_sign_in(request, session):
            return await self._page(request, SIGN_IN)
        if request.launched_by and request.launched_by != session.account.id:
            return await self._end(request, "access_denied", "The launch belongs to another user")
        client = await self.client(request)
        request = await self._with_own_scopes(request, session)
        if not request.scope:
            return await self._end(request, "invalid_scope", "Nothing that was asked for is this user's to give")
        request = await self._with_own_patient(request, session)
        if scopes.needs_patient(request.scope) and request.context.patient is None:
            return await self._page(request, CHOOSE_PATIENT)
        if scopes.has(request.scope, scopes.LAUNCH_ENCOUNTER) and request.context.encounter is None:
            return await self._page(request, CHOOSE_ENCOUNTER)
        granted, remember = request.granted_scope, request.remember
        if granted is None:
            if not await self._consented(request, client, session):
                return await self._page(request, CONSENT)
            granted, remember = request.scope, not client.trusted
        return await self._finish(replace(request, granted_scope=granted, remember=remember), session)

    # What is behind it.

    def _find(self, id: str) -> AuthorizationRequest:
        row = self._store.rows(REQUESTS).find_one({"_id": id})
        if row is None:
            raise FlowError("This request is over. Start again from the app.")
        request = object_of(AuthorizationRequest, row, "id")
        if request.created_at + timedelta(seconds=self._server.parts.terms.request_s) <= now():
            raise FlowError("This request is over. Start again from the app.")
        return request

    def _change(self, id: str, values: dict[str, Any], condition: dict[str, Any]) -> dict[str, Any] | None:
        return self._store.rows(REQUESTS).find_one_and_update(
            {"_id": id, **condition}, {"$set": values}, return_document=ReturnDocument.AFTER
        )

    async def _set(self, id: str, session: Session, values: dict[str, Any]) -> None:
        if await asyncio.to_thread(self._change, id, values, {"session_id": session.id}) is None:
            raise FlowError("This request is over. Start again from the app.")

    def _must_sign_in(self, request: AuthorizationRequest, session: Session) -> bool:
        """Whether the app wants the user to prove anew who they are, and they have not done so since it asked."""
        since = session.authenticated_at
        if {"login", "select_account"} & set(request.prompt.split()) and since < request.created_at:
            return True
        return request.max_age_s is not None and since < request.created_at - timedelta(seconds=request.max_age_s)

    async def _with_own_scopes(self, request: AuthorizationRequest, session: Session) -> AuthorizationRequest:
        """Only administrators let an app manage accounts."""
        if session.account.role == "administrator" or not scopes.has(request.scope, scopes.ACCOUNTS):
            return request
        rest = scopes.without(request.scope, scopes.ACCOUNTS)
        await self._set(request.id, session, {"scope": rest})
        return replace(request, scope=rest)

    async def _with_own_patient(self, request: AuthorizationRequest, session: Session) -> AuthorizationRequest:
        """Who acts for one patient alone need not choose."""
        own = session.account.acts_for or ()
        if request.context.patient is not None or len(own) != 1 or not scopes.needs_patient(request.scope):
            return request
        context = replace(request.context, patient=own[0])
        await self._set(request.id, session, {"context.patient": own[0]})
        return replace(request, context=context)

    async def _consented(self, request: AuthorizationRequest, client: Client, session: Session) -> bool:
        """Whether the consent page can be left out: the app is our own, or the user wanted to be remembered.

        To manage the accounts of others is asked for each time.

        A public app proves by its redirect URI alone that it is who it says: a custom scheme, or a port of the user's
        machine, can be another program's, so there the user is asked each time (RFC 8252 section 8.6).
        """
        if "consent" in request.prompt.split() or scopes.has(request.scope, scopes.ACCOUNTS):
            return False
        if client.trusted:
            return True
        if client.auth_method == "none" and not request.redirect_uri.startswith("https://"):
            return False
        there = await asyncio.to_thread(
            self._server.parts.authorizations.remembered, session.account.id, client.client_id, request.scope
        )
        return there is not None and there.context.patient == request.context.patient

    async def _page(self, request: AuthorizationRequest, page: str) -> str:
        """The address of a page; the app's, with an error, when it wants none shown."""
        if "none" in request.prompt.split():
            return await self._end(request, ERROR_OF_PAGE[page], "The user would have to be asked")
        if page != SIGN_IN:
            return f"{page}?{urlencode({'request': request.id})}"
        query = {"next": f"{CONTINUE}?{urlencode({'request': request.id})}"}
        if {"login", "select_account"} & set(request.prompt.split()) or request.max_age_s is not None:
            query["prompt"] = "login"
        if request.login_hint:
            query["login_hint"] = request.login_hint
        return f"{SIGN_IN}?{urlencode(query)}"

    async def _end(self, request: AuthorizationRequest, error: str, description: str) -> str:
        await asyncio.to_thread(self._store.rows(REQUESTS).delete_one, {"_id": request.id})
        await self._tell("token-refused", 4, request, None, f"authorization: {error}")
        return self._refusal(request, error, description).redirect

    def _refusal(self, request: AuthorizationRequest, error: str, description: str) -> RefusedError:
        answer = {"error": error, "error_description": description}
        redirect = redirect_of(self._server, request.redirect_uri, request.state, answer)
        return RefusedError(error, description, redirect)

    async def _finish(self, request: AuthorizationRequest, session: Session) -> str:
        """Make the code, once, and send the browser back to the app."""
        parts, scope, moment = self._server.parts, request.granted_scope or "", now()
        gone = await asyncio.to_thread(
            self._store.rows(REQUESTS).find_one_and_delete, {"_id": request.id, "session_id": session.id}
        )
        if gone is None:
            raise FlowError("This request is over. Start again from the app.")
        grant = Authorization(
            id=new_id(),
            client_id=request.client_id,
            account_id=session.account.id,
            scope=scope,
            context=context_of(request.context, scope),
            created_at=moment,
            session_id=session.id,
            expires_at=moment + timedelta(seconds=request.lasts_s or parts.terms.refresh_token_s),
            purpose=request.purpose,
            reason=request.reason,
            auth_time=session.authenticated_at,
            nonce=request.nonce,
            methods=session.methods,
            remember=request.remember,
        )
        code = await asyncio.to_thread(
            parts.codes.make, grant, request.redirect_uri, request.code_challenge, parts.terms.code_s
        )
        await self._tell("consent", 0, request, session.account, scope)
        return redirect_of(self._server, request.redirect_uri, request.state, {"code": code})

    async def _tell(
        self, kind: str, outcome: int, request: AuthorizationRequest, account: Account | None, detail: str
    ) -> None:
        if self._trail is not None:
            await self._trail.happened(
                Happening(
                    kind,
                    outcome,
                    account_id=account.id if account else "",
                    client_id=request.client_id,
                    fhir_user=(account.fhir_user or "") if account else "",
                    patient=request.context.patient or "",
                    detail=detail,
                )
            )
