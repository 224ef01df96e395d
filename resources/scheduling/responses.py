"""AppointmentResponses: who has said what, from which the states of the participants follow.

Spec: https://hl7.org/fhir/R4/appointmentresponse.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.scheduling.companion import BY
from resources.scheduling.schedules import selves

Json = dict[str, Any]


def response_of(
    appointment: str, actor: str, status: str, *, start: str = "", end: str = "", comment: str = "", by: str
) -> list[Change]:
    """The record of an answer; none of an Appointment that names nobody who could have given it."""
    if not actor:
        return []
    resource: Json = {
        "resourceType": "AppointmentResponse",
        "appointment": {"reference": f"Appointment/{appointment}"},
        **({"start": start, "end": end} if start else {}),
        "actor": {"reference": actor},
        "participantStatus": status,
        **({"comment": comment} if comment else {}),
    }
    return [Change("POST", "AppointmentResponse", new_id(), resource, fresh=True, by=by)]


def answered(appointment: Json, actors: frozenset[str], status: str) -> Json:
    """The Appointment with what somebody answered; itself where it says so already."""
    rows = [
        {**row, "status": status} if row.get("actor", {}).get("reference") in actors else row
        for row in appointment.get("participant", ())
    ]
    return appointment if rows == appointment.get("participant") else {**appointment, "participant": rows}


async def note_answers(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of AppointmentResponses: the participant of the Appointment has the state that was answered.

    An answer with another time than the Appointment's is about that time, and says nothing of this one.
    """
    for write in writes:
        if write.new is None or write.by:
            continue
        reference = str(write.new.get("appointment", {}).get("reference", ""))
        actor = str(write.new.get("actor", {}).get("reference", ""))
        kind, _, appointment_id = reference.rpartition("/")
        if kind != "Appointment" or not actor:
            continue
        there = (await unit.get_many("Appointment", [appointment_id])).get(appointment_id)
        if there is None or there.body is None:
            continue
        appointment = codec.decode(there.body)
        if "start" in write.new and write.new["start"] != appointment.get("start"):
            continue
        known, _ = await selves(unit, [actor])
        changed = answered(appointment, known.get(actor, frozenset({actor})), write.new["participantStatus"])
        if changed is not appointment:
            change = Change("PUT", "Appointment", appointment_id, changed, if_match=there.version, by=BY)
            await repository.commit_within(unit, [repository.check(change)])
