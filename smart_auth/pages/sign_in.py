"""The pages of signing in and out, of the second step, and of proving once more who one is."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth import totp
from smart_auth.accounts import account_of, has_second_factor
from smart_auth.credentials import Credentials
from smart_auth.model import Session
from smart_auth.outside import Outside
from smart_auth.pages.page import Pages, safe_next
from smart_auth.passkeys import Passkeys
from smart_auth.sessions import cookie_name, drop_cookie, set_cookie
from smart_auth.signing_in import WORDS, OneMoreStep, RefusedError, SignedIn, SignIn
from smart_auth.throttle import ThrottledError


class SignInPages:
    """`/auth/sign-in…`, `/auth/confirm`, `/auth/sign-out`."""

    def __init__(
        self, pages: Pages, sign_in: SignIn, credentials: Credentials, outside: Outside, passkeys: Passkeys
    ) -> None:
        self._pages = pages
        self._sign_in = sign_in
        self._credentials = credentials
        self._outside = outside
        self._passkeys = passkeys
        self._step_cookie = cookie_name("step", pages.parts.secure)

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [
            route("/auth/sign-in", self.show),
            route("/auth/sign-in", self.password, "POST"),
            route("/auth/sign-in/second", self.show_second),
            route("/auth/sign-in/second", self.second, "POST"),
            route("/auth/sign-in/set-up", self.show_set_up),
            route("/auth/sign-in/set-up", self.set_up, "POST"),
            route("/auth/confirm", self.show_confirm),
            route("/auth/confirm", self.confirm, "POST"),
            route("/auth/sign-out", self.show_sign_out),
            route("/auth/sign-out", self.sign_out, "POST"),
        ]

    # --- the first step -----------------------------------------------------------------------------------------

    async def show(self, request: Request) -> Response:
        return await self._page(request, email=request.query_params.get("login_hint", ""))

    async def password(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        email, next_path = fields.get("email", ""), safe_next(fields.get("next"))
        try:
            reached = await self._sign_in.with_password(
                email,
                fields.get("password", ""),
                self._pages.visit(request),
                old_secret=self._pages.parts.sessions.secret_of(request),
            )
        except RefusedError as error:
            return await self._page(request, email=email, error=str(error), status=403, next_path=next_path)
        except ThrottledError as error:
            return await self._page(
                request,
                email=email,
                error=f"Too many attempts. Try again in {error.wait_s} seconds, or use a passkey.",
                status=429,
                next_path=next_path,
                headers={"Retry-After": str(error.wait_s)},
            )
        return self.arrive(reached, next_path)

    async def _page(
        self,
        request: Request,
        *,
        email: str = "",
        error: str = "",
        status: int = 200,
        next_path: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        next_path = next_path or safe_next(request.query_params.get("next"))
        session = await self._pages.session(request)
        rules = self._pages.parts.rules
        return self._pages.show(
            request,
            "sign_in.html",
            status=status,
            headers=headers,
            form_action=None,  # after an app's request the way leads on to the app
            email=email,
            error=error,
            next=next_path,
            already=session.account.email if session else "",
            registration=rules.self_registration,
            applications=rules.applications,
            providers=list(self._outside.providers.values()),
            passkeys=self._passkeys.usable_at(request.url.hostname),
        )

    def arrive(self, reached: SignedIn | OneMoreStep, next_path: str) -> Response:
        """On to where somebody was going, or to the step that is still missing."""
        secure = self._pages.parts.secure
        if isinstance(reached, OneMoreStep):
            page = "set-up" if reached.set_up else "second"
            answer: Response = self._pages.go(f"/auth/sign-in/{page}?next={quote(next_path, safe='')}")
            set_cookie(
                answer, self._step_cookie, reached.ticket, secure=secure, max_age=self._pages.parts.rules.step_lasts
            )
            return answer
        return self.welcome(self._pages.go(next_path), reached)

    def welcome(self, answer: Response, reached: SignedIn) -> Response:
        """An answer that signs the browser in."""
        self._pages.parts.sessions.give(answer, reached.secret)
        drop_cookie(answer, self._step_cookie, secure=self._pages.parts.secure)
        return answer

    # --- the second step ----------------------------------------------------------------------------------------

    async def show_second(self, request: Request) -> Response:
        return await self._second_page(request)

    async def second(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        next_path = safe_next(fields.get("next"))
        try:
            reached = await self._sign_in.with_code(
                request.cookies.get(self._step_cookie, ""),
                fields.get("code", ""),
                self._pages.visit(request),
                old_secret=self._pages.parts.sessions.secret_of(request),
            )
        except RefusedError as error:
            if error.why == "expired":
                return await self._page(request, error=str(error), status=403, next_path=next_path)
            return await self._second_page(request, error=str(error), status=403, next_path=next_path)
        return self.arrive(reached, next_path)

    async def _second_page(
        self, request: Request, *, error: str = "", status: int = 200, next_path: str | None = None
    ) -> Response:
        next_path = next_path or safe_next(request.query_params.get("next"))
        try:
            row, _ = await self._sign_in.waiting(request.cookies.get(self._step_cookie, ""))
        except RefusedError:
            return self._pages.go(f"/auth/sign-in?next={quote(next_path, safe='')}")
        return self._pages.show(
            request,
            "second_step.html",
            status=status,
            form_action=None,
            error=error,
            next=next_path,
            totp=bool(row.get("totp")),
            passkeys=bool(row.get("passkeys")) and self._passkeys.usable_at(request.url.hostname),
        )

    # --- a second factor that must be, and is not there yet -----------------------------------------------------

    async def show_set_up(self, request: Request) -> Response:
        return await self._set_up_page(request)

    async def _set_up_page(
        self, request: Request, *, error: str = "", status: int = 200, next_path: str | None = None
    ) -> Response:
        next_path = next_path or safe_next(request.query_params.get("next"))
        try:
            row, _ = await self._sign_in.waiting(request.cookies.get(self._step_cookie, ""))
        except RefusedError:
            return self._pages.go(f"/auth/sign-in?next={quote(next_path, safe='')}")
        if has_second_factor(row):
            return self._pages.go(f"/auth/sign-in/second?next={quote(next_path, safe='')}")
        secret = await self._credentials.begin_totp(row["_id"])
        address = totp.address_of(secret, row["email"], self._pages.parts.rules.product)
        return self._pages.show(
            request,
            "set_up_totp.html",
            status=status,
            error=error,
            next=next_path,
            picture=totp.picture_of(address),
            secret=secret,
            action="/auth/sign-in/set-up",
            required=True,
        )

    async def set_up(self, request: Request) -> Response:
        """Confirm the authenticator app with a first code, and sign in with it."""
        fields = await self._pages.form(request)
        next_path, visit = safe_next(fields.get("next")), self._pages.visit(request)
        ticket = request.cookies.get(self._step_cookie, "")
        try:
            row, methods = await self._sign_in.waiting(ticket)
        except RefusedError as error:
            return await self._page(request, error=str(error), status=403, next_path=next_path)
        if has_second_factor(row):
            return self._pages.go(f"/auth/sign-in/second?next={quote(next_path, safe='')}")
        codes = await self._credentials.confirm_totp(row["_id"], fields.get("code", ""), visit)
        if codes is None:
            return await self._set_up_page(request, error=WORDS["wrong-code"], status=403, next_path=next_path)
        await run_in_threadpool(self._pages.parts.tickets.void, row["_id"])
        reached = await self._sign_in.finish(
            account_of(row),
            (*methods, "otp", "mfa"),
            visit,
            old_secret=self._pages.parts.sessions.secret_of(request),
        )
        answer = self._pages.show(request, "codes.html", session=reached.session, codes=codes, next=next_path)
        return self.welcome(answer, reached)

    # --- once more ----------------------------------------------------------------------------------------------

    async def show_confirm(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        return await self._confirm_page(request, session)

    async def _confirm_page(
        self, request: Request, session: Session, *, error: str = "", status: int = 200, next_path: str | None = None
    ) -> Response:
        row = await run_in_threadpool(self._pages.parts.accounts.row, session.account.id)
        return self._pages.show(
            request,
            "confirm.html",
            session=session,
            status=status,
            form_action=None,
            error=error,
            next=next_path or safe_next(request.query_params.get("next")),
            second=row is not None and has_second_factor(row),
            passkeys=row is not None and bool(row.get("passkeys")) and self._passkeys.usable_at(request.url.hostname),
        )

    async def confirm(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        next_path, visit = safe_next(fields.get("next")), self._pages.visit(request)
        email = session.account.email
        methods: tuple[str, ...] = ("pwd",)
        try:
            row = await run_in_threadpool(self._pages.parts.accounts.row, session.account.id)
            row = await self._sign_in.judged(row, email, fields.get("password", ""), visit)
            if has_second_factor(row):
                await self._sign_in.code_used(row, fields.get("code", ""), visit)
                methods = ("pwd", "otp", "mfa")
        except RefusedError as error:
            text = "The password is wrong." if error.why == "wrong" else str(error)
            return await self._confirm_page(request, session, error=text, status=403, next_path=next_path)
        reached = await self._sign_in.finish(
            session.account, methods, visit, old_secret=self._pages.parts.sessions.secret_of(request)
        )
        return self.arrive(reached, next_path)

    # --- out ----------------------------------------------------------------------------------------------------

    async def show_sign_out(self, request: Request) -> Response:
        session = await self._pages.session(request)
        if session is None:
            return self._pages.go("/auth/sign-in")
        return self._pages.show(request, "sign_out.html", session=session)

    async def sign_out(self, request: Request) -> Response:
        session = await self._pages.session(request)
        if session is None:
            return self._pages.go("/auth/sign-in")
        await self._pages.form(request, session)
        await self._sign_in.leave(session, self._pages.visit(request))
        answer = self._pages.show(
            request,
            "message.html",
            title="You are signed out",
            text="Close the browser if others use it, too.",
            link=("/auth/sign-in", "Sign in again"),
        )
        self._pages.parts.sessions.forget(answer)
        return answer
