"""Signing in: what somebody knows, then what they have, then a session.

A refusal never tells whether there is such an account: an unknown address costs the same work and gets the same words.
What else stands in the way (not verified yet, disabled) is told only to whoever has proven to be the person.

Spec: https://pages.nist.gov/800-63-4/sp800-63b.html, RFC 8176 (names of methods)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.concurrency import run_in_threadpool

from smart_auth import recovery_codes, totp
from smart_auth.accounts import LONGEST_EMAIL, account_of, email_key, has_second_factor, now
from smart_auth.model import Account, Session
from smart_auth.parts import REFUSED, Parts, Visit
from smart_auth.store import Row
from smart_auth.throttle import PER_ACCOUNT, PER_ADDRESS

STEP = "sign-in-step"

Refusal = Literal["wrong", "pending", "disabled", "expired", "wrong-code", "wrong-passkey", "not-linked"]

WORDS: dict[Refusal, str] = {
    "wrong": "The e-mail address or the password is wrong.",
    "pending": "Your application is still being looked at. We write to you as soon as it is decided.",
    "disabled": "This account is disabled. Ask whoever runs this server.",
    "expired": "That took too long. Sign in again.",
    "wrong-code": "The code is wrong, or was used already. Wait for the next one.",
    "wrong-passkey": "This passkey opens no account here.",
    "not-linked": "No account is linked with this identity. Sign in, then link it on your account page.",
}


class RefusedError(Exception):
    """Somebody may not sign in."""

    def __init__(self, why: Refusal) -> None:
        self.why = why
        super().__init__(WORDS[why])


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session, the secret for its cookie, and recovery codes when this sign-in has made some."""

    session: Session
    secret: str
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OneMoreStep:
    """A second factor is asked for, or must be set up first; the ticket says who has come so far."""

    ticket: str
    set_up: bool


class SignIn:
    """The steps of signing in."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def with_password(
        self, email: str, password: str, visit: Visit, *, old_secret: str | None = None
    ) -> SignedIn | OneMoreStep:
        """The first step, and the last one where no second factor is.

        Raises:
            ThrottledError: too many attempts.
            RefusedError: wrong, or not now.
        """
        parts = self._parts
        row = await self.judged(await run_in_threadpool(parts.accounts.row_of_email, email), email, password, visit)
        return await self.proceed(row, ("pwd",), visit, old_secret=old_secret)

    async def judged(self, row: Row | None, email: str, password: str, visit: Visit) -> Row:
        """The account, when the password is its own.

        Raises:
            ThrottledError: too many attempts.
            RefusedError: it is not.
        """
        parts = self._parts
        # By the address and not by the account's id: attempts on unknown addresses must wait just the same.
        by_account = f"password:{email_key(email)[:LONGEST_EMAIL]}"
        by_address = f"address:{visit.address}"
        await run_in_threadpool(parts.throttle.attempt, by_address, PER_ADDRESS)
        await run_in_threadpool(parts.throttle.attempt, by_account, PER_ACCOUNT)
        stored = row.get("password") if row else None
        if not await parts.passwords.matches(stored, password) or row is None or stored is None:
            await parts.note(
                "sign-in-refused",
                "wrong password" if row else "no such account",
                visit,
                outcome=REFUSED,
                account_id=row["_id"] if row else "",
            )
            raise RefusedError("wrong")
        await run_in_threadpool(parts.throttle.forgive, by_account)
        await run_in_threadpool(parts.throttle.give_back, by_address)
        if parts.passwords.is_outdated(stored):
            anew = await parts.passwords.hash(password)
            # Unless it was changed in the meantime.
            await run_in_threadpool(parts.accounts.change, row["_id"], {"password": anew}, where={"password": stored})
        return row

    async def proceed(
        self, row: Row, methods: tuple[str, ...], visit: Visit, *, old_secret: str | None = None
    ) -> SignedIn | OneMoreStep:
        """Go on after a first proof."""
        await self.check_state(row, visit)
        must = row["role"] in self._parts.rules.second_factor_roles
        if has_second_factor(row) or must:
            ticket = await run_in_threadpool(
                self._parts.tickets.issue,
                STEP,
                {"account_id": row["_id"], "methods": list(methods), "password": _stamp(row)},
                self._parts.rules.step_lasts,
            )
            return OneMoreStep(ticket, set_up=not has_second_factor(row))
        return await self.finish(account_of(row), methods, visit, old_secret=old_secret)

    async def check_state(self, row: Row, visit: Visit) -> None:
        """
        Raises:
            RefusedError: the account is not active.
        """
        state = row["state"]
        if state == "active":
            return
        await self._parts.note("sign-in-refused", f"account is {state}", visit, outcome=REFUSED, account_id=row["_id"])
        raise RefusedError("pending" if state == "pending" else "disabled")

    async def waiting(self, ticket: str) -> tuple[Row, tuple[str, ...]]:
        """Whose second step a ticket is for, and what they have shown so far.

        Raises:
            RefusedError: there is no such ticket, or the account has changed since.
        """
        data = await run_in_threadpool(self._parts.tickets.seen, STEP, ticket)
        row = await run_in_threadpool(self._parts.accounts.row, data["account_id"]) if data else None
        if data is None or row is None or row["state"] != "active" or data["password"] != _stamp(row):
            raise RefusedError("expired")
        return row, tuple(data["methods"])

    async def with_code(self, ticket: str, code: str, visit: Visit, *, old_secret: str | None = None) -> SignedIn:
        """The second step: a code of the authenticator app, or a recovery code.

        Raises:
            ThrottledError, RefusedError
        """
        row, methods = await self.waiting(ticket)
        await self.code_used(row, code, visit)
        if await run_in_threadpool(self._parts.tickets.take, STEP, ticket) is None:
            raise RefusedError("expired")
        return await self.finish(account_of(row), (*methods, "otp", "mfa"), visit, old_secret=old_secret)

    async def code_used(self, row: Row, code: str, visit: Visit) -> None:
        """Use a code up.

        Raises:
            ThrottledError: too many attempts.
            RefusedError: the code is wrong or was used before.
        """
        parts = self._parts
        key = f"code:{row['_id']}"
        await run_in_threadpool(parts.throttle.attempt, key, PER_ACCOUNT)
        if await run_in_threadpool(self._totp_used, row, code):
            await run_in_threadpool(parts.throttle.forgive, key)
        elif await run_in_threadpool(self._recovery_used, row, code):
            await run_in_threadpool(parts.throttle.forgive, key)
            await parts.note("account", "recovery code used", visit, account_id=row["_id"])
        else:
            await parts.note("sign-in-refused", "wrong code", visit, outcome=REFUSED, account_id=row["_id"])
            raise RefusedError("wrong-code")

    async def finish(
        self,
        account: Account,
        methods: tuple[str, ...],
        visit: Visit,
        *,
        old_secret: str | None = None,
        codes: tuple[str, ...] = (),
    ) -> SignedIn:
        """Begin the session; the one that the browser had before ends."""
        session, secret = await run_in_threadpool(
            lambda: self._parts.sessions.begin(
                account, methods, address=visit.address, agent=visit.agent, replaces=old_secret
            )
        )
        await self._parts.note("sign-in", " ".join(methods), visit, account_id=account.id, fhir_user=account.fhir_user)
        return SignedIn(session, secret, codes)

    async def leave(self, session: Session, visit: Visit) -> None:
        await run_in_threadpool(self._parts.sessions.end, session.id, session.account.id)
        await self._parts.note(
            "sign-out", "signed out", visit, account_id=session.account.id, fhir_user=session.account.fhir_user
        )

    def _totp_used(self, row: Row, code: str) -> bool:
        known = row.get("totp")
        if not known:
            return False
        step = totp.step_of(self._parts.vault.opened(known["secret"]), code, known["last_step"])
        if step is None:
            return False
        # Whoever is second with the same code finds a later step there.
        where = {"totp.secret": known["secret"], "totp.last_step": {"$lt": step}}
        return self._parts.accounts.change(row["_id"], {"totp.last_step": step}, where=where) is not None

    def _recovery_used(self, row: Row, code: str) -> bool:
        digest = recovery_codes.digest_of_code(code)
        if digest is None:
            return False
        changed = self._parts.accounts.change(
            row["_id"], where={"recovery_codes": digest}, pull={"recovery_codes": digest}
        )
        return changed is not None


def _stamp(row: Row) -> str:
    """When the credentials changed last: a step that began before is worth nothing after."""
    changed = row.get("credentials_changed_at")
    return changed.isoformat() if changed else ""


def recently(session: Session, parts: Parts) -> bool:
    """Whether the person has proven who they are so lately that they may change how they do."""
    return now() - session.authenticated_at <= parts.rules.step_lasts
