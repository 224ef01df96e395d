"""Schedules: whose time they are, and how it is given out.

A Schedule with rules of its own has time when these say so. One without rules has the free Slots that an EHR has
written; where there are none, the hours of the PractitionerRole that it is of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.model import codec
from fhir_server.storage.finding import Finds
from resources.scheduling.availability import Rule
from resources.scheduling.extensions import SCHEDULE, TIMEZONE, extensions, value, value_of
from resources.scheduling.local_time import zone_of
from resources.scheduling.rules_of_schedule import rule_of, rule_of_roles

Json = dict[str, Any]

#: More Schedules than anybody offers to choose among at once.
MOST = 500

#: Whose PractitionerRoles may have the hours of a Schedule.
PEOPLE = ("Practitioner/", "PractitionerRole/")
NOT_ACTIVE = "=false"
FALLBACK_ZONE = "UTC"


@dataclass(frozen=True, slots=True)
class Timetable:
    """A Schedule, as something that can be booked.

    Attributes:
        schedule: the resource
        actors: whose it is: its actors, and the Practitioners and PractitionerRoles that these are
        rule: its own rules, or those that the hours of PractitionerRoles make; None where neither says anything
        own: whether the rules are its own, so that Slots of others offer nothing
    """

    schedule: Json
    actors: frozenset[str]
    rule: Rule | None
    own: bool

    @property
    def id(self) -> str:
        return str(self.schedule["id"])


async def found(reads: Finds, resource_type: str, filter: Mapping[str, Any], limit: int = MOST) -> list[Json]:
    """Resources that meet a filter of the database."""
    rows = await reads.find(resource_type, {**filter, "d": None}, sort=[("_id", 1)], limit=limit)
    return [codec.decode(row["r"]) for row in rows]


async def read(reads: Finds, resource_type: str, ids: Iterable[str]) -> list[Json]:
    """The resources of some ids, in the order of these; those that are not there are left out."""
    wanted = list(dict.fromkeys(ids))
    rows = {one["id"]: one for one in await found(reads, resource_type, {"_id": {"$in": wanted}})} if wanted else {}
    return [rows[one] for one in wanted if one in rows]


async def selves(reads: Finds, actors: Iterable[str]) -> tuple[dict[str, frozenset[str]], list[Json]]:
    """For each actor who they are, and the active PractitionerRoles of all: a Practitioner is met in each of them."""
    given = sorted(set(actors))
    people = [actor for actor in given if actor.startswith("Practitioner/")]
    ids = [actor.partition("/")[2] for actor in given if actor.startswith("PractitionerRole/")]
    if not people and not ids:
        return {actor: frozenset({actor}) for actor in given}, []
    roles = await found(
        reads,
        "PractitionerRole",
        {"x.active": {"$ne": NOT_ACTIVE}, "$or": [{"x.practitioner": {"$in": people}}, {"_id": {"$in": ids}}]},
    )
    known: dict[str, set[str]] = {actor: {actor} for actor in given}
    for role in roles:
        me, person = f"PractitionerRole/{role['id']}", role.get("practitioner", {}).get("reference", "")
        known.setdefault(me, {me}).update({me, person} - {""})
        if person:
            known.setdefault(person, {person}).add(me)
    return {actor: frozenset(names) for actor, names in known.items()}, roles


async def timetables(reads: Finds, filter: Mapping[str, Any], *, limit: int = MOST) -> list[Timetable]:
    """The active Schedules that meet a filter, with what is needed to know when they have time."""
    schedules = await found(reads, "Schedule", {**filter, "x.active": {"$ne": NOT_ACTIVE}}, limit)
    return await timetables_of(reads, schedules)


async def timetables_of(reads: Finds, schedules: Sequence[Json]) -> list[Timetable]:
    if not schedules:
        return []
    known, roles = await selves(reads, (actor for one in schedules for actor in actors_of(one)))
    return [_timetable(schedule, known, roles) for schedule in schedules]


def _timetable(schedule: Json, known: Mapping[str, frozenset[str]], roles: Sequence[Json]) -> Timetable:
    actors = frozenset(name for actor in actors_of(schedule) for name in known.get(actor, frozenset({actor})))
    own = rule_of(schedule)
    if own is not None:
        return Timetable(schedule, actors, own, own=True)
    mine = [role for role in roles if f"PractitionerRole/{role['id']}" in actors]
    named = set(actors_of(schedule))
    # One that is of certain roles has the hours of those alone; one of a person has those of all roles.
    exact = [role for role in mine if f"PractitionerRole/{role['id']}" in named] or mine
    zone = value(schedule, TIMEZONE) or next((z for role in exact if (z := value(role, TIMEZONE))), FALLBACK_ZONE)
    rule = rule_of_roles(exact, zone_of(str(zone)), schedule.get("serviceType", ()))
    return Timetable(schedule, actors, rule, own=False)


def actors_of(schedule: Json) -> list[str]:
    return [a["reference"] for a in schedule.get("actor", ()) if type(a.get("reference")) is str]


def schedules_named(appointment: Json) -> list[str]:
    """The references to the Schedules whose time an Appointment says that it takes."""
    values = (value_of(one) for one in extensions(appointment, SCHEDULE))
    return [str(one.get("reference", "")) for one in values if type(one) is dict]


def participants_of(appointment: Json) -> list[str]:
    """The references of those who take part, patients and what is used included."""
    rows = appointment.get("participant", ())
    return [p["actor"]["reference"] for p in rows if type(p.get("actor", {}).get("reference")) is str]
