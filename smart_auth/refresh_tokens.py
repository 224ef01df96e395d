"""Refresh tokens: each is good once and gives the next; an old one that comes back ends the whole family.

An app whose answer was lost on the way may send the same token again for some seconds, as long as it has not used the
one that it should have got: that one is then taken back, so that there is never more than one good token. Whoever
copied a token meets the same rule: as soon as both of them have refreshed, the older token comes back, and the family
ends.

Spec: RFC 9700 section 4.14
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import IndexModel

from smart_auth.authorizations import REFRESH_TOKENS
from smart_auth.client_auth import OAuthClient
from smart_auth.model import Authorization
from smart_auth.rows import digest_of, new_secret, now, object_of, row_of
from smart_auth.store import AuthStore


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token; Authlib reads it by its methods.

    Attributes:
        id: digest of the token
        used_at: when it gave the next one
        next: digest of the next one
        taken_back: whether it was given in an answer that the app has not got
    """

    id: str
    grant_id: str
    client_id: str
    scope: str
    issued_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    next: str = ""
    taken_back: bool = False

    def check_client(self, client: OAuthClient) -> bool:
        return client.get_client_id() == self.client_id

    def get_scope(self) -> str:
        return self.scope


class RefreshTokens:
    """The collection of refresh tokens."""

    def __init__(self, store: AuthStore, grace_s: int) -> None:
        self._store = store
        self._grace = timedelta(seconds=grace_s)

    def open(self) -> None:
        self._store.ensure(REFRESH_TOKENS, [IndexModel("expires_at", expireAfterSeconds=0), IndexModel("grant_id")])

    def make(self, grant: Authorization, expires_at: datetime) -> str:
        """A new refresh token of an authorization."""
        text = new_secret()
        token = RefreshToken(digest_of(text), grant.id, grant.client_id, grant.scope, now(), expires_at)
        self._store.rows(REFRESH_TOKENS).insert_one(row_of(token, "id"))
        return text

    def find(self, text: str) -> RefreshToken | None:
        """The token, used or not; None when there is none, or its time is over."""
        row = self._store.rows(REFRESH_TOKENS).find_one({"_id": digest_of(text)})
        if row is None:
            return None
        token = object_of(RefreshToken, row, "id")
        return token if token.expires_at > now() else None

    def replace(self, token: RefreshToken) -> str | None:
        """Use a token up and give the next one; None when it was used before, and this is no repeated request."""
        rows, moment, text = self._store.rows(REFRESH_TOKENS), now(), new_secret()
        following = RefreshToken(
            digest_of(text), token.grant_id, token.client_id, token.scope, moment, token.expires_at
        )
        # The next one is stored first: a crash between the two leaves a token that nobody has, and no broken family.
        rows.insert_one(row_of(following, "id"))
        used = rows.update_one({"_id": token.id, "used_at": None}, {"$set": {"used_at": moment, "next": following.id}})
        if used.modified_count == 1 or self._repeated(token.id, following.id, moment):
            return text
        rows.delete_one({"_id": following.id})
        return None

    def _repeated(self, token_id: str, following_id: str, moment: datetime) -> bool:
        """Whether a used token may be sent once more: a moment ago it was good, and its successor is unused."""
        rows = self._store.rows(REFRESH_TOKENS)
        row = rows.find_one({"_id": token_id})
        if row is None or row["taken_back"] or row["used_at"] + self._grace < moment:
            return False
        taken = rows.update_one(
            {"_id": row["next"], "used_at": None}, {"$set": {"used_at": moment, "taken_back": True}}
        )
        if taken.modified_count != 1:
            return False
        linked = rows.update_one({"_id": token_id, "next": row["next"]}, {"$set": {"next": following_id}})
        return linked.modified_count == 1
