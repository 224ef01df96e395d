"""`Appointment/$hold` and `Appointment/$book`: a time becomes somebody's. ITI-116 and ITI-117.

The Appointment, the locks of its times and the Slots that show them are written in one transaction, or not at all.

Spec: https://profiles.ihe.net/ITI/Scheduling/ITI-116.html, https://profiles.ihe.net/ITI/Scheduling/ITI-117.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.bundle import searchset
from fhir_server.interactions.conditional import process_locks
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.interactions.permission import require
from fhir_server.model import codec
from fhir_server.model.clock import new_id
from fhir_server.model.errors import ConflictError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change, FailedChangeError
from fhir_server.repository.repository import Committed
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.asking import ASKING_NAMES, Asking, asked_of, asking_by, given_in, patients_in
from resources.scheduling.calendars import Calendar, Free, calendars, together
from resources.scheduling.companion import following_id
from resources.scheduling.conflicts import TakenError, alternatives
from resources.scheduling.extensions import (
    ALTERNATIVE,
    HELD_UNTIL,
    OFFERED,
    SCHEDULE,
    extensions,
    value_of,
    with_extension,
    without,
)
from resources.scheduling.locks import TimeTakenError
from resources.scheduling.offers import appointment_of
from resources.scheduling.parties import Party, party_of, patients_for, seen
from resources.scheduling.responses import answered
from resources.scheduling.schedules import Timetable, participants_of, read, timetables_of
from resources.scheduling.selection import references
from resources.states import listed

Json = dict[str, Any]

#: Times that can be held for one patient at once.
MOST_HOLDS = 8

#: What is stored and can become booked.
BOOKABLE = ("proposed", "waitlist", "pending")

BOOK_NAMES = (*ASKING_NAMES, "patient-resource", "comment")


async def hold(context: Context, request: Request) -> Answer:
    """Appointment/$hold: the time is held for a while; the Appointment is `pending`.

    Raises:
        TakenError: 409; somebody has it.
        NotFoundError: 404; there is no such offer.
    """
    _, party, given, patients = await asked_of(context, request, "hold")
    await require_few_holds(context, party, patients)
    return await made(context, request, given, party, patients, "hold")


async def require_few_holds(context: Context, party: Party, patients: Sequence[str]) -> None:
    """Raises UnprocessableError: 422; a patient keeps the time of others from them."""
    if not party.is_patient:
        return
    waiting = {
        "x.actor": {"$in": list(patients)},
        "x.status": "=pending",
        "x.date.s": {"$gt": moment.us_of(moment.now())},
    }
    if await context.repository.store.unguarded.count("Appointment", waiting, MOST_HOLDS) >= MOST_HOLDS:
        raise UnprocessableError(
            f"{MOST_HOLDS} times are held for you already; book one, or let them go by $decline.", key="HS-SCHED-HOLDS"
        )


async def book(context: Context, request: Request) -> Answer:
    """Appointment/$book: the Appointment is `booked`, or `pending` where somebody has to confirm it.

    Raises:
        TakenError: 409; somebody has the time.
        NotFoundError: 404; there is no such offer, and no such Appointment that the caller sees.
    """
    inputs = Inputs.of(request, bare="appointment-resource")
    inputs.only(*BOOK_NAMES)
    party = await party_of(context)
    given = await given_in(context, inputs, request.base_url)
    comment = inputs.text("comment") or ""
    if isinstance(given, str):
        return await book_held(context, request, given, party, comment)
    patient = inputs.resource("patient-resource")
    named = references(inputs, "patient-reference", request.base_url, ("Patient",)) or patients_in(given.draft)
    if patient is not None and "id" in patient:
        named = (f"Patient/{patient['id']}",)
    if patient is not None and "id" not in patient and not named:
        return await made(
            context, request, given, party, [], "book", comment, newcomer=newcomer(party, context, patient)
        )
    patients = await patients_for(context, party, named)
    return await made(context, request, given, party, patients, "book", comment)


def newcomer(party: Party, context: Context, patient: Json) -> Json:
    """The record of somebody who was never here, made together with the Appointment.

    Raises:
        UnprocessableError: 422; the caller makes no records of others.
        ForbiddenError: 403; the app's scopes do not let it make any.
    """
    if party.role not in ("operator", "system", "front-desk"):
        raise UnprocessableError(
            "A new record is made by the front desk; name a Patient who is known here.",
            key="HS-SCHED-PATIENT",
            expression="Parameters.parameter.where(name='patient-resource')",
        )
    require(context.seen, "Patient", "c")
    organization = context.caller.identity.organization
    if party.role == "front-desk" and organization is not None:
        return {**patient, "managingOrganization": {"reference": organization}}
    return patient


async def made(
    context: Context,
    request: Request,
    asking: Asking,
    party: Party,
    patients: Sequence[str],
    by: str,
    comment: str = "",
    *,
    newcomer: Json | None = None,
) -> Answer:
    """A new Appointment at the time that is asked for."""
    appointment_id = new_id()
    patient_id = new_id()
    people = [*patients, *([f"Patient/{patient_id}"] if newcomer is not None else [])]

    async def work(unit: Unit) -> list[Committed]:
        free, own = await free_at(unit, asking, strict=party.is_patient)
        resource = written(appointment_id, asking, own, free, people)
        if comment:
            resource["comment"] = comment
        resource = as_held(resource, own[0]) if by == "hold" else as_booked(resource, own, party)
        changes = [Change("POST", "Appointment", appointment_id, resource, fresh=True, by=by)]
        if newcomer is not None:
            changes.insert(0, Change("POST", "Patient", patient_id, newcomer, fresh=True, by=by))
        repository = context.repository
        return await repository.commit_within(unit, [repository.check(change) for change in changes])

    committed = await transacted(context, work, asking.tables, asking.wanted.codes, asking.wanted.start)
    return shown(request, committed[-1], committed, 201)


async def free_at(unit: Unit, asking: Asking, *, strict: bool, but: str = "") -> tuple[Free, list[Calendar]]:
    """The time that is asked for, as it is now.

    Args:
        strict: whether it must be one that `$find` would offer; staff books outside the hours as they like

    Raises:
        TimeTakenError: 409; it is not free.
        UnprocessableError: 422; none of the Schedules has this type of visit.
    """
    now, start = moment.now(), asking.wanted.start
    minute = timedelta(minutes=1)
    tables = asking.tables
    schedules = await timetables_of(unit, await read(unit, "Schedule", (table.id for table in tables)))
    own = await calendars(unit, schedules, asking.wanted.codes, start, start + minute, now=now, but=but)
    if len(own) < len(tables):
        raise UnprocessableError(
            "Not all of the Schedules have this type of visit.",
            key="HS-SCHED-SERVICE",
            expression="Appointment.serviceType",
        )
    free = next((one for one in together(own, start, start + minute, now) if one.start == start), None)
    if free is not None and (asking.end is None or asking.end == free.end):
        return free, own
    if strict or any(calendar.slots is not None for calendar in own):
        raise TimeTakenError(tables[0].id, start, free.end if free else start + minute)
    end = asking.end or start + timedelta(minutes=own[0].service.minutes)
    if end <= start or end <= now:
        raise UnprocessableError("The time has passed.", key="HS-SCHED-PAST", expression="Appointment.end")
    return Free(start, end), own


def written(appointment_id: str, asking: Asking, own: Sequence[Calendar], free: Free, people: Sequence[str]) -> Json:
    """The Appointment as it is stored: what the client has sent, with what follows from the Schedules."""
    made = appointment_of(appointment_id, own, free, "proposed", people)
    draft = {name: value for name, value in asking.draft.items() if name not in ("id", "meta", "status", "slot")}
    if draft:
        named = set(participants_of(draft))
        rows = [
            *draft.get("participant", ()),
            *(p for p in made["participant"] if p["actor"]["reference"] not in named),
        ]
        kept = [one for one in draft.get("extension", ()) if one.get("url") not in (SCHEDULE, HELD_UNTIL, ALTERNATIVE)]
        made = {**made, **draft, "start": made["start"], "end": made["end"], "participant": rows}
        made["extension"] = [*appointment_of(appointment_id, own, free, "proposed", ())["extension"], *kept]
    following = [{"reference": f"Slot/{following_id(appointment_id, c.table.id)}"} for c in own if c.rule is not None]
    slots = [*({"reference": f"Slot/{slot}"} for slot in dict.fromkeys(free.slots)), *following]
    return {**made, "slot": slots} if slots else made


def as_held(appointment: Json, first: Calendar) -> Json:
    minutes = first.table.rule.hold if first.table.rule is not None else 10
    until = moment.text_of(moment.now() + timedelta(minutes=minutes))
    held = with_extension(without(appointment, HELD_UNTIL), {"url": HELD_UNTIL, "valueInstant": until})
    return {**held, "status": "pending"}


def offered_by_waitlist(appointment: Json) -> bool:
    """Whether an Appointment holds a time that its patient was offered from the waitlist."""
    start = appointment.get("start")
    return start is not None and any(value_of(one) == start for one in extensions(appointment, OFFERED))


def as_booked(appointment: Json, own: Sequence[Calendar], party: Party) -> Json:
    """Booked, or pending where the practitioner has the last word and is not the one who books."""
    appointment = without(appointment, HELD_UNTIL)
    patients = frozenset(patients_in(appointment))
    confirming = [c for c in own if c.service.confirmed]
    if confirming and not party.decides(appointment) and not offered_by_waitlist(appointment):
        rule = confirming[0].table.rule
        until = moment.text_of(moment.now() + timedelta(hours=rule.answer if rule is not None else 72))
        asked = with_extension(appointment, {"url": HELD_UNTIL, "valueInstant": until})
        return {**answered(asked, patients, "accepted"), "status": "pending"}
    everybody = frozenset(participants_of(appointment))
    return {**answered(appointment, everybody, "accepted"), "status": "booked"}


async def book_held(context: Context, request: Request, name: str, party: Party, comment: str) -> Answer:
    """An Appointment that is stored becomes booked: one that was held, or proposed.

    A hold that has run out is taken again if nobody else has the time.
    """
    _, before = await seen(context, name)
    if before.get("status") not in BOOKABLE:
        raise ConflictError(
            f"Appointment/{name} is {before.get('status')!r}; $book is for what is {listed(BOOKABLE)}.",
            key="HS-SCHED-STATE",
            expression="Appointment.status",
        )
    asking = await asking_by(context, before)

    async def work(unit: Unit) -> list[Committed]:
        version = await context.within(unit).repository.read("Appointment", name)
        current = codec.decode(version.body or b"")
        if current.get("status") not in BOOKABLE:
            raise ConflictError(f"Appointment/{name} is {current.get('status')!r} by now.", key="HS-SCHED-STATE")
        asked = replace(asking, draft=current)
        strict = party.is_patient and current["status"] != "pending"
        free, own = await free_at(unit, asked, strict=strict, but=name)
        resource = written(name, asked, own, free, patients_in(current))
        if comment:
            resource["comment"] = comment
        resource = as_booked(without(resource, HELD_UNTIL, ALTERNATIVE), own, party)
        change = Change("PUT", "Appointment", name, resource, if_match=version.version, by="book")
        return await context.repository.commit_within(unit, [context.repository.check(change)])

    committed = await transacted(context, work, asking.tables, asking.wanted.codes, asking.wanted.start, but=name)
    return shown(request, committed[-1], committed, 200)


async def transacted(
    context: Context,
    work: Any,
    tables: Sequence[Timetable],
    codes: Sequence[str],
    start: datetime,
    *,
    but: str = "",
) -> list[Committed]:
    """Carry out what takes times of Schedules, in one transaction.

    Raises:
        TakenError: 409; somebody was faster: with what is still free.
    """
    store = context.repository.store
    for resource_type in ("Appointment", "Slot", "AppointmentResponse", "Patient"):
        await store.ensure(resource_type)
    try:
        # Within a process nobody collides; other processes start again when they do.
        async with process_locks(sorted(f"schedule {table.id}" for table in tables)):
            committed: list[Committed] = await store.transact(work)
    except FailedChangeError as failed:
        raise failed.cause from failed
    except TimeTakenError as taken:
        raise TakenError(str(taken), await alternatives(context, tables, codes, start, but=but)) from taken
    return committed


def shown(request: Request, committed: Committed, all_: Sequence[Committed], status: int) -> Answer:
    """A searchset of the one Appointment, as IHE has it."""
    version = committed.version
    address = f"{request.base_url}/Appointment/{version.id}"
    warnings = [issue for one in all_ for issue in one.warnings]
    body = searchset(total=1, links=[], matches=[(address, version.body or b"")], issues=warnings)
    headers = {"Location": f"{address}/_history/{version.version}"} if status == 201 else {}
    return Answer(status, body, headers, touched=touched_by(all_))
