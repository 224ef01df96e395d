"""Changing an Appointment that is stored: read, looked at, altered and written in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Committed
from fhir_server.storage.unit import Unit
from resources.scheduling.asking import Asking, asking_by
from resources.scheduling.booking import transacted
from resources.scheduling.schedules import (
    Timetable,
    found,
    participants_of,
    read,
    schedules_named,
    selves,
    timetables_of,
)
from resources.states import listed

Json = dict[str, Any]

#: Gives the new content, and what else is to be written.
Alter = Callable[[Unit, Json], Awaitable[tuple[Json, list[Change]]]]

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

REASONS = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"


async def changed(
    context: Context, request: Request, before: Json, by: str, alter: Alter, asking: Asking | None = None
) -> Answer:
    """The Appointment as an operation has changed it.

    Args:
        before: as the caller sees it
        alter: may be called several times, each time with what is there then
        asking: the times that are wanted anew, for what is told to who does not get them
    """
    name = str(before["id"])

    async def work(unit: Unit) -> list[Committed]:
        version = await context.within(unit).repository.read("Appointment", name)
        resource, others = await alter(unit, codec.decode(version.body or b""))
        change = Change("PUT", "Appointment", name, resource, if_match=version.version, by=by)
        repository = context.repository
        return await repository.commit_within(unit, [repository.check(one) for one in (change, *others)])

    tables: Sequence[Timetable] = asking.tables if asking is not None else ()
    wanted = asking.wanted if asking is not None else None
    if wanted is None:
        committed = await transacted(context, work, (), (), _NEVER)
    else:
        committed = await transacted(context, work, tables, wanted.codes, wanted.start, but=name)
    one = committed[0]
    return Answer(200, one.version.body, version=one.version.version, touched=touched_by(committed))


def require_state(appointment: Json, states: Sequence[str], operation: str) -> None:
    """Raises ConflictError: 409; the Appointment is in another state."""
    if appointment.get("status") not in states:
        raise ConflictError(
            f"Appointment/{appointment.get('id')} is {appointment.get('status')!r}; ${operation} is for what is "
            f"{listed(states)}.",
            key="HS-SCHED-STATE",
            expression="Appointment.status",
        )


async def tables_of(reads: Any, appointment: Json) -> list[Timetable]:
    """The Schedules whose time an Appointment takes: those that it names, or those of who takes part."""
    ids = (ref.rpartition("/")[2] for ref in schedules_named(appointment))
    schedules = await read(reads, "Schedule", ids)
    if not schedules:
        actors = [actor for actor in participants_of(appointment) if not actor.startswith("Patient/")]
        known, _ = await selves(reads, actors)
        names = sorted({name for one in known.values() for name in one})
        schedules = await found(reads, "Schedule", {"x.actor": {"$in": names}}) if names else []
    return await timetables_of(reads, schedules)


async def asking_at(context: Context, appointment: Json, start: str, end: str | None = None) -> Asking:
    """The same visit at another time."""
    rest = {name: value for name, value in appointment.items() if name not in ("start", "end", "slot")}
    moved = {**rest, "start": start, **({"end": end} if end else {})}
    return await asking_by(context, moved)


def reason_of(inputs: Inputs, code: str, text: str = "") -> Json:
    """The reason that is given, as a CodeableConcept, a code or words; or else one of the standard's."""
    given = inputs.one("reason")
    if type(given) is dict:
        return given if "coding" in given or "text" in given else {"coding": [given]}
    if type(given) is str and given:
        return {"coding": [{"system": REASONS, "code": given}]} if given in CODES else {"text": given}
    return {"coding": [{"system": REASONS, "code": code}], **({"text": text} if text else {})}


#: Codes of http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason.
CODES = frozenset(
    {
        *("pat", "pat-crs", "pat-cpp", "pat-dec", "pat-fb", "pat-lt", "pat-mt", "pat-mv", "pat-preg", "pat-swl"),
        *("pat-uwo", "prov", "prov-pers", "prov-dch", "prov-edu", "prov-hosp", "prov-labs", "prov-mss", "prov-onc"),
        *("maint", "meds-inc", "other", "oth-cms", "oth-err", "oth-fin", "oth-iv", "oth-int", "oth-mu", "oth-room"),
        *("oth-oerr", "oth-swie", "oth-weath"),
    }
)


def instance_of(request: Request) -> str:
    """The id in the address of an operation of an instance."""
    return request.path[1]
