"""Slots of EHRs that are written plainly: who sets one that an Appointment has taken has lost it.

A client that takes a Slot by its status alone (`free` to `busy-tentative`, as some EHRs have it) is one of many who may
want it. What the Slot is then is said by the Appointment that has it, and is looked at when all of a transaction is
written: a Bundle may take a Slot with its Appointment, or give both up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fhir_server.model import codec
from fhir_server.model.access import Caller
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.companion import BY, schedule_of
from resources.scheduling.extensions import follows_appointment
from resources.scheduling.locks import LOCKS, Taken, TimeTakenError, taken_in

Json = dict[str, Any]

#: What an Appointment takes of a Slot.
TAKEN = ("status", "start", "end", "schedule")


def may_lose(change: Change, caller: Caller) -> bool:
    """Whether a change may be of a Slot that somebody has: not a new one, nor one that shows an Appointment."""
    return change.by != BY and not change.fresh


async def keep_taken(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of Slots.

    Raises:
        TimeTakenError: 409; an Appointment has it.
    """
    for write in writes:
        if write.by == BY or write.old is None or follows_appointment(write.old):
            continue
        if write.new is None or any(write.new.get(name) != write.old.get(name) for name in TAKEN):
            unit.ends[f"taken {write.reference}"] = check(unit, write.id, write.old)


def check(unit: Unit, slot_id: str, slot: Json) -> Callable[[], Awaitable[None]]:
    async def look() -> None:
        taken = await holder_of(unit, slot_id, slot)
        if taken is None:
            return
        there = (await unit.get_many("Slot", [slot_id])).get(slot_id)
        stands = codec.decode(there.body) if there is not None and there.body is not None else {}
        holding = await unit.get("Appointment", taken.appointment)
        appointment = codec.decode(holding.body) if holding is not None and holding.body is not None else {}
        shown = "busy-tentative" if appointment.get("status") == "pending" else "busy"
        if stands.get("status") == shown and all(stands.get(name) == slot.get(name) for name in TAKEN[1:]):
            return
        start, end = (moment.parsed(slot[name], f"Slot.{name}") for name in ("start", "end"))
        wanted = {"slot": [{"reference": f"Slot/{slot_id}"}], "start": slot["start"]}
        kinds = {"serviceType": slot["serviceType"]} if "serviceType" in slot else {}
        lost = TimeTakenError(schedule_of(slot), start, end, wanted={**wanted, **kinds})
        lost.about = f"Slot/{slot_id}"
        raise lost

    return look


async def holder_of(unit: Unit, slot_id: str, slot: Json) -> Taken | None:
    """Who has a Slot when all is written; None where nobody has it, or its time has passed."""
    now = moment.now()
    if moment.parsed(slot["end"], "Slot.end") <= now:
        return None
    rows = await unit.rows(LOCKS).find({"taken.k": slot_id, "schedule": schedule_of(slot)})
    now_us = moment.us_of(now)
    return next((t for row in rows for t in taken_in(row) if t.slot == slot_id and t.holds(now_us)), None)
