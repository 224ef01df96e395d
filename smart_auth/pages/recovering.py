"""The pages for whoever forgot their password, and the link that proves a new address."""

from __future__ import annotations

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth.accounts import email_of
from smart_auth.credentials import Credentials
from smart_auth.pages.page import Pages
from smart_auth.pages.registering import password_errors
from smart_auth.passwords import SHORTEST
from smart_auth.throttle import MAILS_PER_ADDRESS


class RecoveryPages:
    """`/auth/forgot`, `/auth/reset`, `/auth/new-address`."""

    def __init__(self, pages: Pages, credentials: Credentials) -> None:
        self._pages = pages
        self._credentials = credentials

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [
            route("/auth/forgot", self.show_forgot),
            route("/auth/forgot", self.forgot, "POST"),
            route("/auth/reset", self.show_reset),
            route("/auth/reset", self.reset, "POST"),
            route("/auth/new-address", self.show_new_address),
            route("/auth/new-address", self.new_address, "POST"),
        ]

    async def show_forgot(self, request: Request) -> Response:
        return self._pages.show(request, "forgot.html", email="")

    async def forgot(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        email = email_of(fields.get("email", ""))
        if email is None:
            return self._pages.show(
                request, "forgot.html", status=400, email=fields.get("email", ""), error="This is no e-mail address."
            )
        visit = self._pages.visit(request)
        await run_in_threadpool(self._pages.parts.throttle.attempt, f"mails:{visit.address}", MAILS_PER_ADDRESS)
        answer = self._pages.show(
            request,
            "message.html",
            title="Look into your mailbox",
            text=f"If {email} has an account here, a mail with a link is on its way.",
            link=None,
        )
        answer.background = BackgroundTask(self._credentials.forgotten, email, visit)
        return answer

    async def show_reset(self, request: Request) -> Response:
        token = request.query_params.get("token", "")
        return self._choose(request, (await self._credentials.resets(token))["email"], token)

    async def reset(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        token = fields.get("token", "")
        row = await self._credentials.resets(token)
        if errors := password_errors(fields, row["email"], row["name"]):
            return self._choose(request, row["email"], token, errors)
        await self._credentials.reset(token, fields["password"], self._pages.visit(request))
        return self._pages.show(
            request,
            "message.html",
            title="Your password is changed",
            text="Everybody who was signed in to your account is signed out.",
            link=("/auth/sign-in", "Sign in"),
        )

    def _choose(self, request: Request, email: str, token: str, errors: dict[str, str] | None = None) -> Response:
        return self._pages.show(
            request,
            "choose_password.html",
            status=400 if errors else 200,
            action="/auth/reset",
            email=email,
            name="",
            errors=errors or {},
            token=token,
            shortest=SHORTEST,
        )

    async def show_new_address(self, request: Request) -> Response:
        """A page with a button: programs that look into mails follow links, and must not use this one up."""
        return self._pages.show(
            request,
            "press.html",
            title="Confirm your new e-mail address",
            text="Your account will use this address from now on. You will be signed out everywhere.",
            action="/auth/new-address",
            button="Use this address",
            token=request.query_params.get("token", ""),
        )

    async def new_address(self, request: Request) -> Response:
        fields = await self._pages.form(request)
        await self._credentials.set_address(fields.get("token", ""), self._pages.visit(request))
        return self._pages.show(
            request,
            "message.html",
            title="Your e-mail address is changed",
            text="Sign in with it from now on.",
            link=("/auth/sign-in", "Sign in"),
        )
