"""What follows a change of an Appointment: timers are set, people are told, a freed time goes to the waitlist.

It follows the change feed, at least once: everything here may be done again and changes nothing more. What is held
runs out by its own moment, whether or not anything here has run (`locks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from fhir_server.repository.changes import Change
from resources.scheduling import moment
from resources.scheduling.booking import offered_by_waitlist
from resources.scheduling.changing import REASONS, tables_of
from resources.scheduling.companion import times_of
from resources.scheduling.extensions import ALTERNATIVE, extensions, reference
from resources.scheduling.locks import prepare
from resources.scheduling.schedules import participants_of, schedules_named
from resources.scheduling.tell import tell
from resources.scheduling.visits import cancelled, waiting_again
from resources.scheduling.waitlist import offer_freed

Json = dict[str, Any]

EXPIRY, REMINDER, FREED = "scheduling-expiry", "scheduling-reminder", "scheduling-freed"

#: What is told of an Appointment that has come into a state, and whom: patients, or those who offer the time.
NEWS = {
    "booked": ("appointment-booked", ("Patient/", "Practitioner")),
    "cancelled": ("appointment-cancelled", ("Patient/", "Practitioner")),
    "pending": ("appointment-asked", ("Practitioner",)),
}

#: Where no rule says when to remind.
USUAL_REMINDERS = (24 * 60, 2 * 60)


def join(context: Context) -> None:
    """Register what follows Appointments."""
    context.feed.register(Follower("scheduling", frozenset({"Appointment"}), partial(follow, context), before=True))
    context.timers.register(EXPIRY, partial(expire, context))
    context.timers.register(REMINDER, partial(remind, context))
    context.timers.register(FREED, partial(freed, context))


async def follow(context: Context, changes: Sequence[Changed]) -> None:
    await prepare(context.repository.store)
    for changed in changes:
        before = codec.decode(changed.before) if changed.before is not None else {}
        after = codec.decode(changed.body) if changed.body is not None else {}
        await set_timers(context, changed.id, after)
        await tell_news(context, changed, before, after)
        await give_to_waitlist(context, changed, before, after)


async def set_timers(context: Context, appointment_id: str, after: Json) -> None:
    """Have a hold end at its moment, and those who come be reminded."""
    ends = [times.until for times in times_of(after) if times.until is not None]
    if ends:
        await context.timers.set(EXPIRY, appointment_id, moment.us_of(min(ends)))
    else:
        await context.timers.cancel(EXPIRY, appointment_id)
    if after.get("status") != "booked" or "start" not in after:
        return  # reminders that are set find that out
    start = moment.parsed(after["start"], "Appointment.start")
    tables = await tables_of(context.repository.store.unguarded, after)
    minutes = next((table.rule.reminders for table in tables if table.rule is not None), USUAL_REMINDERS)
    for number in minutes:
        due = start - timedelta(minutes=number)
        if due > moment.now():
            key = f"{appointment_id}/{number}"
            await context.timers.set(REMINDER, key, moment.us_of(due), {"id": appointment_id, "start": after["start"]})


async def tell_news(context: Context, changed: Changed, before: Json, after: Json) -> None:
    """Tell those whom it concerns that an Appointment has come into a state, or is at another time."""
    if not before and not schedules_named(after):
        return  # brought in by a system as it was: no news to anybody
    status = after.get("status", "")
    moved = status == "booked" and before.get("status") == "booked" and before.get("start") != after.get("start")
    side = offered_to(before, after)
    if side:
        for person in participants_of(after):
            if person.startswith(side):
                await tell(context, person, "appointment-offered", after, str(changed.version))
        return
    if not moved and (status == before.get("status") or status not in NEWS):
        return
    if status == "cancelled" and before.get("status") not in ("pending", "booked", "arrived", "checked-in"):
        return
    kind, whom = NEWS[status]
    if status == "pending" and offered_by_waitlist(after):
        kind, whom = "waitlist-offer", ("Patient/",)
    kind = "appointment-moved" if moved else kind
    for person in participants_of(after):
        if person.startswith(whom):
            await tell(context, person, kind, after, str(changed.version))


def offered_to(before: Json, after: Json) -> tuple[str, ...]:
    """Those to whom other times are offered by a change: the side that does not offer them; empty where none are."""
    offers = list(extensions(after, ALTERNATIVE)) if after.get("status") == "pending" else []
    if not offers or offers == list(extensions(before, ALTERNATIVE)):
        return ()
    return ("Practitioner",) if reference(offers[0], "by").startswith("Patient/") else ("Patient/",)


async def give_to_waitlist(context: Context, changed: Changed, before: Json, after: Json) -> None:
    """Have the times that an Appointment has given back offered, once this is handled."""
    if not before:
        return
    people = [actor for actor in participants_of(before) if not actor.startswith("Patient/")]
    for number, (start, end) in enumerate(given_back(before, after)):
        if people and start > moment.now():
            data = {"actors": people, "start": moment.text_of(start), "end": moment.text_of(end)}
            key = f"{changed.id}/{changed.version}/{number}"
            await context.timers.set(FREED, key, moment.us_of(moment.now()), data)


def given_back(before: Json, after: Json) -> Iterator[tuple[datetime, datetime]]:
    kept = {(times.start, times.end) for times in times_of(after)}
    for times in times_of(before):
        if (times.start, times.end) not in kept:
            yield times.start, times.end


async def expire(context: Context, timer: Timer) -> int | None:
    """A hold, a request or an offer that nobody has answered ends: the time is free, and everybody is told."""
    current = await appointment_of(context, timer.key)
    if current is None:
        return None
    version, appointment = current
    ends = [times.until for times in times_of(appointment) if times.until is not None]
    if not ends:
        return None
    if min(ends) > moment.now():
        return moment.us_of(min(ends))
    if offered_by_waitlist(appointment):
        resource = waiting_again(appointment)
    else:
        reason = {"coding": [{"system": REASONS, "code": "other"}], "text": "Not confirmed in time"}
        resource = cancelled(appointment, reason)
    change = Change("PUT", "Appointment", timer.key, resource, if_match=version, by="expire")
    await context.repository.commit(change)
    return None


async def remind(context: Context, timer: Timer) -> None:
    """Remind those who come; not of what was cancelled or is at another time by now."""
    current = await appointment_of(context, timer.data["id"])
    if current is None or current[1].get("status") != "booked" or current[1].get("start") != timer.data["start"]:
        return
    for person in participants_of(current[1]):
        if person.startswith(("Patient/", "RelatedPerson/")):
            await tell(context, person, "appointment-reminder", current[1], timer.key)


async def freed(context: Context, timer: Timer) -> None:
    place = "Appointment.start"
    start, end = (moment.parsed(timer.data[name], place) for name in ("start", "end"))
    await offer_freed(context, timer.data["actors"], start, end)


async def appointment_of(context: Context, appointment_id: str) -> tuple[int, Json] | None:
    """An Appointment with its version; None where it was deleted."""
    try:
        version = await context.repository.read("Appointment", appointment_id)
    except FhirError:
        return None
    return version.version, codec.decode(version.body or b"")
