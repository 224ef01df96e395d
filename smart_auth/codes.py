"""Authorization codes: good for a minute, for one client, one redirect URI, one proof, and once.

Spec: RFC 6749 section 4.1.2, RFC 9700 section 2.1
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pymongo import IndexModel

from smart_auth.model import Authorization
from smart_auth.rows import digest_of, new_secret, now, object_of, row_of
from smart_auth.store import AuthStore

CODES: Final = "codes"

#: How long a used code is remembered, so that a second use is known as one.
REMEMBERED: Final = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Code:
    """One code; Authlib reads it by its methods.

    Attributes:
        id: digest of the code
        grant: the authorization that it becomes when it is redeemed
    """

    id: str
    client_id: str
    redirect_uri: str
    code_challenge: str
    grant: Authorization
    expires_at: datetime
    used_at: datetime | None = None

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.grant.scope


class Codes:
    """The collection of codes."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store

    def open(self) -> None:
        self._store.ensure(CODES, [IndexModel("forget_at", expireAfterSeconds=0)])

    def make(self, grant: Authorization, redirect_uri: str, code_challenge: str, lasts_s: int) -> str:
        """A new code for an authorization."""
        text, moment = new_secret(), now()
        expires_at = moment + timedelta(seconds=lasts_s)
        code = Code(digest_of(text), grant.client_id, redirect_uri, code_challenge, grant, expires_at)
        self._store.rows(CODES).insert_one({**row_of(code, "id"), "forget_at": moment + REMEMBERED})
        return text

    def find(self, text: str, client_id: str) -> Code | None:
        """The code, used or not; None when there is none for this client, or its time is over."""
        row = self._store.rows(CODES).find_one({"_id": digest_of(text), "client_id": client_id})
        if row is None:
            return None
        code = object_of(Code, row, "id")
        return code if code.used_at is not None or code.expires_at > now() else None

    def claim(self, code: Code) -> bool:
        """Use the code up; False when it was used before. Of two at once one gets it."""
        done = self._store.rows(CODES).update_one({"_id": code.id, "used_at": None}, {"$set": {"used_at": now()}})
        return done.modified_count == 1
