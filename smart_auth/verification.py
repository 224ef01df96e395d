"""Doctors are verified before they get in: a small state machine over decisions of administrators.

```
applied --approve (as many different people as the rules ask for)--> verified
applied --reject--> rejected
verified, rejected --reopen--> applied   (a licence ran out; new papers came)
```

An account is `pending` while it is applied, `active` when verified, `disabled` when rejected. Nobody decides on
themselves, and nobody approves twice.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from starlette.concurrency import run_in_threadpool

from smart_auth.accounts import account_of, now
from smart_auth.model import Account, AccountState
from smart_auth.parts import Parts, Visit
from smart_auth.registration import Registrar
from smart_auth.store import Row

Decision = Literal["approve", "reject", "reopen"]

ACCOUNT_STATE: dict[str, AccountState] = {"applied": "pending", "verified": "active", "rejected": "disabled"}
ALLOWED: dict[str, tuple[Decision, ...]] = {
    "applied": ("approve", "reject"),
    "verified": ("reopen",),
    "rejected": ("reopen",),
}
LONGEST_NOTE = 500


def decision_of(text: str) -> Decision | None:
    """The decision that a word means; None when it means none."""
    for known in get_args(Decision):
        if text == known:
            return cast(Decision, known)
    return None


class DecisionError(Exception):
    """A decision is not possible now; the text says why."""


class Verification:
    """Decides on applications."""

    def __init__(self, parts: Parts, registrar: Registrar) -> None:
        self._parts = parts
        self._registrar = registrar

    async def decide(self, account_id: str, decision: Decision, *, by: str, visit: Visit, note: str = "") -> Account:
        """One administrator's decision on a doctor.

        Raises:
            LookupError: there is no such application.
            DecisionError: it is not possible in this state, or not for this person.
            FhirError: the Practitioner could not be changed; the account is as before.
        """
        parts = self._parts
        row = await run_in_threadpool(parts.accounts.row, account_id)
        if row is None or "verification" not in row:
            raise LookupError(account_id)
        verification = row["verification"]
        state = verification["state"]
        if account_id == by:
            raise DecisionError("Nobody decides on their own application.")
        if decision not in ALLOWED[state]:
            raise DecisionError(f"The application is {state}: only {' or '.join(ALLOWED[state])} is possible.")
        decisions = list(verification["decisions"])
        if decision == "approve" and by in _approvers(decisions):
            raise DecisionError("You have approved this application already: somebody else must, too.")
        decisions.append({"by": by, "decision": decision, "at": now(), "note": note[:LONGEST_NOTE]})
        reached = self._reached(state, decision, decisions)
        if reached != state:
            await self._set_active(row, reached == "verified")
        changed = await run_in_threadpool(
            lambda: parts.accounts.change(
                account_id,
                {
                    "verification": {"state": reached, "decisions": decisions, "since": now()},
                    "state": ACCOUNT_STATE[reached],
                },
                # Somebody who decided at the same moment was first: then this decision is judged anew by its maker.
                where={"verification.state": state, "verification.decisions": verification["decisions"]},
            )
        )
        if changed is None:
            current = await run_in_threadpool(parts.accounts.row, account_id)
            if reached != state and current is not None:
                # What we have made of the Practitioner is undone, unless it is what was decided.
                await self._set_active(current, current["verification"]["state"] == "verified")
            raise DecisionError("Somebody else has just decided: look again.")
        await parts.note(
            "account",
            f"application: {decision} by {by}, now {reached}",
            visit,
            account_id=account_id,
            fhir_user=row.get("fhir_user"),
        )
        if reached != state:
            await self._tell(row, reached, visit)
        return account_of(changed)

    def _reached(self, state: str, decision: Decision, decisions: list[Row]) -> str:
        if decision == "approve":
            return "verified" if len(_approvers(decisions)) >= self._parts.rules.approvals else state
        return "rejected" if decision == "reject" else "applied"

    async def _set_active(self, row: Row, active: bool) -> None:
        """The Practitioner says the same as the account: searches find active doctors."""
        reference = row.get("fhir_user")
        resource = await self._parts.records.read(reference) if reference else None
        if resource is None:
            raise DecisionError("The Practitioner of this account is not there.")
        if resource.get("active") != active:
            await self._parts.records.update({**resource, "active": active}, row["_id"])

    async def _tell(self, row: Row, reached: str, visit: Visit) -> None:
        account_id = row["_id"]
        if reached != "verified":
            await run_in_threadpool(self._parts.sessions.end_all, account_id)
            await self._parts.credentials_changed(account_id)
        outcome = {
            "verified": "Your application was accepted. You can sign in now.",
            "rejected": "Your application was not accepted. Ask whoever runs this server for the reason.",
            "applied": "Your application is looked at again. Until then you cannot sign in.",
        }[reached]
        await self._registrar.posted(
            self._parts.letters.application(row["email"], row["name"], outcome), visit, account_id
        )


def _approvers(decisions: list[Row]) -> set[str]:
    """Who has approved since the application was last opened."""
    approvers: set[str] = set()
    for decision in decisions:
        if decision["decision"] == "approve":
            approvers.add(decision["by"])
        else:
            approvers.clear()
    return approvers
