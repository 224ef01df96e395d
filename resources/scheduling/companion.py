"""What is written along with Appointments: the locks of their times, and the Slots that show these.

Whoever writes an Appointment, by whatever way, takes the time of each Schedule of those who take part, and of the Slots
that it names; giving it up, by any way, gives that back. The Slots say it to everybody who reads Slots.

Times that have passed are history, and are not locked: a system may bring in what happened as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.scheduling import moment
from resources.scheduling.availability import Rule, Service, codes_of
from resources.scheduling.extensions import (
    ALTERNATIVE,
    AVAILABILITY,
    FOLLOWS,
    HELD_UNTIL,
    TAG_SYSTEM,
    extensions,
    follows_appointment,
    value,
    value_of,
)
from resources.scheduling.locks import Claim, TimeTakenError, settle
from resources.scheduling.schedules import Timetable, actors_of, found, participants_of, read, selves, timetables_of

Json = dict[str, Any]

#: In these states an Appointment takes time.
HOLDING = frozenset({"pending", "booked", "arrived", "checked-in", "fulfilled"})

#: Names this part as the writer of what follows an Appointment.
BY = "scheduling"

#: Begins the ids of Slots that follow an Appointment.
FOLLOWING = "busy-"


@dataclass(frozen=True, slots=True)
class Times:
    """When an Appointment takes time, and until when.

    Attributes:
        slots: the ids of Slots that it is
        part: names this time among those of the Appointment: empty for its own, else that of an alternative
    """

    start: datetime
    end: datetime
    until: datetime | None
    slots: tuple[str, ...]
    part: str = ""


def times_of(appointment: Json) -> Iterator[Times]:
    """The times that an Appointment takes or holds: its own, and those that are offered instead."""
    if appointment.get("status") not in HOLDING:
        return
    held = value(appointment, HELD_UNTIL)
    until = moment.parsed(held, "Appointment.extension") if held and appointment["status"] == "pending" else None
    if "start" in appointment and "end" in appointment:
        start, end = (moment.parsed(appointment[name], f"Appointment.{name}") for name in ("start", "end"))
        yield Times(start, end, until, tuple(slots_of(appointment)))
    if appointment["status"] == "pending":
        for offer in extensions(appointment, ALTERNATIVE):
            place = "Appointment.extension"
            start, end = (moment.parsed(value(offer, name), place) for name in ("start", "end"))
            until = moment.parsed(value(offer, "until"), place)
            slots = slots_of({"slot": [value_of(one) for one in extensions(offer, "slot")]})
            yield Times(start, end, until, tuple(slots), f"alternative {moment.us_of(start)}")


def following_id(appointment: str, schedule: str, part: str = "") -> str:
    """The id of the Slot that shows a time of an Appointment, which stays the same when the Appointment is moved."""
    return FOLLOWING + hashlib.sha256(f"{appointment} {schedule} {part}".encode()).hexdigest()[:32]


class Landscape:
    """The Schedules and Slots that some Appointments may take, read at once."""

    def __init__(self, tables: Sequence[Timetable], slots: Iterable[Json]) -> None:
        self._tables = tables
        self.slots = {slot["id"]: slot for slot in slots}

    @classmethod
    async def of(cls, unit: Unit, appointments: Sequence[Json]) -> Landscape:
        slots = await read(
            unit, "Slot", (slot for one in appointments for times in times_of(one) for slot in times.slots)
        )
        actors = {actor for one in appointments for actor in participants_of(one) if not actor.startswith("Patient/")}
        known, _ = await selves(unit, actors)
        names = sorted({name for found in known.values() for name in found})
        ids = sorted({schedule_of(slot) for slot in slots} - {""})
        either: list[Json] = [{"_id": {"$in": ids}}] if ids else []
        either += [{"x.actor": {"$in": names}}] if names else []
        schedules = await found(unit, "Schedule", {"$or": either}) if either else []
        return cls(await timetables_of(unit, [one for one in schedules if one.get("active") is not False]), slots)

    def tables_of(self, appointment: Json) -> list[Timetable]:
        """The Schedules of those who take part."""
        actors = set(participants_of(appointment))
        return [table for table in self._tables if table.actors & actors]

    def claims_of(self, appointment: Json, now: datetime) -> tuple[list[Claim], list[Json]]:
        """What an Appointment takes, and the Slots that show it."""
        claims: list[Claim] = []
        shown: list[Json] = []
        tables = self.tables_of(appointment)
        own = {table.id for table in self._tables if table.own}
        for times in times_of(appointment):
            if times.end <= now or (times.until is not None and times.until <= now):
                continue
            by_slot: set[str] = set()
            for slot in (self.slots[one] for one in times.slots if one in self.slots):
                schedule = schedule_of(slot)
                if schedule and schedule not in own and not follows_appointment(slot):
                    by_slot.add(schedule)
                    claims.append(Claim(schedule, times.start, times.end, 1, slot["id"], times.until, (slot["id"],)))
                    shown.append({**slot, "status": busy(appointment, times)})
            for table in tables:
                if table.rule is not None and table.id not in by_slot:
                    claim, slots = claim_of(appointment, times, table, table.rule)
                    claims.append(claim)
                    shown += slots
        return claims, shown


def busy(appointment: Json, times: Times) -> str:
    return "busy-tentative" if times.part or appointment["status"] == "pending" else "busy"


def claim_of(appointment: Json, times: Times, table: Timetable, rule: Rule) -> tuple[Claim, list[Json]]:
    """The time that an Appointment takes of a Schedule with rules, buffers included, and the Slots that show it."""
    service = service_in(appointment, rule)
    before, after = timedelta(minutes=service.before), timedelta(minutes=service.after)
    spans = [
        ("", times.start, times.end, busy(appointment, times)),
        ("before", times.start - before, times.start, "busy-unavailable"),
        ("after", times.end, times.end + after, "busy-unavailable"),
    ]
    slots: list[Json] = []
    for part, start, end, status in spans:
        if start < end:
            slot_id = following_id(appointment["id"], table.id, f"{times.part}{part}")
            slots.append(following_slot(slot_id, table, start, end, status, rule))
    claim = Claim(table.id, times.start - before, times.end + after, rule.capacity, "", times.until)
    return replace(claim, kept=tuple(slot["id"] for slot in slots)), slots


def service_in(appointment: Json, rule: Rule) -> Service:
    """The visit type of an Appointment, as a rule has it; one that it does not know has no buffers."""
    codes = [code for concept in appointment.get("serviceType", ()) for code in codes_of(concept)]
    found = rule.service_of(codes) if codes else (None if rule.services[0].codes else rule.services[0])
    return found or Service()


def following_slot(slot_id: str, table: Timetable, start: datetime, end: datetime, status: str, rule: Rule) -> Json:
    return {
        "resourceType": "Slot",
        "id": slot_id,
        "meta": {"tag": [{"system": TAG_SYSTEM, "code": FOLLOWS}]},
        "schedule": {"reference": f"Schedule/{table.id}"},
        "status": status,
        "start": moment.text_of(start, rule.zone),
        "end": moment.text_of(end, rule.zone),
    }


def slots_of(appointment: Json) -> list[str]:
    """The ids of the Slots that it names."""
    found = (slot.get("reference", "") for slot in appointment.get("slot", ()))
    return [text.rpartition("/")[2] for text in found if text.rpartition("/")[0].endswith("Slot")]


def schedule_of(slot: Json) -> str:
    reference = str(slot.get("schedule", {}).get("reference", ""))
    return reference.rpartition("/")[2] if reference.rpartition("/")[0].endswith("Schedule") else ""


async def take_times(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of Appointments.

    Raises:
        TimeTakenError: 409; somebody has a time already.
        UnprocessableError: 422; fulfilled without an Encounter.
    """
    now = moment.now()
    holding = [with_id(write) for write in writes if write.new is not None and any(times_of(write.new))]
    landscape = await Landscape.of(unit, holding) if holding else Landscape([], ())
    claims: dict[str, list[Claim]] = {}
    wanted: dict[str, Json] = {}
    for appointment in holding:
        mine, slots = landscape.claims_of(appointment, now)
        if mine:
            claims[appointment["id"]] = mine
            wanted |= {slot["id"]: slot for slot in slots}
    had = [write.id for write in writes if write.old is not None]
    try:
        shown = await settle(unit, had, claims, now)
    except TimeTakenError as taken:
        taken.about = f"Appointment/{taken.appointment}"
        taken.wanted = next((one for one in holding if one["id"] == taken.appointment), None)
        raise
    await show(unit, repository, shown - wanted.keys(), list(wanted.values()), landscape)
    for write in writes:
        if begins(write, "fulfilled"):
            unit.ends[f"encounter of {write.reference}"] = encounter_of(unit, write.reference)


def with_id(write: Write) -> Json:
    assert write.new is not None
    return {**write.new, "id": write.id}


def begins(write: Write, status: str) -> bool:
    """Whether a write brings a stored Appointment into a state."""
    if write.old is None or write.new is None:
        return False
    return write.new.get("status") == status != write.old.get("status")


def encounter_of(unit: Unit, reference: str) -> Callable[[], Any]:
    async def check() -> None:
        if not await found(unit, "Encounter", {"x.appointment": reference}, 1):
            raise UnprocessableError(
                f"{reference} is fulfilled by an Encounter, and there is none whose `appointment` it is.",
                key="HS-SCHED-ENCOUNTER",
                expression="Appointment.status",
            )

    return check


async def show(
    unit: Unit, repository: Repository, gone: Iterable[str], wanted: Sequence[Json], landscape: Landscape
) -> None:
    """Have the Slots say what is taken: those of ours come and go, those of an EHR change their status."""
    ids = sorted(set(gone))
    there = await unit.get_many("Slot", [*ids, *(slot["id"] for slot in wanted)]) if ids or wanted else {}
    changes: list[Change] = []
    for slot_id in ids:
        if slot_id in there and (body := there[slot_id].body) is not None:
            slot = codec.decode(body)
            freed = None if follows_appointment(slot) else {**slot, "status": "free"}
            changes.append(Change("DELETE" if freed is None else "PUT", "Slot", slot_id, freed, by=BY))
    for slot in wanted:
        body = there[slot["id"]].body if slot["id"] in there else None
        if body is None or not same(codec.decode(body), slot):
            changes.append(Change("PUT", "Slot", slot["id"], slot, by=BY))
    if changes:
        await repository.store.unguarded.ensure("Slot")
        await repository.commit_within(unit, [repository.check(change) for change in changes])


def same(old: Json, new: Json) -> bool:
    return all(old.get(name) == new.get(name) for name in ("status", "start", "end", "schedule"))


async def adopt(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of Schedules: one that gets rules takes note of the Appointments that there are already.

    What was booked stays, also where it exceeds what the rules allow: nobody new is let in there.
    """
    now = moment.now()
    for write in writes:
        if write.new is None or write.new.get("active") is False:
            continue
        (table,) = await timetables_of(unit, [{**write.new, "id": write.id}])
        if table.own and not _known(write):
            await _adopt_all(unit, table, now)


def _known(write: Write) -> bool:
    """Whether a Schedule had rules before, and was of the same."""
    old, new = write.old, write.new
    if old is None or new is None or old.get("active") is False:
        return False
    return any(extensions(old, AVAILABILITY)) and actors_of(old) == actors_of(new)


async def _adopt_all(unit: Unit, table: Timetable, now: datetime) -> None:
    rule = table.rule
    assert rule is not None
    states = [f"={status}" for status in sorted(HOLDING)]
    since = {"$gt": moment.us_of(now - timedelta(days=1))}
    later = {"x.actor": {"$in": sorted(table.actors)}, "x.status": {"$in": states}, "x.date.s": since}
    for appointment in await found(unit, "Appointment", later, 5000):
        claims = [
            replace(claim_of(appointment, times, table, rule)[0], kept=(), capacity=2**31)
            for times in times_of(appointment)
            if times.end > now
        ]
        if claims:
            await settle(unit, (), {appointment["id"]: claims}, now)
