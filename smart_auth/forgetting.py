"""Forgets people whose records were erased: no row of the sign-in side names them, or what they had, any more.

Rows that are revoked or used up are rows all the same: whom an account had let in, when, and about which patient. Two
things stay. Revocations name what was revoked by its id until no access token of that age can be good any more, since
such tokens are checked without the database; then they go by themselves. And the audit trail.

Blocking: call it from worker threads. All of it can be done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smart_auth import accounts, app_state, authorizations, codes, flow, launches, mail, sessions, throttle, tickets
from smart_auth import passkeys as keys
from smart_auth.accounts import email_key
from smart_auth.store import AuthStore, Row

#: Where contexts of launches name somebody.
_CONTEXT: Final = ("patient", "encounter", "fhir_context.reference")


class Forgetting:
    """Removes the rows of accounts that have ended, and those that name people whose records went."""

    def __init__(self, store: AuthStore) -> None:
        self._store = store

    def address(self, email: str) -> None:
        """What goes by the address of an account: attempts, links that were asked for, mails that lie here."""
        attempts = [f"mail:{email.casefold()}", f"password:{email_key(email)}"]
        self._remove(throttle.ROWS, {"_id": {"$in": attempts}})
        self._remove(tickets.ROWS, {"data.email": email})
        self._remove(mail.ROWS, {"to": email})

    def accounts(self, ids: Sequence[str]) -> None:
        """What accounts had, and what others have of them; not the accounts themselves."""
        of = {"account_id": {"$in": list(ids)}}
        self._remove(sessions.ROWS, of)
        self._remove(keys.ROWS, of)
        self._remove(launches.LAUNCHES, of)
        self._remove(codes.CODES, {"grant.account_id": of["account_id"]})
        self._remove_grants(of)
        self._remove(flow.REQUESTS, {"launched_by": of["account_id"]})
        named = [{f"data.{name}": of["account_id"]} for name in ("account_id", "by", "links")]
        self._remove(tickets.ROWS, {"$or": named})
        self._remove(throttle.ROWS, {"_id": {"$in": [f"code:{one}" for one in ids]}})
        invited = {"invited_by": of["account_id"]}
        self._store.rows(accounts.ROWS).update_many(invited, {"$unset": {"invited_by": "", "inviter": ""}})

    def people(self, people: Sequence[str]) -> None:
        """What is about people: apps that were opened with them, what apps keep of them, who was to act for them."""
        named = {"$in": list(people)}
        self._remove(launches.LAUNCHES, in_context("context", people))
        self._remove(codes.CODES, in_context("grant.context", people))
        self._remove_grants(in_context("context", people))
        self._remove(flow.REQUESTS, {"$or": [in_context(name, people) for name in ("context", "launch")]})
        self._remove(tickets.ROWS, {"data.patient": named})
        self._remove(app_state.STATES, {"subject": named})
        # Who was invited to act for them and has not come yet is invited no more.
        waiting = {"state": "unverified", "resource.patient.reference": named}
        for row in self._store.rows(accounts.ROWS).find(waiting, {"email": 1}):
            self._remove(tickets.ROWS, {"data.account_id": row["_id"]})
            self.address(row["email"])
            self._remove(accounts.ROWS, {**waiting, "_id": row["_id"]})

    def opened_with(self, people: Sequence[str]) -> list[Row]:
        """What is in force of others and was opened with these people."""
        return list(self._store.rows(authorizations.GRANTS).find({**in_context("context", people), "revoked_at": None}))

    def _remove_grants(self, which: Row) -> None:
        """Authorizations, and the refresh tokens that came from them, first."""
        rows = self._store.rows(authorizations.GRANTS)
        ids = [row["_id"] for row in rows.find(which, {"_id": 1})]
        self._remove(authorizations.REFRESH_TOKENS, {"grant_id": {"$in": ids}})
        self._remove(authorizations.GRANTS, {"_id": {"$in": ids}})

    def _remove(self, name: str, which: Row) -> None:
        self._store.rows(name).delete_many(which)


def in_context(place: str, people: Sequence[str]) -> Row:
    """Whether a context of a launch names one of some people."""
    return {"$or": [{f"{place}.{name}": {"$in": list(people)}} for name in _CONTEXT]}
