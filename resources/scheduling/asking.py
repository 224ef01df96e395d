"""What a client asks for: an offer of `$find`, an Appointment that it has made itself, or one that is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Request
from resources.scheduling import moment
from resources.scheduling.availability import codes_of
from resources.scheduling.bookable import bookable
from resources.scheduling.companion import schedule_of, slots_of
from resources.scheduling.extensions import SERVERS_OWN, without
from resources.scheduling.offers import Wanted, is_offer, wanted_by
from resources.scheduling.parties import Party, party_of, patients_for
from resources.scheduling.schedules import Timetable, participants_of, read, schedules_named, timetables
from resources.scheduling.selection import references

Json = dict[str, Any]

#: The parameters by which times are asked for.
ASKING_NAMES = ("appointment-reference", "appointment-resource", "patient-reference")


@dataclass(frozen=True, slots=True)
class Asking:
    """What a client wants to have.

    Attributes:
        wanted: the Schedules, the type of visit and the start
        draft: the Appointment that the client has sent; empty where it names an offer
        tables: the Schedules
        end: when it ends, where that is said
    """

    wanted: Wanted
    draft: Json
    tables: tuple[Timetable, ...]
    end: datetime | None = None


async def asked_of(
    context: Context, request: Request, operation: str, *more: str
) -> tuple[Inputs, Party, Asking, list[str]]:
    """What an operation asks for that makes Appointments of what is not stored, who asks, and for whom.

    Args:
        more: the parameters that it has beside those by which times are asked for

    Raises:
        UnprocessableError: 422; it is stored already.
        NotFoundError: 404; there is no such offer.
    """
    inputs = Inputs.of(request, bare="appointment-resource")
    inputs.only(*ASKING_NAMES, *more)
    party = await party_of(context)
    given = await given_in(context, inputs, request.base_url)
    if isinstance(given, str):
        raise UnprocessableError(
            f"Appointment/{given} is stored already; ${operation} is for what $find proposes, or an Appointment of "
            "your own.",
            key="HS-SCHED-NO-OFFER",
            expression="Parameters.parameter.where(name='appointment-reference')",
        )
    named = references(inputs, "patient-reference", request.base_url, ("Patient",)) or patients_in(given.draft)
    return inputs, party, given, await patients_for(context, party, named)


async def given_in(context: Context, inputs: Inputs, base_url: str) -> Asking | str:
    """What is asked for; the id of an Appointment that is stored.

    Raises:
        InvalidError: 400; nothing is named.
        NotFoundError: 404; an offer that this server has not given out.
    """
    draft = inputs.resource("appointment-resource")
    named = references(inputs, "appointment-reference", base_url, ("Appointment",))
    if draft is not None:
        if draft.get("resourceType") != "Appointment":
            raise InvalidError("`appointment-resource` is no Appointment.", key="HS-OP-PARAMETER")
        require_sound(context, draft)
        draft = without(draft, *SERVERS_OWN)
        name = str(draft.get("id", ""))
        if name and not is_offer(name) and await context.seen.repository.current("Appointment", name) is not None:
            return name
        return await asking_by(context, draft)
    if len(named) != 1:
        raise InvalidError(
            "One `appointment-reference` or an `appointment-resource` was expected.",
            code="required",
            expression="Parameters.parameter.where(name='appointment-reference')",
            key="HS-OP-PARAMETER",
        )
    name = named[0].partition("/")[2]
    if not is_offer(name):
        return name
    wanted = await wanted_by(context.repository.store, name)
    tables = await tables_named(context, wanted.schedules)
    return Asking(wanted, {}, tables)


def require_sound(context: Context, draft: Json) -> None:
    """Look at an Appointment that is not finished yet: its end, and with it its time, may be open.

    Raises:
        InvalidError: 400; every other fault of it.
    """
    issues = [
        issue
        for issue in context.repository.issues_of(draft)
        if issue.severity in ("error", "fatal") and not (issue.rule is not None and issue.rule[1] in ("app-2", "app-3"))
    ]
    if issues:
        raise InvalidError(issues)


async def tables_named(context: Context, ids: Sequence[str]) -> tuple[Timetable, ...]:
    """The Schedules of some ids, all of them.

    Raises:
        NotFoundError: 404; one is not there, or not active.
    """
    known = {t.id: t for t in await timetables(context.repository.store.unguarded, {"_id": {"$in": list(ids)}})}
    for one in ids:
        if one not in known:
            raise NotFoundError(f"There is no active Schedule/{one}.", key="HS-SCHED-SCHEDULE")
    (allowed,) = await bookable(context, [[known[one] for one in ids]]) or [[]]
    if not allowed:
        raise NotFoundError("Whose time this is cannot be booked any more.", key="HS-SCHED-SCHEDULE")
    return tuple(allowed)


async def asking_by(context: Context, draft: Json) -> Asking:
    """What an Appointment that a client has made asks for: the Schedules that it names, or those of who takes part."""
    if "start" not in draft:
        raise UnprocessableError(
            "The Appointment has no start.", code="required", expression="Appointment.start", key="HS-SCHED-START"
        )
    store = context.repository.store.unguarded
    ids = [ref.rpartition("/")[2] for ref in schedules_named(draft)]
    if not ids:
        slots = await read(store, "Slot", slots_of(draft))
        ids = [schedule_of(slot) for slot in slots]
    if not ids:
        actors = [actor for actor in participants_of(draft) if not actor.startswith("Patient/")]
        found = await timetables(store, {"x.actor": {"$in": actors}}) if actors else []
        ids = [table.id for table in found if table.rule is not None or not table.own]
    if not ids:
        raise UnprocessableError(
            "Nobody who takes part has a Schedule, and the Appointment names no Slot.",
            expression="Appointment.participant",
            key="HS-SCHED-NO-SCHEDULE",
        )
    tables = await tables_named(context, list(dict.fromkeys(ids)))
    codes = tuple(code for concept in draft.get("serviceType", ()) for code in sorted(codes_of(concept), reverse=True))
    start = moment.parsed(draft["start"], "Appointment.start")
    end = moment.parsed(draft["end"], "Appointment.end") if "end" in draft else None
    return Asking(Wanted(tuple(t.id for t in tables), codes, start), draft, tables, end)


def patients_in(appointment: Json) -> tuple[str, ...]:
    return tuple(actor for actor in participants_of(appointment) if actor.startswith("Patient/"))
