"""Telling people that something happened: by the ways that they have chosen, and in the record of the patient.

A notification is for its moment. What stays is a Communication, which says what kind of thing it is about and where to
look, and nothing of the health of anybody. Both are made at once; the same thing told twice is told once.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model.errors import PreconditionFailedError
from fhir_server.repository.changes import Change, FailedChangeError
from fhir_server.storage.unit import Unit
from resources.notification import tell_all_within
from resources.scheduling import moment
from resources.scheduling.ical import message_of, method_of
from resources.scheduling.schedules import participants_of

#: What there is to tell.
KINDS = "urn:healthsphere:notification"


#: Of what a calendar is told, too.
INVITING = frozenset({"appointment-asked", "appointment-booked", "appointment-cancelled", "appointment-moved"})


def calendar_of(context: Context, kind: str, appointment: dict[str, Any]) -> bytes:
    """What a mail of some kind tells a calendar: an invitation, an update, a cancellation or a counter-proposal."""
    if "start" not in appointment or "end" not in appointment:
        return b""
    if kind in INVITING or (kind == "appointment-offered" and method_of(appointment) == "COUNTER"):
        return message_of(appointment, context.repository.indexer.base_url, people=False)
    return b""


async def tell(context: Context, person: str, kind: str, appointment: dict[str, Any], occasion: str) -> None:
    """Tell somebody.

    Args:
        person: whom, as a reference
        kind: what kind of thing: `appointment-booked`, `waitlist-offer` …
        appointment: where to look; what hides it hides the message, which is of the same patient and has its labels
        occasion: tells this from other things of that kind about the same
    """
    focus = f"Appointment/{appointment['id']}"
    patient = next((actor for actor in participants_of(appointment) if actor.startswith("Patient/")), "")
    labels = appointment.get("meta", {}).get("security")
    name = hashlib.sha256(f"{person} {kind} {focus} {occasion}".encode()).hexdigest()[:32]
    resource = {
        "resourceType": "Communication",
        **({"meta": {"security": labels}} if labels else {}),
        "status": "completed",
        "category": [{"coding": [{"system": KINDS, "code": kind}]}],
        **({"subject": {"reference": patient}} if patient else {}),
        "about": [{"reference": focus}],
        "recipient": [{"reference": person}],
        "sent": moment.text_of(moment.now()),
    }
    calendar = calendar_of(context, kind, appointment)
    repository = context.repository
    change = repository.check(Change("PUT", "Communication", f"told-{name}", resource, if_absent=True))
    await repository.store.ensure("Communication")

    async def work(unit: Unit) -> None:
        await repository.commit_within(unit, [change])
        key = f"{focus}/{occasion}"
        await tell_all_within(context, unit, [person], kind, focus, key=key, calendar=calendar)

    try:
        await repository.store.transact(work)
    except FailedChangeError as failed:
        if not isinstance(failed.cause, PreconditionFailedError):
            raise failed.cause from failed
        return  # it was told before
