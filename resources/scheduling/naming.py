"""Who may be named by an Appointment: nobody is booked who is not to be found, by whatever way it is written.

For patients such a doctor is not there, and is refused in the words for one who never was. Staff, who see them, are
told that they cannot be booked. What programs bring in is history, as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError, UnprocessableError
from fhir_server.repository.integrity import missing
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.companion import HOLDING, schedule_of, slots_of
from resources.scheduling.schedules import PEOPLE, actors_of, read, schedules_named, timetables_of
from resources.scheduling.states import PATIENT_SIDE, WISHES
from resources.verification.standing import standings
from resources.verification.words import SYSTEMS

Json = dict[str, Any]

#: Writes that name people: plain ones, and those of operations to which a client gives an Appointment.
NAMING = frozenset({"", "book", "hold"})


async def require_bookable(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The first companion of Appointments.

    Raises:
        UnprocessableError: 422; one names somebody who is not to be found, or a Slot of theirs.
    """
    asked = {write.id: _asked(write, repository) for write in writes}
    targets = [one for people, _ in asked.values() for one in people]
    slots = await read(unit, "Slot", (slot for _, named in asked.values() for slot in named))
    owners = await _owners(unit, slots)
    people = {*targets, *(actor for actors in owners.values() for actor in actors if actor.startswith(PEOPLE))}
    if not people:
        return
    found = await standings(unit, people, now_us())
    for write in writes:
        named, times = asked[write.id]
        offered = await _offered(unit, write) if named.keys() - found.keys() else frozenset()
        for one, place in named.items():
            if one not in offered and (error := _refusal(write, one, place, found.get(one))) is not None:
                error.about = write.reference
                raise error
        for slot in times:
            if not all(found.get(actor, True) for actor in owners.get(slot, ())):
                refused = _not_bookable(f"Whose time Slot/{slot} is", "Appointment.slot")
                refused.about = write.reference
                raise refused


def _asked(write: Write, repository: Repository) -> tuple[Mapping[str, str], Sequence[str]]:
    """Whom a write brings in, with the place that names each, and the ids of Slots that it brings in."""
    new, old = write.new, write.old or {}
    role = write.caller.identity.role
    if new is None or write.by not in NAMING or role in SYSTEMS:
        return {}, ()
    if role not in PATIENT_SIDE and (new.get("status") not in WISHES | HOLDING or _is_over(new)):
        return {}, ()
    named, slots = _doctors_in(new, repository), slots_of(new)
    if not _takes_other_time(new, old):
        known, before = _doctors_in(old, repository), slots_of(old)
        named = {one: place for one, place in named.items() if one not in known}
        slots = [slot for slot in slots if slot not in before]
    return named, slots


def _doctors_in(appointment: Json, repository: Repository) -> dict[str, str]:
    """The Practitioners and PractitionerRoles who take part, each with the place that names them."""
    part = {"resourceType": "Appointment", "participant": appointment.get("participant", [])}
    targets = repository.integrity.targets_of(part)
    return {one: place for one, place in targets.items() if one.startswith(PEOPLE)}


def _is_over(appointment: Json) -> bool:
    """Whether it is history; staff may write down who was seen by whom."""
    end = appointment.get("end", appointment.get("start"))
    return end is not None and moment.parsed(end, "Appointment.end") <= moment.now()


def _takes_other_time(new: Json, old: Json) -> bool:
    """Whether a stored Appointment takes a time that it did not take."""
    if new.get("status") not in HOLDING:
        return False
    same = all(new.get(name) == old.get(name) for name in ("start", "end"))
    return old.get("status") not in HOLDING or not same


async def _owners(unit: Unit, slots: Sequence[Json]) -> dict[str, frozenset[str]]:
    """Whose the times of Slots are, by the id of the Slot."""
    of = {str(slot["id"]): schedule_of(slot) for slot in slots}
    tables = await timetables_of(unit, await read(unit, "Schedule", (one for one in of.values() if one)))
    actors = {table.id: table.actors for table in tables}
    return {slot: actors.get(schedule, frozenset()) for slot, schedule in of.items()}


async def _offered(unit: Unit, write: Write) -> frozenset[str]:
    """Whose times an operation gives, which it has looked at: an EHR may write Schedules of people whom it keeps."""
    if not write.by or write.new is None:
        return frozenset()
    ids = (reference.rpartition("/")[2] for reference in schedules_named(write.new))
    return frozenset(actor for one in await read(unit, "Schedule", ids) for actor in actors_of(one))


def _refusal(write: Write, one: str, place: str, is_found: bool | None) -> FhirError | None:
    if is_found:
        return None
    if write.caller.identity.role in PATIENT_SIDE:
        return UnprocessableError([missing(one, place)])
    return None if is_found is None else _not_bookable(one, place)


def _not_bookable(who: str, place: str) -> UnprocessableError:
    return UnprocessableError(
        f"{who} cannot be booked: not verified, not active, or without a licence in force.",
        key="HS-SCHED-NOT-BOOKABLE",
        expression=place,
    )
