"""The account page: everything that people see and change of their own account."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from smart_auth import totp
from smart_auth.accounts import LONGEST_NAME, email_of
from smart_auth.credentials import Credentials
from smart_auth.model import Session
from smart_auth.outside import Outside
from smart_auth.pages.page import HOME, Pages
from smart_auth.pages.registering import password_errors
from smart_auth.passkeys import Passkeys
from smart_auth.passwords import SHORTEST
from smart_auth.proxies import Proxies
from smart_auth.signing_in import WORDS
from smart_auth.throttle import PER_ACCOUNT

#: What the page says after a change, by the word in its address.
DONE: Mapping[str, str] = {
    "name": "Your name is changed.",
    "email": "We have sent a mail to the new address. It is yours when you open the link in it.",
    "password": "Your password is changed. Everybody else is signed out.",
    "totp": "The authenticator app is removed.",
    "passkey": "Your passkeys are changed.",
    "session": "The session is ended.",
    "sessions": "All other sessions are ended.",
    "app": "The app has no access any more.",
    "outside": "The identity is not linked any more.",
    "linked": "You can sign in with this identity from now on.",
    "proxy": "If that person can act for you, a mail is on its way to them.",
    "proxy-end": "That person does not act for you any more.",
}


class AccountPages:
    """`/auth/account…`."""

    def __init__(
        self, pages: Pages, credentials: Credentials, passkeys: Passkeys, outside: Outside, proxies: Proxies
    ) -> None:
        self._pages = pages
        self._parts = pages.parts
        self._credentials = credentials
        self._passkeys = passkeys
        self._outside = outside
        self._proxies = proxies

    def routes(self) -> list[Route]:
        route = self._pages.route
        return [
            route("/auth/account", self.show),
            route("/auth/account/name", self.name, "POST"),
            route("/auth/account/email", self.show_email),
            route("/auth/account/email", self.email, "POST"),
            route("/auth/account/password", self.show_password),
            route("/auth/account/password", self.password, "POST"),
            route("/auth/account/totp", self.show_totp),
            route("/auth/account/totp", self.totp, "POST"),
            route("/auth/account/totp/remove", self.remove_totp, "POST"),
            route("/auth/account/recovery-codes", self.recovery_codes, "POST"),
            route("/auth/account/passkeys", self.show_passkeys),
            route("/auth/account/passkeys/remove", self.remove_passkey, "POST"),
            route("/auth/account/sessions/end", self.end_session, "POST"),
            route("/auth/account/sessions/end-others", self.end_others, "POST"),
            route("/auth/account/apps/revoke", self.revoke_app, "POST"),
            route("/auth/account/outside/unlink", self.unlink, "POST"),
            route("/auth/account/proxies", self.ask_proxy, "POST"),
            route("/auth/account/proxies/end", self.end_proxy, "POST"),
            route("/auth/proxy", self.show_proxy),
            route("/auth/proxy", self.accept_proxy, "POST"),
        ]

    async def show(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        return await self._page(request, session)

    async def _page(self, request: Request, session: Session, *, status: int = 200, error: str = "") -> Response:
        account, parts = session.account, self._parts
        row = await run_in_threadpool(parts.accounts.row, account.id) or {}
        linked = {link["provider"] for link in row.get("outside", ())}
        own = account.fhir_user if account.role == "patient" else None
        return self._pages.show(
            request,
            "account.html",
            session=session,
            status=status,
            error=error,
            done=DONE.get(request.query_params.get("done", ""), ""),
            totp=row.get("totp"),
            codes_left=len(row.get("recovery_codes", ())),
            must_have=account.role in parts.rules.second_factor_roles,
            passkeys=await self._passkeys.of(account.id),
            outside=[{**link, "name": self._provider_name(link["provider"])} for link in row.get("outside", ())],
            providers=[provider for provider in self._outside.providers.values() if provider.id not in linked],
            # Linking leads on to the provider.
            form_action=None if self._outside.providers else "'self'",
            sessions=[
                {"id": s.id, "agent": agent_of(s.agent), "address": s.address, "since": s.since, "seen": s.seen_at}
                for s in await run_in_threadpool(parts.sessions.open_of, account.id)
            ],
            apps=await parts.apps.of(account.id),
            proxies=await run_in_threadpool(parts.accounts.proxies_of, own) if own else None,
            acts_for=account.patients,
        )

    def _provider_name(self, provider_id: str) -> str:
        provider = self._outside.providers.get(provider_id)
        return provider.name if provider else provider_id

    def _back(self, done: str) -> Response:
        return self._pages.go(f"{HOME}?done={done}")

    # --- name, address, password --------------------------------------------------------------------------------

    async def name(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        name = " ".join(fields.get("name", "").split())
        if not 1 <= len(name) <= LONGEST_NAME:
            return await self._page(request, session, status=400, error="Enter your name.")
        await self._credentials.rename(session, name, self._pages.visit(request))
        return self._back("name")

    async def show_email(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        return self._pages.show(request, "new_email.html", session=session, email="")

    async def email(self, request: Request) -> Response:
        session = await self._pages.just_proven(request, "/auth/account/email")
        fields = await self._pages.form(request, session)
        email = email_of(fields.get("email", ""))
        if email is None:
            return self._pages.show(
                request,
                "new_email.html",
                session=session,
                status=400,
                email=fields.get("email", ""),
                error="This is no e-mail address.",
            )
        answer = self._back("email")
        answer.background = BackgroundTask(
            self._credentials.ask_new_address, session, email, self._pages.visit(request)
        )
        return answer

    async def show_password(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        return self._password_page(request, session, {})

    def _password_page(self, request: Request, session: Session, errors: dict[str, str]) -> Response:
        return self._pages.show(
            request,
            "choose_password.html",
            session=session,
            status=400 if errors else 200,
            action="/auth/account/password",
            email=session.account.email,
            name="",
            errors=errors,
            token="",
            shortest=SHORTEST,
        )

    async def password(self, request: Request) -> Response:
        session = await self._pages.just_proven(request, "/auth/account/password")
        fields = await self._pages.form(request, session)
        if errors := password_errors(fields, session.account.email, session.account.name):
            return self._password_page(request, session, errors)
        await self._credentials.set_password(session, fields["password"], self._pages.visit(request))
        return await self._renewed(request, session, self._back("password"))

    async def _renewed(self, request: Request, session: Session, answer: Response) -> Response:
        """A new session in place of the one that ended with the changed credentials."""
        _, secret = await self.renew(request, session)
        self._parts.sessions.give(answer, secret)
        return answer

    async def renew(self, request: Request, session: Session) -> tuple[Session, str]:
        visit = self._pages.visit(request)
        return await run_in_threadpool(
            lambda: self._parts.sessions.begin(
                session.account,
                session.methods,
                address=visit.address,
                agent=visit.agent,
                authenticated_at=session.authenticated_at,
            )
        )

    # --- second factors -----------------------------------------------------------------------------------------

    async def show_totp(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        return await self._totp_page(request, session)

    async def _totp_page(self, request: Request, session: Session, error: str = "") -> Response:
        account = session.account
        secret = await self._credentials.begin_totp(account.id)
        return self._pages.show(
            request,
            "set_up_totp.html",
            session=session,
            status=403 if error else 200,
            error=error,
            picture=totp.picture_of(totp.address_of(secret, account.email, self._parts.rules.product)),
            secret=secret,
            action="/auth/account/totp",
            required=False,
        )

    async def totp(self, request: Request) -> Response:
        session = await self._pages.just_proven(request, "/auth/account/totp")
        fields = await self._pages.form(request, session)
        await run_in_threadpool(self._parts.throttle.attempt, f"code:{session.account.id}", PER_ACCOUNT)
        codes = await self._credentials.confirm_totp(
            session.account.id, fields.get("code", ""), self._pages.visit(request)
        )
        if codes is None:
            return await self._totp_page(request, session, WORDS["wrong-code"])
        await run_in_threadpool(self._parts.throttle.forgive, f"code:{session.account.id}")
        new, secret = await self.renew(request, session)
        answer = self._pages.show(request, "codes.html", session=new, codes=codes, next=HOME)
        self._parts.sessions.give(answer, secret)
        return answer

    async def remove_totp(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        await self._pages.form(request, session)
        await self._credentials.drop_totp(session.account.id, self._pages.visit(request))
        return await self._renewed(request, session, self._back("totp"))

    async def recovery_codes(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        await self._pages.form(request, session)
        codes = await self._credentials.new_recovery_codes(session.account.id, self._pages.visit(request))
        return self._pages.show(request, "codes.html", session=session, codes=codes, next=HOME)

    async def show_passkeys(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        return self._pages.show(
            request,
            "new_passkey.html",
            session=session,
            here=self._passkeys.usable_at(request.url.hostname),
            host=self._passkeys.host,
        )

    async def remove_passkey(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        fields = await self._pages.form(request, session)
        await self._passkeys.remove(session.account.id, fields.get("id", ""), self._pages.visit(request))
        return await self._renewed(request, session, self._back("passkey"))

    # --- sessions, apps, identities -----------------------------------------------------------------------------

    async def end_session(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        if await run_in_threadpool(self._parts.sessions.end, fields.get("id", ""), session.account.id):
            await self._note(request, session, "session ended")
        return self._back("session")

    async def end_others(self, request: Request) -> Response:
        """Sign out everywhere but here; what apps may do ends, too."""
        session = await self._pages.signed_in(request)
        await self._pages.form(request, session)
        await run_in_threadpool(lambda: self._parts.sessions.end_all(session.account.id, but=session.id))
        await self._parts.credentials_changed(session.account.id)
        await self._note(request, session, "signed out everywhere")
        return self._back("sessions")

    async def revoke_app(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        await self._parts.apps.revoke(session.account.id, fields.get("id", ""))
        await self._note(request, session, "app revoked")
        return self._back("app")

    async def unlink(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        fields = await self._pages.form(request, session)
        provider, subject = fields.get("provider", ""), fields.get("subject", "")
        if await self._outside.unlink(session.account.id, provider, subject):
            await self._note(request, session, f"identity at {provider} unlinked")
        return self._back("outside")

    async def _note(self, request: Request, session: Session, what: str) -> None:
        account = session.account
        await self._parts.note(
            "account", what, self._pages.visit(request), account_id=account.id, fhir_user=account.fhir_user
        )

    # --- people who act for a patient ---------------------------------------------------------------------------

    async def ask_proxy(self, request: Request) -> Response:
        session = await self._pages.just_proven(request)
        fields = await self._pages.form(request, session)
        email, name = email_of(fields.get("email", "")), " ".join(fields.get("name", "").split())
        if session.account.role != "patient" or not session.account.fhir_user:
            return await self._page(request, session, status=403, error="Only patients can ask others to act for them.")
        if email is None or not 1 <= len(name) <= LONGEST_NAME:
            return await self._page(request, session, status=400, error="Enter the person's name and e-mail address.")
        answer = self._back("proxy")
        answer.background = BackgroundTask(
            self._proxies.offer, session.account, email, name, self._pages.visit(request)
        )
        return answer

    async def end_proxy(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        if session.account.role == "patient" and session.account.fhir_user:
            await self._proxies.end(
                session.account.fhir_user, fields.get("id", ""), self._pages.visit(request), by=session.account.id
            )
        return self._back("proxy-end")

    async def show_proxy(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        token = request.query_params.get("token", "")
        name = await self._proxies.offered(session, token)
        return self._pages.show(
            request,
            "press.html",
            session=session,
            title="Act for somebody",
            text=f"{name} would like you to see and manage their records with your account.",
            action="/auth/proxy",
            button="Accept",
            token=token,
        )

    async def accept_proxy(self, request: Request) -> Response:
        session = await self._pages.signed_in(request)
        fields = await self._pages.form(request, session)
        await self._proxies.accept(session, fields.get("token", ""), self._pages.visit(request))
        return self._pages.go(HOME)


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def agent_of(text: str) -> str:
    """A browser in words that people know: `Firefox on Windows`."""

    def known(names: Any) -> str:
        return next((name for sign, name in names if sign in text), "")

    browser, system = known(_BROWSERS), known(_SYSTEMS)
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or re.split(r"[\s/]", text, maxsplit=1)[0] or "Unknown program"
