"""The rows of accounts, `auth_accounts`: who can sign in, with what, and whose resource they are.

An e-mail address names one account, whatever its case. Every change is one atomic update that says what must be true
before it, so that two workers cannot use one code twice. Blocking: call it from worker threads.

    _id, email, key (the address without case), name, role, state, fhir_user, organization, patients, created_at,
    credentials_changed_at, password (argon2id), totp {secret, last_step, since}, totp_new, recovery_codes [digest],
    outside [{provider, subject, email, since}], passkeys (how many), application, verification
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from fhir_server.model.access import Role
from fhir_server.model.clock import new_id
from smart_auth.model import Account, AccountState
from smart_auth.store import AuthStore, Duplicate, Row, index_on

ROWS = "accounts"
ROLES: tuple[Role, ...] = get_args(Role)
STATES: tuple[AccountState, ...] = get_args(AccountState)
#: Roles of people; `system` and `operator` belong to programs.
HUMAN_ROLES: tuple[Role, ...] = tuple(role for role in ROLES if role not in ("system", "operator"))

#: For how many patients one account acts at most: each of its access tokens names them.
MOST_PATIENTS = 50

LONGEST_EMAIL = 254
LONGEST_NAME = 120
# Deliberately loose: whether an address works is proven by a mail to it.
_EMAIL = re.compile(
    r"[^\s@<>\"(),:;\\\[\]]{1,64}@[^\s@<>\"(),:;\\\[\]]+\.[^\s@<>\"(),:;\\\[\].]{2,}|[^\s@<>]+@localhost"
)


class EmailTakenError(Exception):
    """Another account has this e-mail address."""


class IdentityTakenError(Exception):
    """Another account is linked with this identity at an outside provider."""


def now() -> datetime:
    """The moment, as MongoDB keeps it: whole milliseconds, UTC."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def email_of(text: str) -> str | None:
    """An e-mail address as it is kept; None when it is none."""
    email = unicodedata.normalize("NFC", text.strip())
    return email if len(email) <= LONGEST_EMAIL and _EMAIL.fullmatch(email) else None


def email_key(email: str) -> str:
    """By what addresses are compared."""
    return unicodedata.normalize("NFKC", email.strip()).casefold()


def account_of(row: Row) -> Account:
    return Account(
        id=row["_id"],
        email=row["email"],
        name=row["name"],
        role=row["role"],
        state=row["state"],
        fhir_user=row.get("fhir_user"),
        organization=row.get("organization"),
        patients=tuple(row.get("patients", ())),
        created_at=row.get("created_at"),
        credentials_changed_at=row.get("credentials_changed_at"),
    )


def has_second_factor(row: Row) -> bool:
    """Whether a password alone does not open this account."""
    return bool(row.get("totp") or row.get("passkeys"))


class Accounts:
    """The accounts of this server."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store
        self._rows = store.rows(ROWS)

    def ensure(self) -> None:
        self._store.ensure(
            ROWS,
            [
                index_on("key", unique=True),
                index_on("outside.provider", "outside.subject", unique=True, where={"outside": {"$exists": True}}),
                index_on("fhir_user"),
                index_on("patients"),
                index_on("state", "role"),
            ],
        )

    def add(
        self,
        *,
        email: str,
        name: str,
        role: Role,
        state: AccountState,
        fhir_user: str | None = None,
        organization: str | None = None,
        patients: Sequence[str] = (),
        **more: Any,
    ) -> Row:
        """A new account.

        Raises:
            EmailTakenError: the address has one.
        """
        row: Row = {
            "_id": new_id(),
            "email": email,
            "key": email_key(email),
            "name": name,
            "role": role,
            "state": state,
            "fhir_user": fhir_user,
            "organization": organization,
            "patients": list(patients),
            "created_at": now(),
            **more,
        }
        try:
            self._rows.insert_one(row)
        except Duplicate:
            raise EmailTakenError from None
        return row

    def row(self, account_id: str) -> Row | None:
        return self._rows.find_one({"_id": account_id})

    def row_of_email(self, email: str) -> Row | None:
        return self._rows.find_one({"key": email_key(email)})

    def row_of_user(self, fhir_user: str) -> Row | None:
        """The account of a resource: the one that has applied with it, where there are several."""
        rows = list(self._rows.find({"fhir_user": fhir_user}).sort("created_at", 1).limit(50))
        return next((row for row in rows if "verification" in row), rows[0] if rows else None)

    def row_of_outside(self, provider: str, subject: str) -> Row | None:
        return self._rows.find_one({"outside": {"$elemMatch": {"provider": provider, "subject": subject}}})

    def proxies_of(self, patient: str) -> list[Row]:
        """The accounts of people who may act for a patient."""
        return list(self._rows.find({"patients": patient}).sort("created_at", 1).limit(50))

    def change(
        self,
        account_id: str,
        fields: Row | None = None,
        *,
        where: Row | None = None,
        unset: Sequence[str] = (),
        **operators: Row,
    ) -> Row | None:
        """Change fields of an account, if it is as `where` says; the new row, or None when it is not so.

        Args:
            operators: further update operators without their dollar: `push={"outside": …}`

        Raises:
            EmailTakenError: the new address belongs to another account.
            IdentityTakenError: the new outside identity belongs to another account.
        """
        update: Row = {f"${name}": value for name, value in operators.items()}
        if fields:
            update["$set"] = fields
        if unset:
            update["$unset"] = dict.fromkeys(unset, "")
        try:
            return self._rows.find_one_and_update({"_id": account_id, **(where or {})}, update, return_document=True)
        except Duplicate:
            raise (EmailTakenError if fields and "key" in fields else IdentityTakenError) from None

    def rows_of_users(self, references: Sequence[str]) -> list[Row]:
        """The accounts whose own resource is one of these."""
        return list(self._rows.find({"fhir_user": {"$in": list(references)}}).sort("_id", 1))

    def remove(self, account_id: str) -> None:
        """Remove an account for good: its record was erased."""
        self._rows.delete_one({"_id": account_id})

    def remove_unproven(self, account_id: str) -> bool:
        """Take back an invitation: the account goes if nobody has taken it up."""
        return self._rows.delete_one({"_id": account_id, "state": "unverified"}).deleted_count == 1

    def search(self, *, text: str = "", role: str = "", state: str = "", after: str = "", limit: int = 50) -> list[Row]:
        """Accounts whose name or address begins with the text (any word of the name), in the order of their ids."""
        query: Row = {}
        if text.strip():
            pattern = re.escape(text.strip())
            query["$or"] = [
                {"key": {"$regex": f"^{re.escape(email_key(text))}"}},
                {"name": {"$regex": rf"(^|\s){pattern}", "$options": "i"}},
            ]
        if role:
            query["role"] = role
        if state:
            query["state"] = state
        if after:
            query["_id"] = {"$gt": after}
        return list(self._rows.find(query).sort("_id", 1).limit(limit))

    def count(self, role: Role, state: AccountState = "active") -> int:
        return self._rows.count_documents({"role": role, "state": state})
