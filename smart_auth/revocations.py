"""What is no longer good although it is signed and has not ended: known to every worker within half a second.

Access tokens are checked without the database, so a revocation has to travel. It is a row; each worker reads the rows
that are new, several times a second, and keeps what they say in memory until no token of that age can be good any more.

Spec: RFC 7009 section 2.1, RFC 9068 section 5
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal

import structlog
from pymongo import IndexModel
from pymongo.errors import PyMongoError

from smart_auth.keys import LONGEST_TOKEN_S
from smart_auth.rows import now
from smart_auth.store import AuthStore, Row

REVOCATIONS: Final = "revocations"

Kind = Literal["grant", "token", "account", "client"]

#: How often each worker looks; half a second is kept with room to spare.
POLL_S: Final = 0.4

#: Rows may become visible in another order than they were made: each look goes back this far.
OVERLAP: Final = timedelta(seconds=10)

log = structlog.get_logger("auth")


class Revocations:
    """What this worker knows to be revoked; `watch` keeps it up to date."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store
        self._seen: datetime | None = None
        # Each by name: the moment (milliseconds since 1970) before which tokens are no longer good, and when to forget.
        self._before_ms: dict[Kind, dict[str, float]] = {"grant": {}, "token": {}, "account": {}, "client": {}}
        self._forget_at: dict[tuple[Kind, str], datetime] = {}

    def open(self) -> None:
        """Read what is there."""
        self._store.ensure(REVOCATIONS, [IndexModel("at"), IndexModel("ends_at", expireAfterSeconds=0)])
        self.refresh()

    def revoke(self, kind: Kind, name: str, before: datetime | None = None) -> None:
        """End all access tokens of a grant, an account or a client that were made until now, or one by its id."""
        moment = before or now()
        row = {
            "kind": kind,
            "name": name,
            "before_ms": moment.timestamp() * 1000,
            "ends_at": now() + timedelta(seconds=LONGEST_TOKEN_S + 300),
        }
        # The database's clock orders the rows, whichever worker wrote them.
        self._store.rows(REVOCATIONS).update_one(
            {"_id": f"{kind}:{name}"}, {"$set": row, "$currentDate": {"at": True}}, upsert=True
        )
        self._take(row)

    def stored(self, kind: Kind, name: str) -> bool:
        """Whether there is a row, asked of the database."""
        return self._store.rows(REVOCATIONS).find_one({"_id": f"{kind}:{name}"}, {"_id": 1}) is not None

    def refresh(self) -> None:
        """Read the rows that have come since the last time."""
        since = {} if self._seen is None else {"at": {"$gte": self._seen - OVERLAP}}
        for row in self._store.rows(REVOCATIONS).find(since).sort("at", 1):
            self._take(row)
            self._seen = row["at"]

    def _take(self, row: Row) -> None:
        kind, name = row["kind"], row["name"]
        self._before_ms[kind][name] = max(row["before_ms"], self._before_ms[kind].get(name, 0.0))
        self._forget_at[kind, name] = row["ends_at"]

    def forget_old(self) -> None:
        """Let go of what no good token can meet any more."""
        moment = now()
        for kind, name in [key for key, at in self._forget_at.items() if at <= moment]:
            del self._forget_at[kind, name], self._before_ms[kind][name]

    def meets(self, grant_id: str, token_id: str, account_id: str, client_id: str, made_ms: int) -> bool:
        """Whether a token is revoked: four look-ups, no waiting."""
        before = self._before_ms
        return (
            grant_id in before["grant"]
            or token_id in before["token"]
            or made_ms <= before["account"].get(account_id, 0.0)
            or made_ms <= before["client"].get(client_id, 0.0)
        )

    async def watch(self, *more: Callable[[], object]) -> None:
        """Look again and again, until cancelled.

        Args:
            more: what else is to be refreshed at each look (the keys).
        """
        failing = False
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
                for refresh in more:
                    await asyncio.to_thread(refresh)
                failing = False
            except PyMongoError as error:
                # The database is away, and the resources with it: there is nothing to protect until it is back.
                if not failing:
                    log.warning("revocations cannot be read", error=type(error).__name__)
                failing = True
            self.forget_old()
