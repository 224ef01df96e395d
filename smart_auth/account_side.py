"""The accounts' half of the sign-in side, put together: give it the ports, take its routes and its `sessions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from fhir_server.model.access import Identity
from fhir_server.model.happening import Trail
from smart_auth.accounts import Accounts
from smart_auth.administration import Administration
from smart_auth.credentials import Credentials
from smart_auth.ending import Ending
from smart_auth.forgetting import Forgetting
from smart_auth.letters import Letters
from smart_auth.mail import SinkMail, Smtp, SmtpMail
from smart_auth.outside import Outside, Provider
from smart_auth.pages.account import AccountPages
from smart_auth.pages.admin import AdminPages
from smart_auth.pages.admin_api import AdminApi, Bearer
from smart_auth.pages.outside import OutsidePages
from smart_auth.pages.page import FOLDER, Pages
from smart_auth.pages.passkeys import PasskeyPages
from smart_auth.pages.recovering import RecoveryPages
from smart_auth.pages.registering import RegistrationPages
from smart_auth.pages.sign_in import SignInPages
from smart_auth.parts import AccountRules, Parts
from smart_auth.passkeys import Passkeys
from smart_auth.passwords import Passwords
from smart_auth.ports import (
    AccountEnded,
    Applications,
    ConnectedApp,
    ConnectedApps,
    CredentialsChanged,
    Resources,
    nothing_more,
)
from smart_auth.proxies import Proxies
from smart_auth.registration import Registrar
from smart_auth.sessions import BrowserSessions, SessionEnded, nothing_ends
from smart_auth.signing_in import SignIn
from smart_auth.store import AuthStore
from smart_auth.throttle import Throttle
from smart_auth.tickets import Tickets
from smart_auth.vault import Vault
from smart_auth.verification import Verification


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What the other parts of the server do for accounts.

    Attributes:
        records: the FHIR resources that accounts are tied to
        trail: where happenings go
        credentials_changed: ends what an account has allowed to apps
        apps: what an account has allowed to apps
        bearer: who an access token belongs to, for the admin API
        session_ended: ends what apps were given for as long as somebody is signed in
        account_ended: ends what somebody has of this server without signing in
        applications: how doctors are verified; None where none are, as on the command line
    """

    records: Resources
    trail: Trail
    credentials_changed: CredentialsChanged
    apps: ConnectedApps
    bearer: Bearer
    session_ended: SessionEnded = nothing_ends
    account_ended: AccountEnded = nothing_more
    applications: Applications | None = None


class NoApps:
    """Nobody has allowed anything to any app."""

    async def of(self, _: str) -> list[ConnectedApp]:
        return []

    async def revoke(self, _: str, __: str) -> None:
        return None


async def no_bearer(_: Request) -> Identity | None:
    """No access token is good."""
    return None


class AccountSide:
    """Accounts, sessions, and all of their pages.

    Attributes:
        sessions: fills the port `Sessions`
        pages: for other parts that show pages of the same kind
        admin_api: for other parts that have endpoints for administrators
        parts: for the command line
        administration, verification: for the command line, and for what comes on top (two-person rules, expiry)
        ending: for who erases records
    """

    def __init__(
        self,
        store: AuthStore,
        vault: Vault,
        neighbours: Neighbours,
        base_url: str,
        *,
        rules: AccountRules | None = None,
        smtp: Smtp | None = None,
        providers: Sequence[Provider] = (),
        passwords: Passwords | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        """
        Args:
            base_url: the FHIR base as browsers reach it; pages are at the same origin
            smtp: how mails leave; None keeps them for administrators to read
            providers: outside OpenID providers
            client: talks to the providers
        """
        rules = rules or AccountRules()
        address = urlsplit(base_url)
        origin = f"{address.scheme}://{address.netloc}"
        secure = address.scheme == "https"
        self._sink = SinkMail(store) if smtp is None else None
        mail = self._sink or SmtpMail(smtp)  # type: ignore[arg-type]  # one of the two
        self.mail = mail
        accounts = Accounts(store)
        self.sessions = BrowserSessions(
            store,
            accounts,
            secure=secure,
            idle=rules.session_idle,
            lasts=rules.session_lasts,
            ended=neighbours.session_ended,
        )
        self.parts = Parts(
            origin=origin,
            rules=rules,
            accounts=accounts,
            tickets=Tickets(store),
            throttle=Throttle(store),
            passwords=passwords or Passwords(),
            sessions=self.sessions,
            letters=Letters(mail, origin, rules.product),
            records=neighbours.records,
            applications=neighbours.applications,
            trail=neighbours.trail,
            vault=vault,
            apps=neighbours.apps,
            credentials_changed=neighbours.credentials_changed,
            account_ended=neighbours.account_ended,
        )
        self.sign_in = SignIn(self.parts)
        self.registrar = Registrar(self.parts)
        self.credentials = Credentials(self.parts, self.registrar)
        host, key_origin = passkey_place(origin)
        self.passkeys = Passkeys(store, self.parts, self.credentials, host=host, origin=key_origin)
        self.verification = Verification(self.parts, self.registrar)
        self.administration = Administration(self.parts, self.registrar, self.credentials, self.passkeys)
        self.ending = Ending(self.parts, self.passkeys, Forgetting(store))
        self.outside = Outside(self.parts, tuple(providers), client)
        self.pages = Pages(self.parts)
        self._proxies = Proxies(self.parts, self.registrar)
        self.admin_api = AdminApi(self.pages, self.administration, self.verification, neighbours.bearer)

    async def open(self) -> None:
        """Make the indexes that are not there yet."""
        ensures = [
            self.parts.accounts.ensure,
            self.parts.tickets.ensure,
            self.parts.throttle.ensure,
            self.sessions.ensure,
            self.passkeys.ensure,
        ]
        if self._sink:
            ensures.append(self._sink.ensure)
        for ensure in ensures:
            await run_in_threadpool(ensure)

    async def close(self) -> None:
        await self.outside.close()

    def routes(self) -> list[BaseRoute]:
        """All pages and endpoints of accounts, below `/auth/`."""
        pages = self.pages
        arrival = SignInPages(pages, self.sign_in, self.credentials, self.outside, self.passkeys)
        account = AccountPages(pages, self.credentials, self.passkeys, self.outside, self._proxies)
        return [
            *arrival.routes(),
            *RegistrationPages(pages, self.registrar, self.sign_in, arrival).routes(),
            *RecoveryPages(pages, self.credentials).routes(),
            *account.routes(),
            *PasskeyPages(pages, self.passkeys, self.sign_in, account).routes(),
            *OutsidePages(pages, self.outside, self.sign_in, arrival).routes(),
            *AdminPages(pages, self.administration, self.verification, self._sink).routes(),
            *self.admin_api.routes(),
            Mount("/auth/static", StaticFiles(directory=FOLDER / "static"), name="auth-static"),
        ]


def passkey_place(origin: str) -> tuple[str, str]:
    """The name that passkeys are bound to, and the origin that may use them.

    Browsers bind keys to names, not to addresses: a server on 127.0.0.1 is reached as `localhost` for that.
    """
    parts = urlsplit(origin)
    host = parts.hostname or "localhost"
    if host in ("127.0.0.1", "::1"):
        port = f":{parts.port}" if parts.port else ""
        return "localhost", f"{parts.scheme}://localhost{port}"
    return host, origin
