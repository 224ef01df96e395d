"""Doctors are verified before they get in: accounts follow a process that is one of FHIR resources.

```
applied --approve (as many different people as the rules ask for)--> verified
applied --reject--> rejected
verified, rejected --reopen--> applied   (a licence ran out; new papers came)
```

Who decides what is the matter of that process (the port `Applications`), by whatever way a decision comes. An account
is `pending` while it is applied, `active` when verified, `disabled` when rejected.
"""

from __future__ import annotations

from typing import Literal, cast, get_args

from starlette.concurrency import run_in_threadpool

from fhir_server.model.errors import FhirError
from smart_auth.accounts import account_of, now
from smart_auth.model import Account, AccountState
from smart_auth.parts import Parts, Visit
from smart_auth.ports import DoctorStanding
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
    """Has administrators decide on applications, and has accounts follow what came of them."""

    def __init__(self, parts: Parts, registrar: Registrar) -> None:
        self._parts = parts
        self._registrar = registrar

    async def decide(self, account_id: str, decision: Decision, *, by: str, visit: Visit, note: str = "") -> Account:
        """One administrator's decision on a doctor.

        Raises:
            LookupError: there is no such application.
            DecisionError: it is not possible in this state, or not for this person.
        """
        parts = self._parts
        row = await run_in_threadpool(parts.accounts.row, account_id)
        if row is None or "verification" not in row or parts.applications is None:
            raise LookupError(account_id)
        if account_id == by:
            raise DecisionError("Nobody decides on their own application.")
        practitioner = row.get("fhir_user")
        if not practitioner:
            raise DecisionError("The Practitioner of this account is not there.")
        decider = await run_in_threadpool(parts.accounts.row, by)
        user = (decider or {}).get("fhir_user")
        try:
            standing = await parts.applications.decide(practitioner, decision, by, user, note[:LONGEST_NOTE])
        except FhirError as error:
            raise DecisionError(str(error)) from error
        await parts.note(
            "account",
            f"application: {decision} by {by}, now {standing.state}",
            visit,
            account_id=account_id,
            fhir_user=practitioner,
        )
        await self.follow(practitioner, standing, visit)
        followed = await run_in_threadpool(parts.accounts.row, account_id)
        return account_of(followed or row)

    async def follow(self, practitioner: str, standing: DoctorStanding, visit: Visit | None = None) -> None:
        """Have the account of a doctor say how the doctor stands; what comes late changes nothing."""
        parts = self._parts
        row = await run_in_threadpool(parts.accounts.row_of_user, practitioner)
        if row is None or "verification" not in row or row["state"] == "unverified":
            return
        known = row["verification"]
        if standing.version <= known.get("version", 0):
            return
        decisions = [{"by": d.by, "decision": d.decision, "at": d.at, "note": d.note} for d in standing.decisions]
        moved = known["state"] != standing.state
        fields: Row = {
            "verification": {
                "state": standing.state,
                "decisions": decisions,
                "since": now() if moved else known["since"],
                "version": standing.version,
            }
        }
        reached = ACCOUNT_STATE[standing.state]
        if row["state"] == "disabled" and known["state"] != "rejected":
            fields["state_before"] = reached  # an administrator has disabled it, and enables it again
        else:
            fields["state"] = reached
        changed = await run_in_threadpool(
            lambda: parts.accounts.change(row["_id"], fields, where={"verification": known, "state": row["state"]})
        )
        if changed is None:
            await self.follow(practitioner, standing, visit)  # somebody was faster: perhaps with what is newer
        elif moved:
            await self._tell(row, standing.state, visit or Visit())

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
