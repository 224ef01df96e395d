"""The way to outside providers and back, to sign in or to link an identity with one's account."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.accounts import IdentityTakenError
from smart_auth.outside import Outside, OutsideError, Provider, Return
from smart_auth.pages.page import HOME, PageError, Pages, safe_next
from smart_auth.pages.sign_in import SignInPages
from smart_auth.parts import REFUSED
from smart_auth.sessions import cookie_name, drop_cookie, set_cookie
from smart_auth.signing_in import WORDS, RefusedError, SignIn, recently

log = logging.getLogger("smart_auth")


class OutsidePages:
    """`/auth/outside/…`."""

    def __init__(self, pages: Pages, outside: Outside, sign_in: SignIn, arrival: SignInPages) -> None:
        self._pages = pages
        self._outside = outside
        self._sign_in = sign_in
        self._arrival = arrival
        self._cookie = cookie_name("outside", pages.parts.secure)

    def routes(self) -> list[Route]:
        if not self._outside.providers:
            return []
        route = self._pages.route
        return [
            route("/auth/outside/{provider}", self.sign_in),
            route("/auth/outside/{provider}/link", self.link, "POST"),
            route("/auth/outside/{provider}/callback", self.back),
        ]

    async def sign_in(self, request: Request) -> Response:
        return await self._start(request, next_path=safe_next(request.query_params.get("next")))

    async def link(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        await self._pages.form(request, session)
        return await self._start(request, next_path=HOME, links=session.account.id)

    async def _start(self, request: Request, *, next_path: str, links: str = "") -> Response:
        provider = self._provider(request)
        try:
            address, binding = await self._outside.start(provider, next_path=next_path, links=links)
        except OutsideError as error:
            raise await self._failed(request, provider, error) from error
        answer = self._pages.go(address)
        parts = self._pages.parts
        set_cookie(answer, self._cookie, binding, secure=parts.secure, max_age=parts.rules.step_lasts)
        return answer

    async def back(self, request: Request) -> Response:
        provider = self._provider(request)
        try:
            returned = await self._outside.back(
                provider, dict(request.query_params), request.cookies.get(self._cookie, "")
            )
        except OutsideError as error:
            raise await self._failed(request, provider, error) from error
        answer = await (self._linked(request, returned) if returned.links else self._arrived(request, returned))
        drop_cookie(answer, self._cookie, secure=self._pages.parts.secure)
        return answer

    async def _arrived(self, request: Request, returned: Return) -> Response:
        parts, visit, identity = self._pages.parts, self._pages.visit(request), returned.identity
        row = await run_in_threadpool(parts.accounts.row_of_outside, identity.provider.id, identity.subject)
        if row is None:
            await parts.note(
                "sign-in-refused", f"identity at {identity.provider.id} is not linked", visit, outcome=REFUSED
            )
            raise PageError(403, "Not linked", WORDS["not-linked"])
        try:
            reached = await self._sign_in.proceed(
                row, identity.methods or ("fed",), visit, old_secret=parts.sessions.secret_of(request)
            )
        except RefusedError as error:
            raise PageError(403, "You cannot sign in", str(error)) from error
        return self._arrival.arrive(reached, returned.next)

    async def _linked(self, request: Request, returned: Return) -> Response:
        """Link, if the same person is signed in still and has proven it lately."""
        parts, identity = self._pages.parts, returned.identity
        session = await self._pages.session(request)
        if session is None or session.account.id != returned.links or not recently(session, parts):
            raise PageError(403, "Sign in again", "Sign in, then link the identity once more.")
        try:
            await self._outside.link(session.account.id, identity)
        except IdentityTakenError:
            raise PageError(409, "Linked already", "This identity is linked with another account.") from None
        await parts.note(
            "account",
            f"identity at {identity.provider.id} linked",
            self._pages.visit(request),
            account_id=session.account.id,
            fhir_user=session.account.fhir_user,
        )
        return self._pages.go(f"{HOME}?done=linked")

    def _provider(self, request: Request) -> Provider:
        provider = self._outside.providers.get(request.path_params["provider"])
        if provider is None:
            raise PageError(404, "Nothing here", "There is no such provider.")
        return provider

    async def _failed(self, request: Request, provider: Provider, error: OutsideError) -> PageError:
        log.warning("signing in through %s failed: %s", provider.id, error)
        await self._pages.parts.note(
            "sign-in-refused", f"{provider.id}: {error}", self._pages.visit(request), outcome=REFUSED
        )
        return PageError(
            502, "That did not work", f"{provider.name} did not tell us who you are. Try again, or sign in another way."
        )
