"""Which Schedules `$find` is about: those of the practitioners, places, specialties and types of visit that are asked.

What is given several times is in the order of preference. Whoever asks sees the Schedules that their access shows them.

Spec: https://profiles.ihe.net/ITI/Scheduling/ITI-115.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import InvalidError
from fhir_server.search.normalize import fold
from resources.scheduling.availability import codes_of
from resources.scheduling.schedules import NOT_ACTIVE, Timetable, actors_of, found, timetables
from resources.scheduling.shapes import fits

Json = dict[str, Any]

#: Whose Schedules are looked at, at most, for one question.
MOST_AT_ONCE = 50

#: What is looked at of a Coding.
_CODING = {"system": "", "code": ""}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to take part.

    Attributes:
        schedules: all of these at once, by their ids
        practitioners, organizations, locations: references; any of each, the best first
        specialties, visits: tokens; any of each, the best first
        places: parts of addresses
    """

    schedules: tuple[str, ...] = ()
    practitioners: tuple[str, ...] = ()
    organizations: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    specialties: tuple[str, ...] = ()
    visits: tuple[str, ...] = ()
    places: tuple[str, ...] = ()

    @property
    def nothing(self) -> bool:
        return not any((self.schedules, self.practitioners, self.organizations, self.locations, self.specialties,
                        self.visits, self.places))  # fmt: skip


def asked_of(inputs: Inputs, base_url: str) -> Asked:
    """What the parameters ask for.

    Raises:
        InvalidError: 400; they name nobody and nothing, or something that is no reference.
    """
    asked = Asked(
        schedules=tuple(ref.partition("/")[2] for ref in references(inputs, "schedule", base_url, ("Schedule",))),
        practitioners=references(inputs, "practitioner", base_url, ("Practitioner", "PractitionerRole")),
        organizations=references(inputs, "organization", base_url, ("Organization",)),
        locations=references(inputs, "location-reference", base_url, ("Location",)),
        specialties=tokens(inputs, "specialty"),
        visits=tokens(inputs, "visit-type"),
        places=tuple(str(text) for text in inputs.all("location-string") if str(text).strip()),
    )
    if asked.nothing:
        raise InvalidError(
            "Say with whom, where or for what: practitioner, organization, specialty, visit-type, location-reference, "
            "location-string or schedule.",
            code="required",
            key="HS-SCHED-WHOM",
        )
    return asked


def references(inputs: Inputs, name: str, base_url: str, types: Sequence[str]) -> tuple[str, ...]:
    """The references that a parameter gives, as `Type/id`."""
    found: list[str] = []
    for given in inputs.all(name):
        text = str(given.get("reference", "") if type(given) is dict else given).removeprefix(f"{base_url}/")
        for one in text.split(","):
            kind, slash, resource_id = one.partition("/")
            if not slash and len(types) > 0:
                kind, resource_id = types[0], one
            if kind not in types or not resource_id or "/" in resource_id:
                raise InvalidError(
                    f"The parameter {name!r} is {one[:80]!r}; a reference to {' or '.join(types)} was expected.",
                    code="value",
                    expression=f"Parameters.parameter.where(name='{name}')",
                    key="HS-OP-PARAMETER",
                )
            found.append(f"{kind}/{resource_id}")
    return tuple(dict.fromkeys(found))


def tokens(inputs: Inputs, name: str) -> tuple[str, ...]:
    """Codes, as `system|code`, a code alone, a Coding or a CodeableConcept."""
    found: list[str] = []
    for given in inputs.all(name):
        if type(given) is dict:
            if not fits({"coding": [_CODING], **_CODING}, given):
                raise InvalidError(
                    f"The parameter {name!r} is neither a token nor a Coding nor a CodeableConcept.",
                    code="structure",
                    expression=f"Parameters.parameter.where(name='{name}')",
                    key="HS-OP-PARAMETER",
                )
            codings = given.get("coding", [given])
            found += [f"{one.get('system', '')}|{one.get('code', '')}" for one in codings]
        else:
            found += [text for text in str(given).split(",") if text]
    return tuple(dict.fromkeys(found))


async def selected(context: Context, asked: Asked) -> list[list[Timetable]]:
    """The sets of Schedules that are to be free at once, the preferred ones first."""
    reads = context.repository.store
    if asked.schedules:
        known = {table.id: table for table in await timetables(reads, {"_id": {"$in": list(asked.schedules)}})}
        tables = [known[one] for one in asked.schedules if one in known]
        return [tables] if len(tables) == len(asked.schedules) else []
    places = [*asked.locations, *await places_of(context, asked)]
    doctors = await doctors_of(context, asked, places)
    rooms = await timetables(reads, {"x.actor": {"$in": places}}) if places else []
    rooms = [room for room in rooms if any(actor.startswith("Location/") for actor in actors_of(room.schedule))]
    rooms.sort(key=lambda room: min(places.index(a) for a in actors_of(room.schedule) if a in places))
    alone = not (asked.practitioners or asked.specialties or asked.organizations)
    if not doctors:
        return [[room] for room in rooms[:MOST_AT_ONCE]] if alone else []
    ids = {table.id for table in doctors}
    others = [room for room in rooms if room.id not in ids]
    if not others:
        return [[doctor] for doctor in doctors[:MOST_AT_ONCE]]
    return [[doctor, room] for doctor in doctors for room in others][:MOST_AT_ONCE]


async def places_of(context: Context, asked: Asked) -> list[str]:
    """The Locations whose address has one of some texts in it."""
    named: list[str] = []
    for text in asked.places:
        rows = await context.searcher.matches("Location", f"address:contains={text.replace('&', ' ')}", limit=200)
        named += [f"Location/{row.id}" for row in rows]
    return named


async def doctors_of(context: Context, asked: Asked, places: Sequence[str]) -> list[Timetable]:
    """The Schedules of the people who are asked for, the preferred ones first."""
    reads = context.repository.store
    roles = await roles_of(context, asked, places)
    either: list[Json] = []
    if asked.practitioners:
        either.append({"x.actor": {"$in": [*asked.practitioners, *(f"PractitionerRole/{r['id']}" for r in roles)]}})
    elif asked.organizations or asked.specialties or places:
        names = {f"PractitionerRole/{role['id']}" for role in roles}
        names |= {ref for role in roles if (ref := role.get("practitioner", {}).get("reference"))}
        either.append({"x.actor": {"$in": sorted(names)}})
        if asked.specialties:
            either.append({"x.specialty": {"$in": [entry(token) for token in asked.specialties]}})
    elif asked.visits:
        either.append({})  # whoever has that type of visit
    if not either:
        return []
    tables = await timetables(reads, {"$or": either} if either != [{}] else {})
    tables = [table for table in tables if people(table)]
    if asked.practitioners and (asked.specialties or asked.organizations):
        allowed = {f"PractitionerRole/{role['id']}" for role in roles}
        allowed |= {ref for role in roles if (ref := role.get("practitioner", {}).get("reference"))}
        tables = [t for t in tables if t.actors & allowed or has_specialty(t, asked.specialties)]
    order = {ref: number for number, ref in enumerate(asked.practitioners)}
    return sorted(tables, key=lambda table: min((order[a] for a in table.actors if a in order), default=len(order)))


async def roles_of(context: Context, asked: Asked, places: Sequence[str]) -> list[Json]:
    """The active PractitionerRoles that fit all that is asked for."""
    conditions: list[Json] = [{"x.active": {"$ne": NOT_ACTIVE}}]
    if asked.practitioners:
        ids = [ref.partition("/")[2] for ref in asked.practitioners if ref.startswith("PractitionerRole/")]
        conditions.append({"$or": [{"x.practitioner": {"$in": list(asked.practitioners)}}, {"_id": {"$in": ids}}]})
    if asked.organizations:
        conditions.append({"x.organization": {"$in": list(asked.organizations)}})
    if asked.specialties:
        conditions.append({"x.specialty": {"$in": [entry(token) for token in asked.specialties]}})
    elif places and not asked.practitioners:
        conditions.append({"x.location": {"$in": list(places)}})
    if len(conditions) == 1:
        return []
    return await found(context.repository.store, "PractitionerRole", {"$and": conditions})


def entry(token: str) -> str:
    """A token as the index has it."""
    system, bar, code = token.rpartition("|")
    return f"{system}|{fold(code)}" if bar else f"={fold(code)}"


def people(table: Timetable) -> bool:
    return any(actor.startswith(("Practitioner/", "PractitionerRole/", "HealthcareService/")) for actor in table.actors)


def has_specialty(table: Timetable, specialties: Sequence[str]) -> bool:
    return any(token in codes_of(one) for token in specialties for one in table.schedule.get("specialty", ()))
