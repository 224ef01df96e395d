"""What administrators do with accounts: they see who can sign in and as what, never clinical data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool

from fhir_server.model.access import Role
from smart_auth import people
from smart_auth.accounts import HUMAN_ROLES, LONGEST_NAME, MOST_PATIENTS, email_of, now
from smart_auth.credentials import Credentials
from smart_auth.model import Account
from smart_auth.parts import Parts, Visit
from smart_auth.passkeys import Passkeys
from smart_auth.registration import Registrar
from smart_auth.store import Row


class FieldError(Exception):
    """A field of an account is not possible.

    Attributes:
        field: which, as the API names it
    """

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        super().__init__(text)


class StateError(Exception):
    """The account is not in a state in which this can be done."""


class Administration:
    """Changes of accounts by administrators; each is told to the trail with who made it."""

    def __init__(self, parts: Parts, registrar: Registrar, credentials: Credentials, passkeys: Passkeys) -> None:
        self._parts = parts
        self._registrar = registrar
        self._credentials = credentials
        self._passkeys = passkeys

    async def row(self, account_id: str) -> Row:
        """
        Raises:
            LookupError: there is no such account.
        """
        row = await run_in_threadpool(self._parts.accounts.row, account_id)
        if row is None:
            raise LookupError(account_id)
        return row

    async def search(self, *, text: str, role: str, state: str, after: str, limit: int) -> list[Row]:
        """Accounts in the order of their ids, from after one on."""
        return await run_in_threadpool(
            lambda: self._parts.accounts.search(text=text, role=role, state=state, after=after, limit=limit)
        )

    async def invite(
        self,
        *,
        email: str,
        name: str,
        role: str,
        by: str,
        inviter: str,
        visit: Visit,
        fhir_user: str = "",
        organization: str = "",
        patients: Sequence[str] = (),
    ) -> tuple[Account, str]:
        """Prepare an account and mail its link, whose token is given, too. Staff without a Practitioner get one when
        they take it up; doctors apply with it.

        Raises:
            FieldError: a field is not possible.
            EmailTakenError: the address has an account.
        """
        kept = await self.checked(email, name, role, fhir_user, organization, patients)
        resource: dict[str, Any] | None = None
        if not fhir_user and role in ("practitioner", "pharmacy", "front-desk"):
            # One who invites a doctor is one pair of eyes; two verify whoever treats patients.
            resource = people.practitioner(people.name_of(name), kept["email"], active=role != "practitioner")
        return await self._registrar.invite(**kept, by=by, inviter=inviter, visit=visit, resource=resource)

    async def checked(
        self, email: str, name: str, role: str, fhir_user: str, organization: str, patients: Sequence[str]
    ) -> dict[str, Any]:
        """The fields of an account, when all of them are possible.

        Raises:
            FieldError: one is not.
        """
        address = email_of(email)
        if address is None:
            raise FieldError("email", "This is no e-mail address.")
        checked_name(name)
        checked_role(role)
        await self._checked_ties(role, fhir_user, organization, patients)
        return {
            "email": address,
            "name": name.strip(),
            "role": role,
            "fhir_user": fhir_user or None,
            "organization": organization or None,
            "patients": tuple(patients),
        }

    async def change(self, account_id: str, fields: dict[str, Any], *, by: str, visit: Visit) -> Row:
        """Change name, role, organization, FHIR resource or patients.

        Raises:
            LookupError, FieldError, StateError
        """
        row = await self.row(account_id)
        merged = {**row, **fields}
        checked_name(merged["name"])
        checked_role(merged["role"])
        await self._checked_ties(
            merged["role"], merged.get("fhir_user") or "", merged.get("organization") or "", merged["patients"]
        )
        if row["role"] == "administrator" and merged["role"] != "administrator":
            await self._not_the_last(row)
        changed = await run_in_threadpool(self._parts.accounts.change, account_id, fields)
        if changed is None:
            raise LookupError(account_id)
        await self._parts.note("account", f"changed by {by}: {', '.join(sorted(fields))}", visit, account_id=account_id)
        if set(fields) - {"name"}:
            # What was allowed before was allowed to another role, or to somebody else's records.
            await self._cut_off(account_id)
        if set(fields) & {"fhir_user", "role", "patients"}:
            await self._parts.account_ended(account_id, row.get("fhir_user"))
        return changed

    async def disable(self, account_id: str, *, by: str, visit: Visit) -> Row:
        """
        Raises:
            LookupError, StateError
        """
        row = await self.row(account_id)
        if account_id == by:
            raise StateError("Nobody disables their own account.")
        await self._not_the_last(row)
        changed = await run_in_threadpool(
            self._parts.accounts.change,
            account_id,
            {"state": "disabled", "state_before": row["state"], "credentials_changed_at": now()},
        )
        if changed is None:
            raise LookupError(account_id)
        await run_in_threadpool(self._parts.tickets.void, account_id)
        await self._cut_off(account_id)
        await self._parts.account_ended(account_id, row.get("fhir_user"))
        await self._parts.note("account", f"disabled by {by}", visit, account_id=account_id)
        return changed

    async def enable(self, account_id: str, *, by: str, visit: Visit) -> Row:
        """Put an account back to what it was before it was disabled.

        Raises:
            LookupError, StateError
        """
        row = await self.row(account_id)
        if row["state"] != "disabled":
            raise StateError("The account is not disabled.")
        if row.get("verification", {}).get("state") == "rejected":
            raise StateError("The application was rejected: reopen it.")
        before = row.get("state_before", "active")
        changed = await run_in_threadpool(
            lambda: self._parts.accounts.change(
                account_id, {"state": before}, where={"state": "disabled"}, unset=("state_before",)
            )
        )
        if changed is None:
            raise StateError("Somebody else has just changed the account: look again.")
        await self._parts.note("account", f"enabled by {by}", visit, account_id=account_id)
        return changed

    async def reset_second_factor(self, account_id: str, *, by: str, visit: Visit) -> None:
        """For somebody who lost everything; the administrator has made sure who they are.

        Raises:
            LookupError
        """
        row = await self.row(account_id)
        await run_in_threadpool(self._passkeys.remove_all, account_id)
        await run_in_threadpool(
            lambda: self._parts.accounts.change(account_id, unset=("totp", "totp_new", "recovery_codes"))
        )
        await self._credentials.changed(row, "An administrator has removed your second factors.", visit)
        await self._parts.note("account", f"second factors reset by {by}", visit, account_id=account_id)

    async def send_link(self, account_id: str, *, by: str, visit: Visit) -> str:
        """Mail a link that sets a password: an invitation again, or a recovery. Returns its token.

        Raises:
            LookupError, StateError
        """
        row = await self.row(account_id)
        if row["state"] == "disabled":
            raise StateError("The account is disabled: enable it first.")
        await self._parts.note("account", f"link sent by {by}", visit, account_id=account_id)
        if row["state"] == "unverified":
            return await self._registrar.send_invitation(row, visit)
        return await self._credentials.send_reset(row, visit)

    async def sign_out(self, account_id: str, *, by: str, visit: Visit) -> int:
        """End all sessions and everything allowed to apps; how many sessions there were.

        Raises:
            LookupError
        """
        await self.row(account_id)
        ended = await self._cut_off(account_id)
        await self._parts.note("account", f"signed out everywhere by {by}", visit, account_id=account_id)
        return ended

    async def _cut_off(self, account_id: str) -> int:
        ended = await run_in_threadpool(self._parts.sessions.end_all, account_id)
        await self._parts.credentials_changed(account_id)
        return ended

    async def _not_the_last(self, row: Row) -> None:
        if row["role"] == "administrator" and row["state"] == "active":
            others = await run_in_threadpool(self._parts.accounts.count, "administrator")
            if others <= 1:
                raise StateError("This is the last administrator.")

    async def _checked_ties(self, role: str, fhir_user: str, organization: str, patients: Sequence[str]) -> None:
        types = people.TYPES_OF_ROLE[checked_role(role)]
        if fhir_user:
            if people.type_of(fhir_user) not in types:
                raise FieldError("fhirUser", f"A {role} is a {' or '.join(types)}.")
            await self._exists("fhirUser", fhir_user)
        if organization:
            if people.type_of(organization) != "Organization":
                raise FieldError("organization", "This is no reference to an Organization.")
            await self._exists("organization", organization)
        if patients and role not in ("proxy", "patient"):
            raise FieldError("patients", "Only a proxy or a patient acts for patients.")
        if len(patients) > MOST_PATIENTS:
            raise FieldError("patients", f"One account acts for {MOST_PATIENTS} patients at most.")
        for patient in patients:
            if people.type_of(patient) != "Patient":
                raise FieldError("patients", "This is no reference to a Patient.")
            await self._exists("patients", patient)

    async def _exists(self, field: str, reference: str) -> None:
        if await self._parts.records.read(reference) is None:
            raise FieldError(field, f"There is no {reference}.")


def checked_name(name: str) -> str:
    """
    Raises:
        FieldError: it is empty or too long.
    """
    if not 1 <= len(name.strip()) <= LONGEST_NAME:
        raise FieldError("name", f"A name has 1 to {LONGEST_NAME} characters.")
    return name.strip()


def checked_role(role: str) -> Role:
    """
    Raises:
        FieldError: no person has it.
    """
    for known in HUMAN_ROLES:
        if role == known:
            return known
    raise FieldError("role", f"The role is one of {', '.join(HUMAN_ROLES)}.")
