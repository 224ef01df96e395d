"""`Appointment/[id]/$join`: the caller's own link to a video visit.

A link is of one participant, is told to nobody else, and stands in no resource, so that no search and no feed shows it.
It is told shortly before the visit until shortly behind it. The rules of the Schedule name the service that it leads to
(part `video`); what comes behind cannot be guessed.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.store import Store
from resources.scheduling import moment
from resources.scheduling.changing import require_state, tables_of
from resources.scheduling.negotiation import voice
from resources.scheduling.parties import party_of

Json = dict[str, Any]

ROOMS: Final = "_video_rooms"

#: How long before the start the door opens, and how long behind the end it closes.
AROUND = timedelta(minutes=30)


async def join_visit(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$join.

    Raises:
        ForbiddenError: 403; the caller does not take part.
        UnprocessableError: 422; it is no video visit, or not the time.
    """
    Inputs.of(request).only()
    version = await context.repository.read("Appointment", request.path[1])
    appointment = codec.decode(version.body or b"")
    party = await party_of(context)
    if not party.among(appointment) and party.role != "operator":
        raise ForbiddenError("Links are for those who take part.", key="HS-SCHED-PARTY")
    require_state(appointment, ("booked", "arrived", "checked-in"), "join")
    tables = await tables_of(context.repository.store.unguarded, appointment)
    service = next((table.rule.video for table in tables if table.rule is not None and table.rule.video), "")
    if not service:
        raise UnprocessableError(f"Appointment/{version.id} is no video visit.", key="HS-SCHED-NO-VIDEO")
    start, end = (moment.parsed(appointment[name], f"Appointment.{name}") for name in ("start", "end"))
    opens, closes = start - AROUND, end + AROUND
    if not opens <= moment.now() < closes:
        raise UnprocessableError(
            f"The link of Appointment/{version.id} is told from {moment.text_of(opens)} to {moment.text_of(closes)}.",
            key="HS-SCHED-NOT-OPEN",
            expression="Appointment.start",
        )
    url = await link_of(context.repository.store, version.id, voice(party, appointment), service)
    return answered(
        parameters_of(
            {"name": "url", "valueUrl": url},
            {"name": "from", "valueInstant": moment.text_of(opens)},
            {"name": "until", "valueInstant": moment.text_of(closes)},
        )
    )


async def link_of(store: Store, appointment_id: str, person: str, service: str) -> str:
    """The link of a participant, made when it is first asked for; all of a visit lead to one room."""
    rows = store.unguarded.rows(ROOMS)
    past = moment.now() + timedelta(days=30)
    await rows.forget_after("past")
    for key in (appointment_id, f"{appointment_id}/{person}"):
        await rows.make(key, {"secret": secrets.token_urlsafe(24), "past": past})
    room, own = await rows.get(appointment_id), await rows.get(f"{appointment_id}/{person}")
    assert room is not None
    assert own is not None
    return f"{service.rstrip('/')}/{room['secret']}?participant={own['secret']}"
