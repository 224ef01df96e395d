"""How accounts come to be: patients register, doctors apply, staff and proxies are invited.

Nothing exists before an e-mail address is proven: what a form said travels in the ticket of the mailed link, and the
password is chosen behind the link, so that nobody can prepare an account with a password of theirs for somebody else's
address. A form answers the same for every address; what it leads to is in the mail.

Spec: https://cheatsheetseries.owasp.org/cheatsheets/Authentication_Cheat_Sheet.html (enumeration)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from starlette.concurrency import run_in_threadpool

from fhir_server.model.access import Role
from fhir_server.model.errors import FhirError
from smart_auth import people
from smart_auth.accounts import EmailTakenError, account_of, now
from smart_auth.mail import MailError
from smart_auth.model import Account, AccountState
from smart_auth.parts import FAILED, REFUSED, Parts, Visit
from smart_auth.people import Application, PersonName
from smart_auth.store import Row
from smart_auth.throttle import MAILS_TO_ADDRESS, ThrottledError

VERIFY, INVITE = "verify-email", "invitation"

log = logging.getLogger("smart_auth")


@dataclass(frozen=True, slots=True)
class Registration:
    """What a form said; the password is not among it.

    Attributes:
        role: `patient`, or `practitioner` with an application
        birth_date: of a patient
    """

    email: str
    name: PersonName
    role: Literal["patient", "practitioner"] = "patient"
    birth_date: str = ""
    application: Application | None = None


class LinkError(Exception):
    """A link of a mail leads nowhere: it was used, is too old, or never was."""


class Registrar:
    """Makes accounts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    # --- by themselves ------------------------------------------------------------------------------------------

    async def register(self, wanted: Registration, visit: Visit) -> None:
        """Send a link to the address, or the word that it has an account. Call it after the answer has been sent:
        how long it takes would tell which."""
        parts = self._parts
        try:
            await run_in_threadpool(parts.throttle.attempt, f"mail:{wanted.email.casefold()}", MAILS_TO_ADDRESS)
        except ThrottledError:
            await parts.note("account", "registration: too many mails to one address", visit, outcome=REFUSED)
            return
        known = await run_in_threadpool(parts.accounts.row_of_email, wanted.email)
        if known is not None and known["state"] == "unverified":
            await self.send_invitation(known, visit)
            return
        if known is not None:
            await self.posted(parts.letters.known_already(known["email"], known["name"]), visit, known["_id"])
            return
        data: dict[str, Any] = {
            "email": wanted.email,
            "given": wanted.name.given,
            "family": wanted.name.family,
            "role": wanted.role,
            "birth_date": wanted.birth_date,
            "application": wanted.application.as_row() if wanted.application else None,
        }
        lasts = parts.rules.verification_lasts
        token = await run_in_threadpool(parts.tickets.issue, VERIFY, data, lasts)
        await self.posted(parts.letters.verification(wanted.email, str(wanted.name), token, lasts), visit)

    async def registration_of(self, token: str) -> Registration:
        """What the form behind a link said.

        Raises:
            LinkError
        """
        data = await run_in_threadpool(self._parts.tickets.seen, VERIFY, token)
        if data is None:
            raise LinkError
        return _registration(data)

    async def verify(self, token: str, password: str, visit: Visit) -> Row:
        """Make the account, and its resource, of a proven address; the password has been judged.

        Raises:
            LinkError: the link is not good, or the address got an account by another way meanwhile.
            FhirError: the resource was refused; the link is good again.
        """
        parts = self._parts
        hashed = await parts.passwords.hash(password)
        data = await run_in_threadpool(parts.tickets.take, VERIFY, token)
        if data is None:
            raise LinkError
        wanted = _registration(data)
        # The account first: its address is unique, so nobody gets two resources. It is active once it has one.
        # Should this end half-way, whoever registers again gets an invitation to it, which makes the resource.
        more: dict[str, Any] = {
            "password": hashed,
            "credentials_changed_at": now(),
            "resource": _resource(wanted),
        }
        if wanted.application is not None:
            more["application"] = wanted.application.as_row()
            more["verification"] = {"state": "applied", "decisions": [], "since": now()}
        try:
            row = await run_in_threadpool(
                lambda: parts.accounts.add(
                    email=wanted.email, name=str(wanted.name), role=wanted.role, state="unverified", **more
                )
            )
        except EmailTakenError:
            raise LinkError from None
        try:
            reference = await parts.records.create(_resource(wanted), row["_id"])
            await self._opened(reference, row)
        except FhirError:
            await run_in_threadpool(parts.accounts.remove_unproven, row["_id"])
            await run_in_threadpool(parts.tickets.put_back, VERIFY, token, data, parts.rules.verification_lasts)
            raise
        done = await run_in_threadpool(
            lambda: parts.accounts.change(
                row["_id"],
                {"fhir_user": reference, "state": _state_of(row)},
                where={"state": "unverified"},
                unset=("resource",),
            )
        )
        if done is None:
            raise LinkError
        what = "applied" if wanted.application else "registered"
        await parts.note("account", what, visit, account_id=row["_id"], fhir_user=reference)
        return done

    # --- by the operator ----------------------------------------------------------------------------------------

    async def add(
        self,
        *,
        email: str,
        name: str,
        role: Role,
        password: str,
        by: str,
        fhir_user: str | None = None,
        organization: str | None = None,
        patients: Sequence[str] = (),
    ) -> Row:
        """An account that is active at once; its fields and the password have been judged.

        Raises:
            EmailTakenError: the address has an account.
        """
        hashed = await self._parts.passwords.hash(password)
        row = await run_in_threadpool(
            lambda: self._parts.accounts.add(
                email=email,
                name=name,
                role=role,
                state="active",
                fhir_user=fhir_user,
                organization=organization,
                patients=patients,
                password=hashed,
            )
        )
        await self._parts.note("account", f"added as {role} by {by}", Visit(), account_id=row["_id"])
        return row

    # --- by invitation ------------------------------------------------------------------------------------------

    async def invite(
        self,
        *,
        email: str,
        name: str,
        role: Role,
        by: str,
        visit: Visit,
        fhir_user: str | None = None,
        organization: str | None = None,
        patients: Sequence[str] = (),
        inviter: str = "An administrator",
        resource: dict[str, Any] | None = None,
    ) -> tuple[Account, str]:
        """Prepare an account and mail the link that sets its password; the account, and the token of the link.

        Args:
            resource: what is made when the invitation is taken up, for somebody who has no resource yet

        Raises:
            EmailTakenError: the address has an account.
        """
        parts = self._parts
        applies = role == "practitioner" and resource is not None
        more: dict[str, Any] = (
            {"verification": {"state": "applied", "decisions": [], "since": now()}} if applies else {}
        )
        row = await run_in_threadpool(
            lambda: parts.accounts.add(
                email=email,
                name=name,
                role=role,
                state="unverified",
                fhir_user=fhir_user,
                organization=organization,
                patients=patients,
                invited_by=by,
                inviter=inviter,
                resource=resource,
                **more,
            )
        )
        await parts.note("account", f"invited as {role} by {by}", visit, account_id=row["_id"])
        return account_of(row), await self.send_invitation(row, visit)

    async def send_invitation(self, row: Row, visit: Visit) -> str:
        """Mail a fresh link; earlier ones are void. Returns its token, which the command line shows."""
        parts = self._parts
        lasts = parts.rules.invitation_lasts
        await run_in_threadpool(parts.tickets.void, row["_id"], INVITE)
        token = await run_in_threadpool(parts.tickets.issue, INVITE, {"account_id": row["_id"]}, lasts)
        letter = parts.letters.invitation(
            row["email"], row["name"], token, lasts, row.get("inviter", "An administrator")
        )
        await self.posted(letter, visit, row["_id"])
        return token

    async def invited(self, token: str) -> Account:
        """Who a link invites.

        Raises:
            LinkError
        """
        data = await run_in_threadpool(self._parts.tickets.seen, INVITE, token)
        row = await run_in_threadpool(self._parts.accounts.row, data["account_id"]) if data else None
        if row is None or row["state"] != "unverified":
            raise LinkError
        return account_of(row)

    async def accept(self, token: str, password: str, visit: Visit) -> Row:
        """Take an invitation up; the password has been judged.

        Raises:
            LinkError
            FhirError: the person's resource was refused; the link is good again.
        """
        parts = self._parts
        hashed = await parts.passwords.hash(password)
        data = await run_in_threadpool(parts.tickets.take, INVITE, token)
        row = await run_in_threadpool(parts.accounts.row, data["account_id"]) if data else None
        if data is None or row is None or row["state"] != "unverified":
            raise LinkError
        fhir_user = row.get("fhir_user")
        if fhir_user is None and row.get("resource"):
            try:
                fhir_user = await parts.records.create(row["resource"], row["_id"])
                await self._opened(fhir_user, row)
            except FhirError:
                await run_in_threadpool(parts.tickets.put_back, INVITE, token, data, parts.rules.invitation_lasts)
                raise
        done = await run_in_threadpool(
            lambda: parts.accounts.change(
                row["_id"],
                {
                    "password": hashed,
                    "state": _state_of(row),
                    "fhir_user": fhir_user,
                    "credentials_changed_at": now(),
                },
                where={"state": "unverified"},
                unset=("resource",),
            )
        )
        if done is None:
            raise LinkError
        await parts.note("account", "invitation taken up", visit, account_id=row["_id"], fhir_user=fhir_user)
        return done

    async def _opened(self, practitioner: str, row: Row) -> None:
        """Have the application of a doctor. Whoever decides on one that is missing opens it, should this end here."""
        if "verification" in row and self._parts.applications is not None:
            await self._parts.applications.open(practitioner, row["_id"])

    async def posted(self, letter: Awaitable[None], visit: Visit, account_id: str = "") -> bool:
        """Send a mail; whether it was handed over. Where not, the trail and the log say so, and people ask again."""
        try:
            await letter
        except MailError as error:
            log.error("a mail was not handed over: %s", error)
            await self._parts.note("account", "mail not sent", visit, outcome=FAILED, account_id=account_id)
            return False
        return True


def _state_of(row: Row) -> AccountState:
    """What an account becomes when its address is proven: doctors who apply must be verified first."""
    return "pending" if "verification" in row else "active"


def _registration(data: dict[str, Any]) -> Registration:
    application = data["application"]
    return Registration(
        email=data["email"],
        name=PersonName(data["given"], data["family"]),
        role=data["role"],
        birth_date=data["birth_date"],
        application=Application(**application) if application else None,
    )


def _resource(wanted: Registration) -> dict[str, Any]:
    if wanted.role == "practitioner":
        return people.practitioner(wanted.name, wanted.email, active=False, application=wanted.application)
    return people.patient(wanted.name, wanted.birth_date, wanted.email)
