"""Passkeys: keys of devices, in place of passwords. Several for each account, each with a name.

Signing in needs no address: the device knows which keys it has for this server ("discoverable"), and asks for a finger,
a face or a PIN ("user verification"), so a passkey is two factors in one.

Spec: https://www.w3.org/TR/webauthn-3/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import webauthn
from starlette.concurrency import run_in_threadpool
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url, options_to_json
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from smart_auth.accounts import now
from smart_auth.credentials import Credentials
from smart_auth.model import Account
from smart_auth.parts import REFUSED, Parts, Visit
from smart_auth.signing_in import RefusedError
from smart_auth.store import AuthStore, Duplicate, Row, index_on
from smart_auth.throttle import PER_ADDRESS

ROWS = "passkeys"
REGISTER, SIGN_IN = "passkey-register", "passkey-sign-in"
MOST = 20
LONGEST_NAME = 60


class PasskeyError(Exception):
    """A passkey cannot be registered; the text says why."""


@dataclass(frozen=True, slots=True)
class Passkey:
    """One row of the list on the account page."""

    id: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    synced: bool


class Passkeys:
    """The passkeys of all accounts."""

    def __init__(self, store: AuthStore, parts: Parts, credentials: Credentials, *, host: str, origin: str) -> None:
        """
        Args:
            host: the "relying party id"; keys are bound to it
            origin: where the pages are that may use them
        """
        self._store = store
        self._rows = store.rows(ROWS)
        self._parts = parts
        self._credentials = credentials
        self.host = host
        self._origin = origin

    def ensure(self) -> None:
        self._store.ensure(ROWS, [index_on("account_id")])

    def usable_at(self, host: str | None) -> bool:
        """Whether a page that a browser has from this host can use passkeys.

        Behind a proxy the host of a request may be an inner name; what people see is the public one.
        """
        return self.host in (host, self._parts.host)

    async def of(self, account_id: str) -> list[Passkey]:
        return [
            Passkey(row["_id"], row["name"], row["created_at"], row.get("last_used_at"), row["synced"])
            for row in await run_in_threadpool(self._rows_of, account_id)
        ]

    # --- registration -------------------------------------------------------------------------------------------

    async def registration_options(self, account: Account) -> dict[str, Any]:
        """What the browser needs to make a key; the answer carries `ticket` back."""
        known = await run_in_threadpool(self._rows_of, account.id)
        options = webauthn.generate_registration_options(
            rp_id=self.host,
            rp_name=self._parts.rules.product,
            user_id=account.id.encode(),
            user_name=account.email,
            user_display_name=account.name,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[_descriptor(row) for row in known],
        )
        data = {"account_id": account.id, "challenge": bytes_to_base64url(options.challenge)}
        return await self._with_ticket(REGISTER, data, options_to_json(options))

    async def register(self, account: Account, ticket: str, answer: dict[str, Any], name: str, visit: Visit) -> None:
        """Keep a new key.

        Raises:
            PasskeyError: it does not prove what it must.
        """
        data = await run_in_threadpool(self._parts.tickets.take, REGISTER, ticket)
        if data is None or data["account_id"] != account.id:
            raise PasskeyError("That took too long. Try again.")
        try:
            proven = webauthn.verify_registration_response(
                credential=answer,
                expected_challenge=base64url_to_bytes(data["challenge"]),
                expected_rp_id=self.host,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError, TypeError):
            await self._parts.note("account", "passkey refused", visit, outcome=REFUSED, account_id=account.id)
            raise PasskeyError("The passkey does not prove what it must. Try again.") from None
        row: Row = {
            "_id": bytes_to_base64url(proven.credential_id),
            "account_id": account.id,
            "name": name.strip()[:LONGEST_NAME] or "Passkey",
            "public_key": proven.credential_public_key,
            "sign_count": proven.sign_count,
            "synced": proven.credential_backed_up,
            "transports": _transports(answer),
            "created_at": now(),
        }
        await run_in_threadpool(self._keep, row)
        changed = await run_in_threadpool(self._parts.accounts.row, account.id)
        if changed is not None:
            await self._credentials.changed(changed, f"The passkey “{row['name']}” was added to your account.", visit)

    def _keep(self, row: Row) -> None:
        # Counted first: an account with a key that is not counted would open to a password alone.
        kept = self._parts.accounts.change(
            row["account_id"],
            where={"$or": [{"passkeys": {"$lt": MOST}}, {"passkeys": {"$exists": False}}]},
            inc={"passkeys": 1},
        )
        if kept is None:
            raise PasskeyError(f"An account has at most {MOST} passkeys. Remove one first.")
        try:
            self._rows.insert_one(row)
        except Duplicate:
            self._parts.accounts.change(row["account_id"], inc={"passkeys": -1})
            raise PasskeyError("This passkey is registered already.") from None

    async def remove(self, account_id: str, passkey_id: str, visit: Visit) -> bool:
        """Take a key out; whether it was there."""
        gone = await run_in_threadpool(self._rows.find_one_and_delete, {"_id": passkey_id, "account_id": account_id})
        if gone is None:
            return False
        row = await run_in_threadpool(lambda: self._parts.accounts.change(account_id, inc={"passkeys": -1}))
        if row is not None:
            await self._credentials.changed(row, f"The passkey “{gone['name']}” was removed.", visit)
        return True

    def remove_all(self, account_id: str) -> None:
        """For an administrator who resets second factors. Blocking."""
        self._rows.delete_many({"account_id": account_id})
        self._parts.accounts.change(account_id, {"passkeys": 0})

    # --- signing in ---------------------------------------------------------------------------------------------

    async def sign_in_options(self) -> dict[str, Any]:
        """What the browser needs to ask for a key of any account."""
        options = webauthn.generate_authentication_options(
            rp_id=self.host, user_verification=UserVerificationRequirement.REQUIRED
        )
        data = {"challenge": bytes_to_base64url(options.challenge)}
        return await self._with_ticket(SIGN_IN, data, options_to_json(options))

    async def proven(self, ticket: str, answer: dict[str, Any], visit: Visit) -> tuple[Row, tuple[str, ...]]:
        """The account whose key has answered, and the methods that it counts as.

        Raises:
            ThrottledError: too many attempts from this address.
            RefusedError: the key is unknown, or does not prove what it must.
        """
        address = f"address:{visit.address}"
        await run_in_threadpool(self._parts.throttle.attempt, address, PER_ADDRESS)
        data = await run_in_threadpool(self._parts.tickets.take, SIGN_IN, ticket)
        if data is None:
            raise RefusedError("expired")
        key = await run_in_threadpool(self._rows.find_one, {"_id": str(answer.get("id", ""))})
        account = await run_in_threadpool(self._parts.accounts.row, key["account_id"]) if key else None
        if key is None or account is None:
            await self._parts.note("sign-in-refused", "unknown passkey", visit, outcome=REFUSED)
            raise RefusedError("wrong-passkey")
        try:
            _same_user(answer, account["_id"])
            proof = webauthn.verify_authentication_response(
                credential=answer,
                expected_challenge=base64url_to_bytes(data["challenge"]),
                expected_rp_id=self.host,
                expected_origin=self._origin,
                credential_public_key=key["public_key"],
                credential_current_sign_count=key["sign_count"],
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError, KeyError, TypeError):
            # A count that goes back is among the reasons: the key may have been copied.
            await self._parts.note(
                "sign-in-refused", "passkey does not prove it", visit, outcome=REFUSED, account_id=account["_id"]
            )
            raise RefusedError("wrong-passkey") from None
        fields = {"sign_count": proof.new_sign_count, "last_used_at": now(), "synced": proof.credential_backed_up}
        counted = await run_in_threadpool(
            self._rows.update_one, {"_id": key["_id"], "sign_count": key["sign_count"]}, {"$set": fields}
        )
        if counted.matched_count == 0:
            raise RefusedError("wrong-passkey")  # two answers at once with one count
        await run_in_threadpool(self._parts.throttle.give_back, address)
        single = proof.credential_device_type == CredentialDeviceType.SINGLE_DEVICE
        return account, ("hwk" if single else "swk", "user", "mfa")

    def _rows_of(self, account_id: str) -> list[Row]:
        return list(self._rows.find({"account_id": account_id}).sort("created_at", 1))

    async def _with_ticket(self, kind: str, data: dict[str, Any], options: str) -> dict[str, Any]:
        ticket = await run_in_threadpool(self._parts.tickets.issue, kind, data, self._parts.rules.step_lasts)
        return {"ticket": ticket, "options": json.loads(options)}


def _same_user(answer: dict[str, Any], account_id: str) -> None:
    """The key must say whose it is, and say the same as we do (WebAuthn, 7.2 step 6)."""
    if base64url_to_bytes(answer["response"]["userHandle"]) != account_id.encode():
        raise ValueError("another user's handle")


def _descriptor(row: Row) -> PublicKeyCredentialDescriptor:
    known = {transport.value for transport in AuthenticatorTransport}
    return PublicKeyCredentialDescriptor(
        id=base64url_to_bytes(row["_id"]),
        transports=[AuthenticatorTransport(name) for name in row["transports"] if name in known],
    )


def _transports(answer: dict[str, Any]) -> list[str]:
    """How the key can be reached, which the browser tells; only words of the standard."""
    told = answer.get("response", {}).get("transports") or []
    known = {transport.value for transport in AuthenticatorTransport}
    return [name for name in told if name in known] if isinstance(told, list) else []
