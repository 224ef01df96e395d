"""Secrets that are handed out once and presented once: links in mails, sign-ins half done, challenges.

The database holds a digest, so whoever reads it can present nothing. A ticket ends by being taken (one atomic command:
of two who come at once, one gets it), or by its time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from smart_auth.accounts import now
from smart_auth.store import AuthStore, Row, index_on

ROWS = "tickets"
SECRET_BYTES = 32


def digest_of(secret: str) -> str:
    """What is stored of a secret with 128 bits of chance or more; such need no salt."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class Tickets:
    """The tickets that are out. Blocking: call it from worker threads."""

    def __init__(self, store: AuthStore, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._rows = store.rows(ROWS)
        self._now = clock

    def ensure(self) -> None:
        self._store.ensure(ROWS, [index_on("expires_at", expires=True), index_on("data.account_id", "kind")])

    def issue(self, kind: str, data: dict[str, Any], lasts: timedelta) -> str:
        """A new ticket's secret."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        self._rows.insert_one({"_id": digest_of(secret), "kind": kind, "data": data, "expires_at": self._now() + lasts})
        return secret

    def seen(self, kind: str, secret: str) -> dict[str, Any] | None:
        """What a ticket is about, without using it up; None when there is none, or no longer."""
        return self._data(self._rows.find_one(self._good(kind, secret)))

    def take(self, kind: str, secret: str) -> dict[str, Any] | None:
        """Use a ticket up; None when it was used before, has expired, or never was."""
        return self._data(self._rows.find_one_and_delete(self._good(kind, secret)))

    def put_back(self, kind: str, secret: str, data: dict[str, Any], lasts: timedelta) -> None:
        """Make a taken ticket good again, since what it was taken for failed through no fault of its bearer."""
        self._rows.insert_one({"_id": digest_of(secret), "kind": kind, "data": data, "expires_at": self._now() + lasts})

    def void(self, account_id: str, *kinds: str) -> None:
        """End the tickets of an account; all kinds when none is named."""
        query: Row = {"data.account_id": account_id}
        if kinds:
            query["kind"] = {"$in": list(kinds)}
        self._rows.delete_many(query)

    def _good(self, kind: str, secret: str) -> Row:
        return {"_id": digest_of(secret), "kind": kind, "expires_at": {"$gt": self._now()}}

    @staticmethod
    def _data(row: Row | None) -> dict[str, Any] | None:
        return None if row is None else dict(row["data"])
