"""What the flows of accounts work with, in one bundle; `account_side` makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

from fhir_server.model.access import Role
from fhir_server.model.happening import Happening, Trail
from smart_auth.accounts import Accounts
from smart_auth.letters import Letters
from smart_auth.passwords import Passwords
from smart_auth.ports import (
    AccountEnded,
    Applications,
    ConnectedApps,
    CredentialsChanged,
    Resources,
    nothing_more,
)
from smart_auth.sessions import BrowserSessions
from smart_auth.throttle import Throttle
from smart_auth.tickets import Tickets
from smart_auth.vault import Vault


@dataclass(frozen=True, slots=True)
class AccountRules:
    """What the operator chooses.

    Attributes:
        self_registration: whether patients may register by themselves
        applications: whether doctors may apply
        second_factor_roles: who may not sign in with a password alone
        session_idle, session_lasts: see `sessions`
        product: the name in titles, mails and authenticator apps
        open_mail: whether anybody may read the local mails; only where access control is off
    """

    self_registration: bool = True
    applications: bool = True
    second_factor_roles: frozenset[Role] = frozenset({"administrator"})
    session_idle: timedelta = timedelta(hours=1)
    session_lasts: timedelta = timedelta(hours=12)
    verification_lasts: timedelta = timedelta(days=1)
    invitation_lasts: timedelta = timedelta(days=7)
    reset_lasts: timedelta = timedelta(minutes=30)
    step_lasts: timedelta = timedelta(minutes=10)
    product: str = "HealthSphere"
    open_mail: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """Where a request came from, for the trail and for the list of sessions."""

    address: str = ""
    agent: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that the flows share.

    Attributes:
        origin: `https://fhir.example.org`, before the paths of pages and in the links of mails
    """

    origin: str
    rules: AccountRules
    accounts: Accounts
    tickets: Tickets
    throttle: Throttle
    passwords: Passwords
    sessions: BrowserSessions
    letters: Letters
    records: Resources
    applications: Applications | None
    trail: Trail
    vault: Vault
    apps: ConnectedApps
    credentials_changed: CredentialsChanged
    account_ended: AccountEnded = nothing_more
    secure: bool = field(init=False)
    host: str = field(init=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.origin)
        object.__setattr__(self, "secure", parts.scheme == "https")
        object.__setattr__(self, "host", parts.hostname or "localhost")

    async def note(
        self,
        kind: str,
        detail: str,
        visit: Visit,
        *,
        outcome: int = 0,
        account_id: str = "",
        fhir_user: str | None = None,
        patient: str = "",
    ) -> None:
        """Write a happening to the trail."""
        await self.trail.happened(
            Happening(
                kind=kind,
                outcome=outcome,
                account_id=account_id,
                fhir_user=fhir_user or "",
                patient=patient,
                address=visit.address,
                request_id=visit.request_id,
                detail=detail,
            )
        )


REFUSED, FAILED = 4, 8
