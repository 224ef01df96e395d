"""What people change about how they sign in: password, address, second factors; and getting back in without them.

After each change of a credential the other sessions end, and what was allowed to apps ends with them; the owner gets a
mail in case it was somebody else.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool

from smart_auth import recovery_codes, totp
from smart_auth.accounts import EmailTakenError, email_key, now
from smart_auth.model import Session
from smart_auth.parts import REFUSED, Parts, Visit
from smart_auth.registration import LinkError, Registrar
from smart_auth.store import Row
from smart_auth.throttle import MAILS_TO_ADDRESS, ThrottledError

RESET, NEW_ADDRESS = "reset-password", "new-address"


class Credentials:
    """Changes of credentials."""

    def __init__(self, parts: Parts, registrar: Registrar) -> None:
        self._parts = parts
        self._registrar = registrar

    # --- forgotten passwords ------------------------------------------------------------------------------------

    async def forgotten(self, email: str, visit: Visit) -> None:
        """Mail a link to a known address. Call it after the answer has been sent: how long it takes tells."""
        parts = self._parts
        try:
            await run_in_threadpool(parts.throttle.attempt, f"mail:{email.casefold()}", MAILS_TO_ADDRESS)
        except ThrottledError:
            await parts.note("account", "recovery: too many mails to one address", visit, outcome=REFUSED)
            return
        row = await run_in_threadpool(parts.accounts.row_of_email, email)
        if row is None or row["state"] == "disabled":
            await parts.note("account", "recovery asked for an unknown address", visit, outcome=REFUSED)
        elif row["state"] == "unverified":
            await self._registrar.send_invitation(row, visit)
        else:
            await self.send_reset(row, visit)

    async def send_reset(self, row: Row, visit: Visit) -> str:
        """Mail a link that sets a new password; earlier ones are void. Returns its token."""
        parts = self._parts
        lasts = parts.rules.reset_lasts
        await run_in_threadpool(parts.tickets.void, row["_id"], RESET)
        token = await run_in_threadpool(parts.tickets.issue, RESET, {"account_id": row["_id"]}, lasts)
        await parts.note("account", "recovery link sent", visit, account_id=row["_id"])
        await self._registrar.posted(parts.letters.reset(row["email"], row["name"], token, lasts), visit, row["_id"])
        return token

    async def resets(self, token: str) -> Row:
        """Whose password a link sets.

        Raises:
            LinkError
        """
        data = await run_in_threadpool(self._parts.tickets.seen, RESET, token)
        row = await run_in_threadpool(self._parts.accounts.row, data["account_id"]) if data else None
        if row is None or row["state"] not in ("active", "pending"):
            raise LinkError
        return row

    async def reset(self, token: str, password: str, visit: Visit) -> None:
        """Set a new password by a link; it has been judged. A second factor is asked for at sign-in all the same.

        Raises:
            LinkError
        """
        row = await self.resets(token)
        hashed = await self._parts.passwords.hash(password)
        if await run_in_threadpool(self._parts.tickets.take, RESET, token) is None:
            raise LinkError
        await run_in_threadpool(self._parts.accounts.change, row["_id"], {"password": hashed})
        # Whoever reads the mails of the address may be the one who is kept waiting by somebody else's guesses.
        await run_in_threadpool(self._parts.throttle.forgive, f"password:{row['key']}")
        await self.changed(row, "Your password was changed by a link that was mailed to you.", visit)

    # --- by whoever is signed in --------------------------------------------------------------------------------

    async def set_password(self, session: Session, password: str, visit: Visit) -> None:
        """A new password; it has been judged, and the person has just proven who they are."""
        hashed = await self._parts.passwords.hash(password)
        row = await run_in_threadpool(self._parts.accounts.change, session.account.id, {"password": hashed})
        if row is not None:
            await self.changed(row, "Your password was changed.", visit)

    async def rename(self, session: Session, name: str, visit: Visit) -> None:
        await run_in_threadpool(self._parts.accounts.change, session.account.id, {"name": name})
        await self._parts.note("account", "name changed", visit, account_id=session.account.id)

    async def ask_new_address(self, session: Session, email: str, visit: Visit) -> None:
        """Mail a link to the new address; it becomes the account's when the link is followed.

        Nothing tells whether the address belongs to another account; its owner gets a mail then.
        """
        parts, account = self._parts, session.account
        try:
            await run_in_threadpool(parts.throttle.attempt, f"mail:{email.casefold()}", MAILS_TO_ADDRESS)
        except ThrottledError:
            return
        other = await run_in_threadpool(parts.accounts.row_of_email, email)
        if other is not None and other["_id"] != account.id:
            await self._registrar.posted(parts.letters.known_already(other["email"], other["name"]), visit)
            return
        lasts = parts.rules.verification_lasts
        await run_in_threadpool(parts.tickets.void, account.id, NEW_ADDRESS)
        data = {"account_id": account.id, "email": email}
        token = await run_in_threadpool(parts.tickets.issue, NEW_ADDRESS, data, lasts)
        await self._registrar.posted(parts.letters.new_address(email, account.name, token, lasts), visit, account.id)

    async def set_address(self, token: str, visit: Visit) -> None:
        """Follow the link to a new address; the old one is told.

        Raises:
            LinkError
        """
        parts = self._parts
        data = await run_in_threadpool(parts.tickets.take, NEW_ADDRESS, token)
        row = await run_in_threadpool(parts.accounts.row, data["account_id"]) if data else None
        if data is None or row is None or row["state"] != "active":
            raise LinkError
        fields = {"email": data["email"], "key": email_key(data["email"])}
        try:
            await run_in_threadpool(parts.accounts.change, row["_id"], fields)
        except EmailTakenError:
            raise LinkError from None
        # Links that were mailed to the old address must not open the account any more.
        await run_in_threadpool(parts.tickets.void, row["_id"])
        await self.changed(row, f"Your e-mail address is now {data['email']}.", visit, noted="address changed")

    # --- second factors -----------------------------------------------------------------------------------------

    async def begin_totp(self, account_id: str) -> str:
        """A new secret, kept sealed beside the account until a first code proves that the app has it.

        A page that is loaded twice shows the same one.
        """
        row = await run_in_threadpool(self._parts.accounts.row, account_id)
        if row and row.get("totp_new"):
            return self._parts.vault.opened(row["totp_new"])
        secret = totp.new_secret()
        sealed = self._parts.vault.sealed(secret)
        await run_in_threadpool(self._parts.accounts.change, account_id, {"totp_new": sealed})
        return secret

    async def confirm_totp(self, account_id: str, code: str, visit: Visit) -> list[str] | None:
        """Put the authenticator app in force; new recovery codes, or None when the code is wrong."""
        parts = self._parts
        row = await run_in_threadpool(parts.accounts.row, account_id)
        if row is None or not row.get("totp_new"):
            return None
        step = totp.step_of(parts.vault.opened(row["totp_new"]), code, 0)
        if step is None:
            return None
        codes, digests = recovery_codes.new_codes()
        changed = await run_in_threadpool(
            lambda: parts.accounts.change(
                account_id,
                {
                    "totp": {"secret": row["totp_new"], "last_step": step, "since": now()},
                    "recovery_codes": digests,
                },
                where={"totp_new": row["totp_new"]},
                unset=("totp_new",),
            )
        )
        if changed is None:
            return None
        await self.changed(changed, "An authenticator app was added to your account.", visit)
        return codes

    async def drop_totp(self, account_id: str, visit: Visit) -> None:
        row = await run_in_threadpool(
            lambda: self._parts.accounts.change(account_id, where={"totp": {"$exists": True}}, unset=("totp",))
        )
        if row is not None:
            await self.changed(row, "The authenticator app was removed from your account.", visit)

    async def new_recovery_codes(self, account_id: str, visit: Visit) -> list[str]:
        """Fresh codes; the earlier ones are void."""
        codes, digests = recovery_codes.new_codes()
        await run_in_threadpool(self._parts.accounts.change, account_id, {"recovery_codes": digests})
        await self._parts.note("account", "new recovery codes", visit, account_id=account_id)
        return codes

    # --- after every change -------------------------------------------------------------------------------------

    async def changed(self, row: Row, what: str, visit: Visit, *, noted: str = "") -> None:
        """Credentials have changed: all sessions and everything allowed so far end, and the owner is told.

        Whoever made the change in a browser gets a new session after this.

        Args:
            what: what the owner is told
            noted: what the trail is told, where that is not the same
        """
        parts, account_id = self._parts, row["_id"]
        await run_in_threadpool(parts.accounts.change, account_id, {"credentials_changed_at": now()})
        await run_in_threadpool(parts.sessions.end_all, account_id)
        await parts.credentials_changed(account_id)
        await parts.note("account", noted or what, visit, account_id=account_id, fhir_user=row.get("fhir_user"))
        await self._registrar.posted(parts.letters.changed(row["email"], row["name"], what), visit, account_id)
