"""What people have allowed apps: the authorizations from which codes, refresh tokens and access tokens come.

Ending one ends everything that comes from it: refresh tokens at once, access tokens as soon as every worker has heard.

Spec: RFC 6749 section 1.4, RFC 7009, https://hl7.org/fhir/smart-app-launch/STU2.2/best-practices.html
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from pymongo import IndexModel

from smart_auth import scopes
from smart_auth.model import Authorization
from smart_auth.revocations import Revocations
from smart_auth.rows import now, object_of, row_of
from smart_auth.store import AuthStore

GRANTS: Final = "grants"
REFRESH_TOKENS: Final = "refresh_tokens"


class Authorizations:
    """The collection of authorizations."""

    def __init__(self, store: AuthStore, revocations: Revocations) -> None:
        self._store = store
        self._revocations = revocations

    def open(self) -> None:
        self._store.ensure(
            GRANTS,
            [IndexModel([("account_id", 1), ("client_id", 1)]), IndexModel("client_id"), IndexModel("session_id")],
        )

    def add(self, authorization: Authorization) -> None:
        """Store one; if it was revoked before it was there (a code that came twice at once), it begins revoked."""
        self._store.rows(GRANTS).insert_one(row_of(authorization, "id"))
        if self._revocations.stored("grant", authorization.id):
            self._store.rows(GRANTS).update_one({"_id": authorization.id}, {"$set": {"revoked_at": now()}})

    def get(self, grant_id: str) -> Authorization | None:
        """One authorization, ended or not."""
        row = self._store.rows(GRANTS).find_one({"_id": grant_id})
        return None if row is None else object_of(Authorization, row, "id")

    def of(self, *, account_id: str | None = None, client_id: str | None = None) -> list[Authorization]:
        """The authorizations in force of an account, of a client, or of both; the latest first."""
        moment = now()
        query: dict[str, Any] = {
            "revoked_at": None,
            "$or": [{"expires_at": None}, {"expires_at": {"$gt": moment}}],
        }
        if account_id is not None:
            query["account_id"] = account_id
        if client_id is not None:
            query["client_id"] = client_id
        found = self._store.rows(GRANTS).find(query).sort("created_at", -1).limit(1000)
        return [object_of(Authorization, row, "id") for row in found]

    def remembered(self, account_id: str, client_id: str, scope: str) -> Authorization | None:
        """An authorization in force that the person wanted to be remembered, and that allows all of `scope`."""
        for there in self.of(account_id=account_id, client_id=client_id):
            if there.remember and scopes.within(scope, there.scope):
                return there
        return None

    def used(self, grant_id: str) -> None:
        self._store.rows(GRANTS).update_one({"_id": grant_id}, {"$set": {"last_used_at": now()}})

    def revoke(self, grant_id: str) -> bool:
        """End one; whether it was in force.

        The revocation is stored first, and even where there is no row, since one may be on its way (see `add`).
        """
        self._revocations.revoke("grant", grant_id)
        ended = self._store.rows(GRANTS).update_one(
            {"_id": grant_id, "revoked_at": None}, {"$set": {"revoked_at": now()}}
        )
        return ended.modified_count == 1

    def revoke_account(self, account_id: str, before: datetime | None = None) -> int:
        """End all that an account has allowed: it was disabled, or has new credentials. How many there were."""
        ended = self._store.rows(GRANTS).update_many(
            {"account_id": account_id, "revoked_at": None}, {"$set": {"revoked_at": now()}}
        )
        self._revocations.revoke("account", account_id, before)
        return ended.modified_count

    def revoke_client(self, client_id: str) -> int:
        """End all that anybody has allowed a client, and its own tokens. How many authorizations there were."""
        ended = self._store.rows(GRANTS).update_many(
            {"client_id": client_id, "revoked_at": None}, {"$set": {"revoked_at": now()}}
        )
        self._revocations.revoke("client", client_id)
        return ended.modified_count

    def end_session(self, session_id: str) -> int:
        """Somebody signed out: end what was to last only while they were signed in. How many there were.

        An authorization without `offline_access` is one of those; without `online_access` too it has no refresh token,
        and what is left of it is an access token.
        """
        ended = 0
        for row in self._store.rows(GRANTS).find({"session_id": session_id, "revoked_at": None}):
            if not scopes.has(row["scope"], scopes.OFFLINE):
                ended += self.revoke(row["_id"])
        return ended
