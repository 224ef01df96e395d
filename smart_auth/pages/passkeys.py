"""The endpoints that `passkeys.js` calls: JSON, with the CSRF token of its page in a header."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from smart_auth.accounts import account_of
from smart_auth.pages.account import AccountPages
from smart_auth.pages.page import HOME, PageError, Pages, safe_next
from smart_auth.passkeys import PasskeyError, Passkeys
from smart_auth.sessions import cookie_name, drop_cookie
from smart_auth.signing_in import RefusedError, SignIn, recently

NO_STORE = {"Cache-Control": "no-store"}


class PasskeyPages:
    """`/auth/passkeys/…`."""

    def __init__(self, pages: Pages, passkeys: Passkeys, sign_in: SignIn, account: AccountPages) -> None:
        self._pages = pages
        self._passkeys = passkeys
        self._sign_in = sign_in
        self._account = account

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [
            route("/auth/passkeys/sign-in-options", self.sign_in_options, "POST"),
            route("/auth/passkeys/sign-in", self.sign_in, "POST"),
            route("/auth/passkeys/register-options", self.register_options, "POST"),
            route("/auth/passkeys/register", self.register, "POST"),
        ]

    async def sign_in_options(self, request: Request) -> Response:
        await self._fields(request)
        return JSONResponse(await self._passkeys.sign_in_options(), headers=NO_STORE)

    async def sign_in(self, request: Request) -> Response:
        fields = await self._fields(request)
        visit = self._pages.visit(request)
        try:
            row, methods = await self._passkeys.proven(_text(fields, "ticket"), _object(fields, "credential"), visit)
            await self._sign_in.check_state(row, visit)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, 403, NO_STORE)
        sessions = self._pages.parts.sessions
        reached = await self._sign_in.finish(account_of(row), methods, visit, old_secret=sessions.secret_of(request))
        answer = JSONResponse({"next": safe_next(_text(fields, "next"))}, headers=NO_STORE)
        sessions.give(answer, reached.secret)
        secure = self._pages.parts.secure
        drop_cookie(answer, cookie_name("step", secure), secure=secure)
        return answer

    async def register_options(self, request: Request) -> Response:
        session = await self._pages.session(request)
        if session is None or not recently(session, self._pages.parts):
            raise PageError(401, "Sign in again", "Too much time has passed since you signed in.")
        await self._pages.json(request, session)
        return JSONResponse(await self._passkeys.registration_options(session.account), headers=NO_STORE)

    async def register(self, request: Request) -> Response:
        session = await self._pages.session(request)
        if session is None or not recently(session, self._pages.parts):
            raise PageError(401, "Sign in again", "Too much time has passed since you signed in.")
        fields = await self._pages.json(request, session)
        try:
            await self._passkeys.register(
                session.account,
                _text(fields, "ticket"),
                _object(fields, "credential"),
                _text(fields, "name"),
                self._pages.visit(request),
            )
        except PasskeyError as error:
            return JSONResponse({"error": str(error)}, 422, NO_STORE)
        _, secret = await self._account.renew(request, session)
        answer = JSONResponse({"next": f"{HOME}?done=passkey"}, headers=NO_STORE)
        self._pages.parts.sessions.give(answer, secret)
        return answer

    async def _fields(self, request: Request) -> dict[str, Any]:
        """Of a page that may be shown to somebody signed in (who proves it once more) or to nobody yet."""
        session = await self._pages.session(request)
        if session is not None:
            try:
                return await self._pages.json(request, session)
            except PageError as error:
                if error.status != 403:
                    raise
        return await self._pages.json(request)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    return value if isinstance(value, str) else ""


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise PageError(400, "Not a passkey", "The answer of the passkey is missing.")
    return value
