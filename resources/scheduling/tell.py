"""Telling people that something happened: the one place that a part for notifications takes over.

Until then a Communication is made, which says what kind of thing it is about and where to look, and nothing of the
health of anybody. The same thing told twice is one Communication.
"""

from __future__ import annotations

import hashlib

from fhir_server.interactions.context import Context
from fhir_server.model.errors import PreconditionFailedError
from fhir_server.repository.changes import Change
from resources.scheduling import moment

#: What there is to tell.
KINDS = "urn:healthsphere:notification"


async def tell(context: Context, person: str, kind: str, focus: str, occasion: str) -> None:
    """Tell somebody.

    Args:
        person: whom, as a reference
        kind: what kind of thing: `appointment-booked`, `waitlist-offer` …
        focus: where to look, as a reference
        occasion: tells this from other things of that kind with the same focus
    """
    name = hashlib.sha256(f"{person} {kind} {focus} {occasion}".encode()).hexdigest()[:32]
    resource = {
        "resourceType": "Communication",
        "status": "completed",
        "category": [{"coding": [{"system": KINDS, "code": kind}]}],
        **({"subject": {"reference": person}} if person.startswith("Patient/") else {}),
        "about": [{"reference": focus}],
        "recipient": [{"reference": person}],
        "sent": moment.text_of(moment.now()),
    }
    try:
        await context.repository.commit(Change("PUT", "Communication", f"told-{name}", resource, if_absent=True))
    except PreconditionFailedError:
        return  # it was told before
