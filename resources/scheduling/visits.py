"""What becomes of an Appointment: `$cancel`, `$reschedule`, `$check-in` and `$no-show`.

Spec: https://hl7.org/fhir/R4/appointment.html#statuses
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import ForbiddenError, InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.asking import Asking, tables_named
from resources.scheduling.booking import as_booked, free_at, written
from resources.scheduling.calendars import Calendar
from resources.scheduling.changing import asking_at, changed, instance_of, reason_of, require_state, tables_of
from resources.scheduling.extensions import ALTERNATIVE, HELD_UNTIL, ROUND, SCHEDULE, without
from resources.scheduling.offers import is_offer, wanted_by
from resources.scheduling.parties import Party, party_of, require_decider, seen
from resources.scheduling.schedules import Timetable
from resources.scheduling.selection import references

Json = dict[str, Any]

OPEN = ("proposed", "waitlist", "pending", "booked")

#: How long before the start somebody can have come.
EARLY = timedelta(hours=12)


async def cancel(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$cancel: the time is given back.

    Raises:
        ForbiddenError: 403; the Appointment is none of the caller's.
        UnprocessableError: 422; a patient is later than the practice allows.
    """
    inputs = Inputs.of(request)
    inputs.only("reason", "comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_concerned(party, before, "cancel it")
    require_in_time(party, before, await tables_of(context.repository.store.unguarded, before))
    reason = reason_of(inputs, "pat" if party.is_patient else "prov")

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, (*OPEN, "arrived", "checked-in"), "cancel")
        return cancelled(current, reason, inputs.text("comment") or ""), []

    return await changed(context, request, before, "cancel", alter)


def cancelled(appointment: Json, reason: Json, comment: str = "") -> Json:
    rest = without(appointment, HELD_UNTIL, ALTERNATIVE, ROUND)
    return {**rest, "status": "cancelled", "cancelationReason": reason, **({"comment": comment} if comment else {})}


def waiting_again(appointment: Json) -> Json:
    """The Appointment on the waitlist again, without the time that it was offered."""
    rest = without(appointment, HELD_UNTIL, ALTERNATIVE, ROUND)
    left = {name: value for name, value in rest.items() if name not in ("start", "end", "slot", "minutesDuration")}
    return {**left, "status": "waitlist"}


async def reschedule(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$reschedule: the same Appointment at another time, by one step: it is never without a time.

    Raises:
        TakenError: 409; somebody has the time; the Appointment keeps the one that it has.
        UnprocessableError: 422; a patient is later than the practice allows.
    """
    inputs = Inputs.of(request)
    inputs.only("start", "end", "appointment-reference")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_concerned(party, before, "move it")
    store = context.repository.store.unguarded
    require_in_time(party, before, await tables_of(store, before))
    asking = await new_time(context, inputs, before, request.base_url)

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("pending", "booked"), "reschedule")
        free, own = await free_at(unit, asking, strict=party.is_patient, but=str(before["id"]))
        moved = moved_to(current, asking, free, own)
        confirming = party.is_patient and any(calendar.service.confirmed for calendar in own)
        return (as_booked(moved, own, party) if confirming else moved), []

    return await changed(context, request, before, "reschedule", alter, asking)


def moved_to(current: Json, asking: Asking, free: Any, own: Sequence[Calendar]) -> Json:
    """The Appointment at another time; what else was said of it stays, and who has accepted has."""
    kept = {name: value for name, value in current.items() if name != "minutesDuration"}
    resource = written(str(current["id"]), replace(asking, draft=kept), own, free, ())
    return {**without(resource, HELD_UNTIL, ALTERNATIVE, ROUND), "status": current["status"]}


async def new_time(context: Context, inputs: Inputs, before: Json, base_url: str) -> Asking:
    """What is wanted instead: a start, or an offer of `$find`."""
    named = references(inputs, "appointment-reference", base_url, ("Appointment",))
    if named:
        name = named[0].partition("/")[2]
        if not is_offer(name):
            raise InvalidError(
                "`appointment-reference` is an offer of $find here.",
                expression="Parameters.parameter.where(name='appointment-reference')",
                key="HS-OP-PARAMETER",
            )
        wanted = await wanted_by(context.repository.store, name)
        return Asking(wanted, without(before, SCHEDULE), await tables_named(context, wanted.schedules))
    start = inputs.required("start", inputs.text("start"))
    return await asking_at(context, before, str(start), inputs.text("end"))


async def check_in(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$check-in: the patient says that they are there, and the front desk that they are received."""
    Inputs.of(request).only()
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_concerned(party, before, "check in")
    status, states = ("arrived", ("booked", "arrived")) if party.is_patient else ("checked-in", ("booked", "arrived"))

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, states, "check-in")
        start = moment.parsed(current["start"], "Appointment.start")
        if start - moment.now() > EARLY:
            raise UnprocessableError(
                f"Appointment/{current['id']} begins at {current['start']}; check-in begins 12 hours before.",
                key="HS-SCHED-NOT-BEGUN",
                expression="Appointment.start",
            )
        return {**current, "status": status}, []

    return await changed(context, request, before, "check-in", alter)


async def no_show(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$no-show: the patient has not come; for the practitioner and the front desk."""
    inputs = Inputs.of(request)
    inputs.only("comment")
    party = await party_of(context)
    _, before = await seen(context, instance_of(request))
    require_decider(party, before, "say that somebody has not come")
    comment = inputs.text("comment")

    async def alter(unit: Unit, current: Json) -> tuple[Json, list[Change]]:
        require_state(current, ("booked", "arrived"), "no-show")
        return {**current, "status": "noshow", **({"comment": comment} if comment else {})}, []

    return await changed(context, request, before, "no-show", alter)


def require_concerned(party: Party, appointment: Json, what: str) -> None:
    """Raises ForbiddenError: 403; the caller neither takes part nor speaks for those who offer the time."""
    if party.decides(appointment) or (party.is_patient and party.among(appointment)):
        return
    raise ForbiddenError(
        f"To {what} is for those who take part in Appointment/{appointment.get('id')} and the front desk.",
        key="HS-SCHED-PARTY",
    )


def require_in_time(party: Party, appointment: Json, tables: Sequence[Timetable]) -> None:
    """Raises UnprocessableError: 422; so short before a visit patients have to call."""
    notice = max((table.rule.change_notice for table in tables if table.rule is not None), default=0)
    if not party.is_patient or not notice or appointment.get("status") != "booked":
        return
    start = moment.parsed(appointment["start"], "Appointment.start")
    if start - moment.now() < timedelta(minutes=notice):
        raise UnprocessableError(
            f"Later than {notice} minutes before the start, only the practice cancels and moves an Appointment.",
            key="HS-SCHED-LATE",
            expression="Appointment.start",
        )
