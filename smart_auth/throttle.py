"""Slows guessing down: attempts are counted in the database, before they are judged, so that all workers see them.

After some free attempts each further one must wait, twice as long each time up to a limit. Nobody is locked out for
good: that would let anybody lock out anybody. Counting comes first, since a hundred guesses sent at once would
otherwise all be judged before the first is counted.

Spec: https://pages.nist.gov/800-63-4/sp800-63b.html (rate limiting)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from smart_auth.accounts import now
from smart_auth.store import AuthStore, Duplicate, index_on

ROWS = "attempts"
TRIES = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """How many attempts are free, and how long the following ones wait.

    Attributes:
        free: attempts without a wait
        first_s: the wait after the last free one; it doubles with each attempt
        longest_s: where doubling ends
        forgotten_s: after so long without an attempt all is forgotten
    """

    free: int
    first_s: float
    longest_s: float
    forgotten_s: float


#: Passwords and codes of one account.
PER_ACCOUNT = Rule(free=5, first_s=30, longest_s=900, forgotten_s=3600)
#: Sign-ins from one address, which may be a whole clinic.
PER_ADDRESS = Rule(free=40, first_s=30, longest_s=3600, forgotten_s=3600)
#: Requests from one address that make the server send a mail.
MAILS_PER_ADDRESS = Rule(free=20, first_s=60, longest_s=3600, forgotten_s=3600)
#: Mails to one address, which may be somebody's who never asked for any.
MAILS_TO_ADDRESS = Rule(free=4, first_s=300, longest_s=7200, forgotten_s=86400)


class ThrottledError(Exception):
    """An attempt came too early."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(f"wait {wait_s} s")


class Throttle:
    """Counts attempts by key. Blocking: call it from worker threads."""

    def __init__(self, store: AuthStore, clock: Callable[[], datetime] = now) -> None:
        self._store = store
        self._rows = store.rows(ROWS)
        self._now = clock

    def ensure(self) -> None:
        self._store.ensure(ROWS, [index_on("expires_at", expires=True)])

    def attempt(self, key: str, rule: Rule) -> None:
        """Count an attempt.

        Raises:
            ThrottledError: it must wait; it is not counted then.
        """
        moment = self._now()
        for _ in range(TRIES):
            try:
                # A row that must wait does not match, and inserting another of the same name fails: that is the answer.
                self._rows.update_one(
                    {"_id": key, "$or": [{"until": None}, {"until": {"$lte": moment}}]},
                    [{"$set": _counted(moment, rule)}],
                    upsert=True,
                )
            except Duplicate:
                row = self._rows.find_one({"_id": key})
                until = row and row.get("until")
                if until and until > moment:
                    raise ThrottledError(max(1, math.ceil((until - moment).total_seconds()))) from None
                continue  # two first attempts at once, and the other made the row
            return
        raise ThrottledError(1)

    def forgive(self, key: str) -> None:
        """Forget the attempts of a key: it proved to be right."""
        self._rows.delete_one({"_id": key})

    def give_back(self, key: str) -> None:
        """Take one attempt off the count: that one was no guess."""
        self._rows.update_one({"_id": key, "count": {"$gt": 0}}, {"$inc": {"count": -1}, "$set": {"until": None}})


def _counted(moment: datetime, rule: Rule) -> dict[str, Any]:
    """The update that counts one attempt, as a stage of a pipeline: it reads the row that it changes."""
    fresh = {"$lte": [{"$ifNull": ["$expires_at", moment]}, moment]}
    count = {"$cond": [fresh, 1, {"$add": [{"$ifNull": ["$count", 0]}, 1]}]}
    beyond = {"$subtract": [count, rule.free]}
    # A large count would overflow the power; the wait has reached its limit long before.
    wait_s = {"$min": [{"$multiply": [rule.first_s, {"$pow": [2, {"$min": [beyond, 30]}]}]}, rule.longest_s]}
    until = {"$add": [moment, {"$toLong": {"$multiply": [wait_s, 1000]}}]}
    return {
        "count": count,
        "until": {"$cond": [{"$gte": [beyond, 0]}, until, None]},
        "expires_at": moment + timedelta(seconds=rule.forgotten_s + rule.longest_s),
    }
