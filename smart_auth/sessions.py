"""Who is signed in, by a cookie: `auth_sessions`.

The cookie holds a secret of its own, of which the database has a digest. A session ends by signing out, by its owner's
"sign out everywhere", by changed credentials, by an hour or so without use, and at the latest after some hours. It gets
a new id and a new secret whenever the person proves anew who they are, so that a cookie planted before is worth
nothing.

Spec: https://cheatsheetseries.owasp.org/cheatsheets/Session_Management_Cheat_Sheet.html, RFC 6265bis section 4.1.3.2
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from fhir_server.model.clock import new_id
from smart_auth.accounts import Accounts, account_of, now
from smart_auth.model import Account, Session
from smart_auth.store import AuthStore, Row, index_on
from smart_auth.tickets import SECRET_BYTES, digest_of

ROWS = "sessions"
#: `seen_at` is written at most this often: a page view should not cost a write.
SEEN_EVERY = timedelta(minutes=1)
LONGEST_AGENT = 200


#: Told the id of a session that was ended by somebody, from a worker thread.
SessionEnded = Callable[[str], None]


def nothing_ends(_: str) -> None:
    """Where no app has anything that lasts as long as a session."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """One row of the list on the account page."""

    id: str
    since: datetime
    seen_at: datetime
    address: str
    agent: str
    methods: tuple[str, ...]


class BrowserSessions:
    """Fills the port `Sessions`, and begins and ends sessions."""

    def __init__(
        self,
        store: AuthStore,
        accounts: Accounts,
        *,
        secure: bool,
        idle: timedelta = timedelta(hours=1),
        lasts: timedelta = timedelta(hours=12),
        clock: Callable[[], datetime] = now,
        ended: SessionEnded = nothing_ends,
    ) -> None:
        """
        Args:
            ended: told of each session that somebody ends; blocking
            secure: whether people reach the server by https; the cookie is then bound to this very host by its name
            idle: a session ends when it was not used for so long
            lasts: and so long after it began in any case
        """
        self._store = store
        self._rows = store.rows(ROWS)
        self._accounts = accounts
        self._secure = secure
        self._idle, self._lasts = idle, lasts
        self._now = clock
        self._ended = ended
        self.cookie = cookie_name("session", secure)

    def ensure(self) -> None:
        self._store.ensure(
            ROWS,
            [index_on("digest", unique=True), index_on("account_id"), index_on("expires_at", expires=True)],
        )

    async def current(self, request: Request) -> Session | None:
        secret = request.cookies.get(self.cookie)
        return await run_in_threadpool(self._session_of, secret) if secret else None

    async def account(self, account_id: str) -> Account | None:
        row = await run_in_threadpool(self._accounts.row, account_id)
        return account_of(row) if row else None

    async def alive(self, session_id: str) -> bool:
        return await run_in_threadpool(self._good, {"_id": session_id}) is not None

    def _session_of(self, secret: str) -> Session | None:
        found = self._good({"digest": digest_of(secret)})
        if found is None:
            return None
        row, account = found
        moment = self._now()
        if row["seen_at"] + SEEN_EVERY <= moment:
            self._rows.update_one({"_id": row["_id"]}, {"$set": {"seen_at": moment}})
        return Session(row["_id"], account, row["authenticated_at"], tuple(row["methods"]), row["csrf"])

    def _good(self, which: Row) -> tuple[Row, Account] | None:
        """A session that has not ended, and whose it is."""
        moment = self._now()
        row = self._rows.find_one(which)
        if row is None or row["expires_at"] <= moment or row["seen_at"] + self._idle <= moment:
            return None
        account_row = self._accounts.row(row["account_id"])
        if account_row is None or account_row["state"] != "active":
            return None
        account = account_of(account_row)
        if account.credentials_changed_at and row["created_at"] < account.credentials_changed_at:
            return None
        return row, account

    # --- begin and end; blocking --------------------------------------------------------------------------------

    def begin(
        self,
        account: Account,
        methods: tuple[str, ...],
        *,
        address: str,
        agent: str,
        replaces: str | None = None,
        authenticated_at: datetime | None = None,
    ) -> tuple[Session, str]:
        """A new session, and the secret for its cookie.

        Args:
            replaces: the secret of the cookie that the browser had; that session ends
            authenticated_at: when the person proved who they are, if that was before now
        """
        moment = self._now()
        authenticated_at = authenticated_at or moment
        secret = secrets.token_urlsafe(SECRET_BYTES)
        row: Row = {
            "_id": new_id(),
            "digest": digest_of(secret),
            "account_id": account.id,
            "csrf": secrets.token_urlsafe(SECRET_BYTES),
            "methods": list(methods),
            "created_at": moment,
            "authenticated_at": authenticated_at,
            "seen_at": moment,
            "expires_at": moment + self._lasts,
            "address": address,
            "agent": agent[:LONGEST_AGENT],
        }
        self._rows.insert_one(row)
        if replaces:
            self._rows.delete_one({"digest": digest_of(replaces)})
        return Session(row["_id"], account, authenticated_at, methods, row["csrf"]), secret

    def end(self, session_id: str, account_id: str) -> bool:
        """End one session of an account; whether there was one."""
        which = {"_id": session_id, "account_id": account_id}
        if self._rows.find_one(which, {"_id": 1}) is None:
            return False
        self._ended(session_id)  # first: were it to fail after, nobody would do it again
        return self._rows.delete_one(which).deleted_count == 1

    def end_all(self, account_id: str, *, but: str = "") -> int:
        """End the sessions of an account, one left out; how many there were."""
        which = {"account_id": account_id, "_id": {"$ne": but}}
        for row in self._rows.find(which, {"_id": 1}):
            self._ended(row["_id"])
        return self._rows.delete_many(which).deleted_count

    def count(self, account_id: str) -> int:
        """How many sessions an account has."""
        return self._rows.count_documents({"account_id": account_id})

    def open_of(self, account_id: str) -> list[OpenSession]:
        """The good sessions of an account, the last used first."""
        moment = self._now()
        query = {"account_id": account_id, "expires_at": {"$gt": moment}, "seen_at": {"$gt": moment - self._idle}}
        return [
            OpenSession(
                row["_id"], row["created_at"], row["seen_at"], row["address"], row["agent"], tuple(row["methods"])
            )
            for row in self._rows.find(query).sort("seen_at", -1).limit(100)
        ]

    # --- cookies ------------------------------------------------------------------------------------------------

    def secret_of(self, request: Request) -> str | None:
        return request.cookies.get(self.cookie)

    def give(self, response: Response, secret: str) -> None:
        set_cookie(response, self.cookie, secret, secure=self._secure)

    def forget(self, response: Response) -> None:
        drop_cookie(response, self.cookie, secure=self._secure)


def cookie_name(purpose: str, secure: bool) -> str:
    """By the prefix, browsers refuse such a cookie from another host or from plain HTTP."""
    return f"__Host-hs-{purpose}" if secure else f"hs-{purpose}"


def set_cookie(response: Response, name: str, value: str, *, secure: bool, max_age: timedelta | None = None) -> None:
    """Without `max_age` the cookie goes with the browser's window."""
    seconds = None if max_age is None else int(max_age.total_seconds())
    response.set_cookie(name, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")


def drop_cookie(response: Response, name: str, *, secure: bool) -> None:
    response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="lax")
