"""Breaking the glass: a clinician sees the record of a patient in an emergency, for a time, and answers for it.

Nothing is opened before the reason, the review task and the audit trail have it: the row that opens the record is
written last. It ends by itself; whoever holds the row's id can end it earlier. Every process reads the open rows once a
second, so that the record opens and closes everywhere within about that.

Spec: https://profiles.ihe.net/ITI/BALP/ (break-glass), http://terminology.hl7.org/CodeSystem/v3-ActReason (BTG)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fhir_server.model.access import BREAK_GLASS, Identity
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import FhirError, InvalidError, NotFoundError
from fhir_server.storage.document import BROKEN_GLASS, Version
from fhir_server.storage.rows import Rows, plain

FRESH_S = 1.0

#: How often the trail is told of what ended by itself; nothing is open for longer because of it.
CLOSED_S = 20.0

_log = logging.getLogger("healthsphere.policies")

#: Open at once, of all users.
MOST = 1000

#: The words that a reason must have at least, in letters.
SHORTEST_REASON = 10

#: For how long, in minutes, where the caller does not say.
USUAL_MINUTES = 30

MINUTE_US = 60_000_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Glass:
    """One broken glass.

    Attributes:
        session: names the authorization for which the record is open; other apps of the user stay as they are
        user: the user's own resource, `Practitioner/12`
        patient: whose record is open, `Patient/3`
        task: the review task, `Task/4`
        ended_us: when somebody ended it; None while nobody has
    """

    id: str
    session: str
    subject: str
    client_id: str
    user: str | None
    organization: str | None
    patient: str
    reason: str
    started_us: int
    ends_us: int
    task: str = ""
    ended_us: int | None = None

    @property
    def until_us(self) -> int:
        """When it ends, or ended."""
        return self.ends_us if self.ended_us is None else min(self.ends_us, self.ended_us)


class Witness(Protocol):
    """The audit trail; each call returns when that is stored durably."""

    async def glass_broken(self, glass: Glass) -> None: ...
    async def glass_mended(self, glass: Glass) -> None: ...


class GlassStore(Protocol):
    """What is asked of the store, whoever calls."""

    def rows(self, collection: str) -> Rows: ...
    async def get(self, resource_type: str, resource_id: str) -> Version | None: ...


#: Creates a resource, whoever calls; gives its id.
Create = Callable[[Json], Awaitable[str]]


def session_of(identity: Identity) -> str:
    """What a broken glass is bound to: the authorization of the token, which its refreshed tokens share."""
    return identity.grant_id or f"{identity.subject} {identity.client_id}"


class BreakGlass:
    """Opens records in emergencies, and knows which are open."""

    def __init__(self, store: GlassStore, create: Create, witness: Witness, *, most_minutes: int) -> None:
        self._store = store
        self._rows = store.rows(BROKEN_GLASS)
        self._create = create
        self._witness = witness
        self._open: dict[str, tuple[Glass, ...]] = {}
        self._fresh_until = 0.0
        self._turn = 0
        self._when_changed: Callable[[], None] | None = None
        self.most_minutes = most_minutes

    def when_changed(self, call: Callable[[], None]) -> None:
        """What to call in this process as soon as something was opened or closed."""
        self._when_changed = call

    def _changed(self) -> None:
        self._fresh_until = 0.0
        self._turn += 1
        if self._when_changed is not None:
            self._when_changed()

    async def start(self, identity: Identity, patient: str, reason: str, minutes: int | None) -> Glass:
        """Open a patient's record to the session of this user.

        Raises:
            InvalidError: 400; no reason worth the name, or too long a time.
            NotFoundError: 404; there is no such patient.
        """
        reason = " ".join(reason.split())
        if sum(map(str.isalpha, reason)) < SHORTEST_REASON:
            raise InvalidError(
                "Say in a few words why you must see this record now; a colleague will review it.",
                code="required",
                expression="Parameters.parameter.where(name='reason')",
                key="HS-GLASS-REASON",
            )
        wanted = min(USUAL_MINUTES, self.most_minutes) if minutes is None else minutes
        if not 1 <= wanted <= self.most_minutes:
            raise InvalidError(
                f"'minutes' is {wanted}; possible are 1 to {self.most_minutes}.",
                code="value",
                expression="Parameters.parameter.where(name='minutes')",
                key="HS-GLASS-MINUTES",
            )
        kind, _, patient_id = patient.partition("/")
        found = await self._store.get("Patient", patient_id) if kind == "Patient" else None
        if found is None or found.deleted:
            raise NotFoundError(f"There is no {patient[:80]} on this server.", key="HS-READ-NOT-FOUND")
        began = now_us()
        glass = Glass(
            id=new_id(),
            session=session_of(identity),
            subject=identity.subject,
            client_id=identity.client_id,
            user=identity.fhir_user,
            organization=identity.organization,
            patient=patient,
            reason=reason[:1000],
            started_us=began,
            ends_us=began + wanted * MINUTE_US,
        )
        task = f"Task/{await self._create(review_of(glass))}"
        row = _row_of(glass) | {"task": task}
        glass = _glass_of({"_id": glass.id, **row})
        await self._witness.glass_broken(glass)
        await self._rows.put(glass.id, row)
        self._changed()
        return glass

    async def stop(self, identity: Identity, glass_id: str | None = None) -> list[Glass]:
        """End what this session has open, or one of it.

        Raises:
            NotFoundError: 404; this session has nothing of that open.
        """
        await self._refresh(at_once=True)
        found = [g for g in self.of(identity) if glass_id in (None, g.id)]
        mended = [glass for g in found if (glass := await self._end(g, now_us())) is not None]
        self._changed()
        if not mended:
            raise NotFoundError("There is no broken glass of yours to mend.", key="HS-GLASS-NONE")
        return mended

    async def close_ended(self) -> int:
        """Tell the audit trail of those that ended by themselves, each once whoever asks; how many these were."""
        rows = await self._rows.all({"open": True, "ends": {"$lte": now_us()}}, newest_by="ends", limit=MOST)
        closed = [await self._end(_glass_of(row), row["ends"]) for row in rows]
        return sum(glass is not None for glass in closed)

    async def watch(self) -> None:
        """Close what has ended by itself, for as long as the server runs."""
        while True:
            await asyncio.sleep(CLOSED_S)
            try:
                await self.close_ended()
            except FhirError as error:
                _log.warning("broken glasses could not be closed: %s", error)

    async def _end(self, glass: Glass, moment_us: int) -> Glass | None:
        row = await self._rows.change(glass.id, {"open": True}, plain({"open": False, "ended": moment_us}))
        if row is None:
            return None
        ended = _glass_of(row)
        await self._witness.glass_mended(ended)
        return ended

    # --- asked for every policy -------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """Read the open rows, unless that was done a moment ago."""
        await self._refresh()

    async def _refresh(self, *, at_once: bool = False) -> None:
        if not at_once and time.monotonic() < self._fresh_until:
            return
        began, turn = time.monotonic(), self._turn
        rows = await self._rows.all({"open": True, "ends": {"$gt": now_us()}}, newest_by="ends", limit=MOST)
        found: dict[str, list[Glass]] = {}
        for row in rows:
            glass = _glass_of(row)
            found.setdefault(glass.session, []).append(glass)
        self._open = {session: tuple(glasses) for session, glasses in found.items()}
        if turn == self._turn:  # else something was opened or closed meanwhile, which these rows may not show
            self._fresh_until = began + FRESH_S

    def of(self, identity: Identity) -> tuple[Glass, ...]:
        """What is open to the session of this user now."""
        glasses = self._open.get(session_of(identity), ())
        now = now_us()
        return tuple([g for g in glasses if g.subject == identity.subject and g.until_us > now])


def _row_of(glass: Glass) -> Json:
    return {
        "session": glass.session,
        "subject": glass.subject,
        "client": glass.client_id,
        "user": glass.user,
        "organization": glass.organization,
        "patient": glass.patient,
        "reason": glass.reason,
        "started": glass.started_us,
        "ends": glass.ends_us,
        "open": True,
    }


def _glass_of(row: Json) -> Glass:
    return Glass(
        row["_id"],
        row["session"],
        row["subject"],
        row["client"],
        row["user"],
        row["organization"],
        row["patient"],
        row["reason"],
        row["started"],
        row["ends"],
        row.get("task", ""),
        row.get("ended"),
    )


def review_of(glass: Glass) -> Json:
    """The task of who looks after privacy: to look at what was done with the record.

    It carries no mark of an organization, is `for` nobody (the patient is its focus), and names the user as input, not
    as requester: so neither the user nor the user's colleagues, whose patient this may be, can see or close it.
    """
    task: Json = {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "priority": "urgent",
        "code": {
            "coding": [{"system": "urn:healthsphere:task", "code": "review-broken-glass"}],
            "text": "Review a broken glass",
        },
        "description": glass.reason,
        "focus": {"reference": glass.patient},
        "executionPeriod": {"start": instant_of(glass.started_us), "end": instant_of(glass.ends_us)},
        "authoredOn": instant_of(glass.started_us),
        "performerType": [
            {"coding": [{"system": "urn:healthsphere:role", "code": "auditor"}], "text": "Privacy officer"}
        ],
        "reasonCode": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": BREAK_GLASS}]
        },
        "input": [
            {"type": {"text": "broken glass"}, "valueString": glass.id},
            {"type": {"text": "account"}, "valueString": glass.subject},
            {"type": {"text": "app"}, "valueString": glass.client_id or "none"},
        ],
    }
    if glass.user is not None:
        task["input"].append({"type": {"text": "user"}, "valueReference": {"reference": glass.user}})
    return task
