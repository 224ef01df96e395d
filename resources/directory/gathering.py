"""Who is asked about: the roles that the database finds, and all that belongs to them, in a fixed number of commands.

Everything is read as the caller sees it, and nobody sees here who is hidden.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.errors import NotFoundError
from fhir_server.search.escape import escape
from fhir_server.storage.finding import Finds
from resources.directory.asking import Asked
from resources.directory.record import (
    FEE,
    codes_of,
    extensions,
    fees_of,
    is_afar,
    languages_of,
    payers_of,
    programs_of,
    reference_of,
    references_of,
    words_of,
)
from resources.directory.specialties import codes_for, is_called
from resources.scheduling.schedules import NOT_ACTIVE, found
from resources.scheduling.selection import entry
from resources.verification.licence import DIRECTORY, HIDDEN, is_hidden, is_marked

Json = dict[str, Any]

#: Roles that are looked at for one question, and places and people by which they are found.
MOST_ROLES: Final = 1000
MOST_PLACES: Final = 1000
MOST_PEOPLE: Final = 2000

NOT_HIDDEN: Final = {"x.active": {"$ne": NOT_ACTIVE}, "x._tag": {"$ne": f"{DIRECTORY}|{HIDDEN}"}}


@dataclass(slots=True)
class Doctor:
    """Somebody in one of their roles.

    Attributes:
        metres: how far away the nearest place of the role is
        price: the least that a visit costs
        times: the next free times, with the calendars that they are of
    """

    role: Json
    person: Json
    services: list[Json]
    places: list[Json]
    organization: Json
    metres: float | None = None
    price: tuple[Decimal, str] | None = None
    times: list[Any] = field(default_factory=list)

    @property
    def reference(self) -> str:
        return f"PractitionerRole/{self.role['id']}"

    @property
    def person_reference(self) -> str:
        return f"Practitioner/{self.person['id']}"


async def gathered(context: Context, asked: Asked) -> tuple[list[Doctor], bool]:
    """Those who fit all that is asked, but for their times; and whether there may be more than were looked at."""
    near = await places_near(context, asked)
    conditions = [condition async for condition in _conditions(context, asked, near)]
    reads = context.repository.store
    roles = await found(reads, "PractitionerRole", {"$and": [NOT_HIDDEN, *conditions]}, MOST_ROLES + 1)
    doctors = await with_all(context, roles[:MOST_ROLES], near)
    accepted = await payers_asked(context, asked)
    doctors = [one for one in doctors if fits(one, asked, accepted, near is not None)]
    return doctors, len(roles) > MOST_ROLES


async def places_near(context: Context, asked: Asked) -> dict[str, float] | None:
    """The Locations within the distance, each with how far away it is; None where it does not matter.

    Raises:
        NotFoundError: 404; the place to measure from is not there for the caller, or has no position.
    """
    near = asked.near
    if asked.place:
        version = await context.repository.current("Location", asked.place.partition("/")[2])
        place = codec.decode(version.body) if version is not None and version.body is not None else {}
        position = place.get("position", {})
        if not {"latitude", "longitude"} <= position.keys():
            raise NotFoundError(f"There is no {asked.place} with a position.", key="HS-DIRECTORY-PLACE")
        near = "|".join([str(position["latitude"]), str(position["longitude"]), *near.split("|")[2:]])
    if not near:
        return None
    pairs = [("near", near)]
    page = await context.searcher.search(
        "Location", pairs, strict=True, default_count=MOST_PLACES, max_count=MOST_PLACES
    )
    return {f"Location/{row['_id']}": float(row["distance_m"]) for row in page.page.rows}


async def _conditions(context: Context, asked: Asked, near: dict[str, float] | None) -> AsyncIterator[Json]:
    """What the database can tell of roles."""
    if asked.organizations:
        yield {"x.organization": {"$in": list(asked.organizations)}}
    if asked.names:
        pairs = [("name", escape(name)) for text in asked.names for name in text.split()]
        called = await _filter(context, "Practitioner", *pairs)
        yield {"x.practitioner": {"$in": await _named(context, "Practitioner", called, MOST_PEOPLE)}}
    places = None if near is None else list(near)
    if asked.city:
        there = await _filter(context, "Location", ("address-city", escape(asked.city)))
        towns = await _named(context, "Location", there, MOST_PLACES)
        places = towns if places is None else [place for place in places if place in towns]
    if places is not None:
        services = await _named(context, "HealthcareService", {"x.location": {"$in": places}}, MOST_ROLES)
        yield {"$or": [{"x.location": {"$in": places}}, {"x.service": {"$in": services}}]}
    for wanted in (asked.specialties, *((text,) for text in asked.texts)):
        if wanted:
            yield await _of_specialty(context, wanted, words=wanted is not asked.specialties)


async def _of_specialty(context: Context, wanted: Sequence[str], *, words: bool) -> Json:
    """Roles of a specialty, their own or that of their service; what words mean is told by codes and by texts."""
    codes = [entry(token) for token in (codes_for(wanted[0]) if words else wanted)]
    roles: list[Json] = [{"x.specialty": {"$in": codes}}]
    services: list[Json] = [{"x.specialty": {"$in": codes}}, {"x.service-type": {"$in": codes}}]
    if words:
        text = escape(wanted[0])
        roles.append(await _filter(context, "PractitionerRole", ("specialty:text", text)))
        for name in ("specialty:text", "service-type:text", "name:contains"):
            services.append(await _filter(context, "HealthcareService", (name, text)))
    named = await _named(context, "HealthcareService", {"$or": services}, MOST_ROLES)
    return {"$or": [*roles, {"x.service": {"$in": named}}]}


async def _filter(context: Context, resource_type: str, *pairs: tuple[str, str]) -> Json:
    """What search parameters ask, as the database's filter."""
    _, asked = await context.searcher.understood(resource_type, list(pairs), strict=True, default_count=1, max_count=1)
    return dict(asked)


async def _named(context: Context, resource_type: str, condition: Json, most: int) -> list[str]:
    """What meets a condition, as references."""
    rows = await context.repository.store.find(
        resource_type, {"$and": [{"d": None}, condition]}, sort=[("_id", 1)], limit=most, fields={"_id": 1}
    )
    return [f"{resource_type}/{row['_id']}" for row in rows]


async def with_all(
    context: Context, roles: Sequence[Json], near: dict[str, float] | None, *, everybody: bool = False
) -> list[Doctor]:
    """Roles with whoever has them, where, and with which services; without those of people who are not to be found,
    unless `everybody` is asked for whom the caller sees."""
    reads = context.repository.store
    services = by_reference(await those(reads, "HealthcareService", _ids(roles, "healthcareService")))
    holders = [*roles, *services.values()]
    people, places, organizations, definitions = await asyncio.gather(
        those(reads, "Practitioner", _ids(roles, "practitioner")),
        those(reads, "Location", _ids(holders, "location")),
        those(reads, "Organization", [*_ids(roles, "organization"), *_ids(services.values(), "providedBy")]),
        those(reads, "ChargeItemDefinition", _definitions(holders)),
    )
    now = context.timers.now()
    known = by_reference(one for one in people if everybody or not (is_marked(one) or is_hidden(one, now)))
    where, whose, prices = by_reference(places), by_reference(organizations), by_reference(definitions)
    doctors: list[Doctor] = []
    for role in roles:
        person = known.get(reference_of(role.get("practitioner")))
        if person is None or (is_marked(role) and not everybody):
            continue
        mine = [services[name] for name in references_of(role.get("healthcareService")) if name in services]
        names = references_of(role.get("location")) or [n for one in mine for n in references_of(one.get("location"))]
        sites = [where[name] for name in dict.fromkeys(names) if name in where]
        house = reference_of(role.get("organization")) or next((reference_of(s.get("providedBy")) for s in mine), "")
        doctor = Doctor(role, person, mine, sites, whose.get(house, {}))
        if near is not None:
            sites.sort(key=lambda site: near.get(f"Location/{site['id']}", float("inf")))
            doctor.metres = min((near[n] for n in (f"Location/{s['id']}" for s in sites) if n in near), default=None)
        fees = fees_of(role, prices) or [fee for service in mine for fee in fees_of(service, prices)]
        doctor.price = min(fees, default=None)
        doctors.append(doctor)
    return doctors


async def those(reads: Finds, resource_type: str, ids: Sequence[str]) -> list[Json]:
    """The resources of some ids, however many these are."""
    wanted = list(dict.fromkeys(ids))
    return await found(reads, resource_type, {"_id": {"$in": wanted}}, len(wanted)) if wanted else []


def by_reference(resources: Iterable[Json]) -> dict[str, Json]:
    return {f"{one['resourceType']}/{one['id']}": one for one in resources}


def _ids(resources: Iterable[Json], element: str) -> list[str]:
    """The ids to which an element leads."""
    rows = (one.get(element) for one in resources)
    names = (name for row in rows for name in references_of(row if type(row) is list else [row]))
    return [name.partition("/")[2] for name in dict.fromkeys(names)]


def _definitions(resources: Iterable[Json]) -> list[str]:
    names = (reference_of(row.get("valueReference")) for one in resources for row in extensions(one, FEE))
    return [name.partition("/")[2] for name in names if name.startswith("ChargeItemDefinition/")]


async def payers_asked(context: Context, asked: Asked) -> list[set[str]]:
    """For each insurance that is asked for, all by which it may be named: the plan, who owns it, its networks.

    Raises:
        NotFoundError: 404; it is not there for the caller.
    """
    found: list[set[str]] = []
    for name in asked.insurance:
        kind, _, key = name.partition("/")
        version = await context.repository.current(kind, key)
        if version is None or version.body is None:
            raise NotFoundError(f"There is no {name}.", key="HS-DIRECTORY-INSURANCE")
        body = codec.decode(version.body)
        rows = [*body.get("network", ()), *body.get("payor", ()), body.get("ownedBy"), body.get("administeredBy")]
        found.append({name, *references_of(row for row in rows if row)})
    return found


def fits(doctor: Doctor, asked: Asked, accepted: Sequence[set[str]], placed: bool) -> bool:
    """Whether somebody is what is asked for, as far as no index tells it."""
    if placed and doctor.metres is None:
        return False
    if asked.specialties and not _has(asked.specialties, codes_of(doctor.role, doctor.services)):
        return False
    for text in asked.texts:
        codes = [code.casefold() for code in codes_for(text)]
        known = {code.casefold() for code in codes_of(doctor.role, doctor.services)}
        if known.isdisjoint(codes) and not is_called(text, words_of(doctor.role, doctor.services)):
            return False
    if asked.languages and languages_of(doctor.person).isdisjoint(
        token.rpartition("|")[2].casefold() for token in asked.languages
    ):
        return False
    if asked.insurance or asked.programs:
        payers = set.union(payers_of(doctor.role), *(payers_of(service) for service in doctor.services))
        programs = {code for service in doctor.services for code in programs_of(service)}
        taken = any(payers & names for names in accepted) or any(code in programs for code in asked.programs)
        if not taken:
            return False
    if asked.telehealth is not None:
        afar = any(is_afar(one) for one in (doctor.role, *doctor.services, *doctor.places))
        if afar != asked.telehealth:
            return False
    if asked.price_max is not None:
        price = doctor.price
        if price is None or price[0] > asked.price_max or (asked.currency and price[1] != asked.currency):
            return False
    return True


def _has(wanted: Sequence[str], known: set[str]) -> bool:
    folded = {code.casefold() for code in known}
    return any(token.casefold() in folded for token in wanted)
