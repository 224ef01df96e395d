"""What the sign-in side needs of the FHIR server, and of the mail; the composition root fills these.

All are called from the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from starlette.requests import Request

from fhir_server.model.access import Identity
from smart_auth.model import Account, Launch, Session


@dataclass(frozen=True, slots=True)
class PatientCard:
    """One patient as a picker shows them."""

    reference: str
    name: str
    birth_date: str = ""
    gender: str = ""
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class EncounterCard:
    """One encounter as a picker shows it."""

    reference: str
    description: str
    start: str = ""
    status: str = ""


class Resources(Protocol):
    """Single FHIR resources, for the server's own purposes: an account is made with its resource."""

    async def read(self, reference: str) -> dict[str, Any] | None:
        """A resource, whoever asks."""

    async def create(self, resource: dict[str, Any], agent: str) -> str:
        """Create a resource on behalf of an account; its reference.

        Raises:
            FhirError: it is not valid.
        """

    async def update(self, resource: dict[str, Any], agent: str) -> None:
        """Make a new version of a resource."""


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision on a doctor.

    Attributes:
        by: the id of the account of who decided
        decision: `approve`, `reject` or `reopen`
    """

    by: str
    decision: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class DoctorStanding:
    """How a doctor stands.

    Attributes:
        state: `applied`, `verified` or `rejected`
        version: goes up with each change
    """

    state: str
    decisions: tuple[Decided, ...]
    version: int


class Applications(Protocol):
    """The process by which doctors are verified, which is one of FHIR resources: accounts only follow it."""

    async def open(self, practitioner: str, account_id: str) -> None:
        """Have an application of a Practitioner, whose account has just been proven."""

    async def decide(self, practitioner: str, decision: str, by: str, user: str | None, note: str) -> DoctorStanding:
        """Decide on an application, in the name of an account and of its resource.

        Raises:
            FhirError: it is not possible, or not for this person; the text says why.
        """


class Records(Resources, Protocol):
    """The FHIR resources that accounts and launches are about."""

    async def patients(self, identity: Identity, text: str, limit: int) -> list[PatientCard]:
        """Patients whom this user may see and whose name, identifier or birth date begins with the text."""

    async def patient(self, identity: Identity, reference: str) -> PatientCard | None:
        """One patient; None when there is none whom this user may see."""

    async def encounters(self, identity: Identity, patient: str, limit: int) -> list[EncounterCard]:
        """The patient's encounters that this user may see, the latest first."""

    async def encounter(self, identity: Identity, patient: str, reference: str) -> EncounterCard | None:
        """One encounter of the patient; None when there is none that this user may see."""


class Mail(Protocol):
    """Sends one message; the text holds no health data.

    Raises:
        MailError: it could not be handed over (see `mail`).
    """

    @property
    def address(self) -> str: ...

    async def send(self, to: str, subject: str, text: str, html: str = "", *, calendar: bytes = b"") -> None: ...


@dataclass(frozen=True, slots=True)
class ConnectedApp:
    """One app that somebody has let in, as their account page lists it."""

    grant_id: str
    name: str
    scope: str
    since: datetime | None = None
    last_used: datetime | None = None


class ConnectedApps(Protocol):
    """What a person has allowed to apps: filled from the authorizations, shown on the account page."""

    async def of(self, account_id: str) -> list[ConnectedApp]: ...

    async def revoke(self, account_id: str, grant_id: str) -> None:
        """End one of this account's authorizations; another account's is left alone."""


#: Told the id of an account whose password, address or second factor was changed, or which was disabled: ends
#: everything that the account has allowed so far, refresh tokens and access tokens, too.
CredentialsChanged: TypeAlias = Callable[[str], Awaitable[None]]


#: Told the id of an account that was disabled, has ended or is another now, and which resource its user was:
#: ends what needs no signing in (a calendar feed, a browser that is pushed to).
AccountEnded: TypeAlias = Callable[[str, str | None], Awaitable[None]]


async def nothing_more(_: str, __: str | None) -> None:
    """Nothing is had without signing in."""


class Sessions(Protocol):
    """Who is signed in: filled by `sessions`, asked by the authorization endpoint and by the pages of launches."""

    async def current(self, request: Request) -> Session | None:
        """The session of a browser's cookie, if it is good; None sends the browser to `/auth/sign-in?next=…`."""

    async def account(self, account_id: str) -> Account | None:
        """One account, whatever its state."""

    async def alive(self, session_id: str) -> bool:
        """Whether somebody is still signed in there: what was allowed with `online_access` ends when not."""


class Launches(Protocol):
    """Launch tokens: filled by `launch`, asked by the authorization endpoint."""

    async def redeem(self, token: str, client_id: str) -> Launch | None:
        """What a launch token stands for, once; None when it is unknown, used, expired, or another client's."""
