"""Accounts that end with the record of their person.

The account goes as a whole: sessions, what apps were allowed, passkeys, links that are under way, and the row itself
with name, address and password; what is revoked or used up goes with it (see `forgetting`). Each step can be done
again, so that a process that dies in the middle is succeeded by another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from starlette.concurrency import run_in_threadpool

from smart_auth.accounts import now
from smart_auth.forgetting import Forgetting
from smart_auth.parts import Parts, Visit
from smart_auth.passkeys import Passkeys
from smart_auth.store import Row


@dataclass(frozen=True, slots=True)
class Tied:
    """An account whose own resource is one that goes.

    Attributes:
        sessions, apps: how many there are
        others: for which patients it acts besides
    """

    id: str
    fhir_user: str
    sessions: int
    apps: int
    others: tuple[str, ...] = ()


class Ending:
    """Ends accounts; fills the port of the FHIR side for it."""

    def __init__(self, parts: Parts, passkeys: Passkeys, forgetting: Forgetting) -> None:
        self._parts = parts
        self._passkeys = passkeys
        self._forgetting = forgetting

    async def tied(self, people: Sequence[str]) -> list[Tied]:
        """The accounts whose own resource is one of these."""
        found = []
        for row in await run_in_threadpool(self._parts.accounts.rows_of_users, people):
            sessions = await run_in_threadpool(self._parts.sessions.count, row["_id"])
            apps = len(await self._parts.apps.of(row["_id"]))
            others = tuple(one for one in row.get("patients", ()) if one not in people)
            found.append(Tied(row["_id"], row["fhir_user"], sessions, apps, others))
        return found

    async def end(self, account_id: str) -> None:
        """End an account and all that is its own; nothing where it has ended."""
        row = await run_in_threadpool(self._parts.accounts.row, account_id)
        if row is None:
            return
        # First of all nobody signs in any more; the row goes last, since it leads to the rest.
        shut: Row = {"state": "disabled", "credentials_changed_at": now()}
        await run_in_threadpool(self._parts.accounts.change, account_id, shut)
        await run_in_threadpool(self._parts.tickets.void, account_id)
        await self._cut_off(account_id, row.get("fhir_user"))
        await run_in_threadpool(self._passkeys.remove_all, account_id)
        await self._parts.note("account", "ended: its record was erased", Visit(), account_id=account_id)
        await run_in_threadpool(self._forgetting.accounts, [account_id])
        await run_in_threadpool(self._forgetting.address, row["email"])
        await run_in_threadpool(self._parts.accounts.remove, account_id)

    async def let_go(self, patient: str) -> int:
        """Nobody acts for a patient any more; how many did."""
        rows = await run_in_threadpool(self._parts.accounts.proxies_of, patient)
        for row in rows:
            await run_in_threadpool(partial(self._parts.accounts.change, row["_id"], pull={"patients": patient}))
            await self._cut_off(row["_id"], None)
        return len(rows)

    async def forget(self, account_ids: Sequence[str], people: Sequence[str]) -> None:
        """Remove what names accounts that have ended, and people whose records go. Apps that others had opened with
        them are closed: whoever needs one opens it again.
        """
        for row in await run_in_threadpool(self._forgetting.opened_with, people):
            await self._parts.apps.revoke(row["account_id"], row["_id"])
        await run_in_threadpool(self._forgetting.accounts, account_ids)
        await run_in_threadpool(self._forgetting.people, people)

    async def _cut_off(self, account_id: str, fhir_user: str | None) -> None:
        await run_in_threadpool(self._parts.sessions.end_all, account_id)
        await self._parts.credentials_changed(account_id)
        await self._parts.account_ended(account_id, fhir_user)
