"""Telling people that something happened: the one place that a part for notifications takes over.

Until then a Communication is made, which says what kind of thing it is about and where to look, and nothing of the
health of anybody. The same thing told twice is one Communication.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model.errors import PreconditionFailedError
from fhir_server.repository.changes import Change
from resources.scheduling import moment
from resources.scheduling.schedules import participants_of

#: What there is to tell.
KINDS = "urn:healthsphere:notification"


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
    try:
        await context.repository.commit(Change("PUT", "Communication", f"told-{name}", resource, if_absent=True))
    except PreconditionFailedError:
        return  # it was told before
