"""`PractitionerRole/$find-doctor`: who can be seen, where, in which language, for how much, and when.

Only who is verified, active and has a licence in force. Each is shown with the next times that can be booked, which
are proposed Appointments as `$find` gives them: `$hold` and `$book` take them as they are.

Spec: https://profiles.ihe.net/ITI/Scheduling/ITI-115.html, https://hl7.org/fhir/R4/practitionerrole.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.marks import DISTANCE, UCUM
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import Issue
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.normalize import normalized
from resources.directory.asking import NAMES, Asked, asked_of
from resources.directory.gathering import Doctor, gathered
from resources.directory.record import FEE, OWN, called, references_of, where
from resources.scheduling import moment
from resources.scheduling.next_free import as_offers, next_times
from resources.scheduling.schedules import NOT_ACTIVE, actors_of, found
from resources.verification.words import name_of

Json = dict[str, Any]

#: How many times are shown of each, and how far ahead they are looked for.
SLOTS: Final = 3
AHEAD: Final = timedelta(days=90)

#: Of how many the times are looked for at once: the most on a page, and where the order or a limit goes by them.
MOST_BY_SLOT: Final = 200
MOST_SCHEDULES: Final = 500

NEXT_SLOT: Final = f"{OWN}:next-slot"
VERIFIED_ON: Final = f"{OWN}:verified-on"
PRACTICE: Final = f"{OWN}:practice"


async def find_doctor(context: Context, request: Request) -> Answer:
    """PractitionerRole/$find-doctor: a searchset of roles, with all that belongs to each.

    Raises:
        InvalidError: 400; a parameter is not known, or its value means nothing.
        NotFoundError: 404; a place or an insurance is not there for the caller.
    """
    inputs = Inputs.of(request)
    limits = context.limits
    most = min(limits.max_page_size, MOST_BY_SLOT)
    asked = asked_of(inputs, request.base_url, min(limits.default_page_size, most), most)
    doctors, more = await gathered(context, asked)
    left_out = False
    if asked.by_slot:
        doctors = ordered(doctors, "distance" if asked.near or asked.place else "name")
        left_out = len(doctors) > MOST_BY_SLOT
        doctors = doctors[:MOST_BY_SLOT]
        await add_times(context, asked, doctors)
        doctors = [one for one in doctors if fits_in_time(one, asked)]
    doctors = ordered(doctors, asked.sort)
    shown = doctors[asked.offset : asked.offset + asked.count]
    if not asked.by_slot:
        await add_times(context, asked, shown)
    address = f"{request.base_url}/PractitionerRole/$find-doctor"
    body = await bundle_of(context, request, inputs, asked, (doctors, shown), address, more or left_out)
    return Answer(200, body)


def fits_in_time(doctor: Doctor, asked: Asked) -> bool:
    if asked.before is not None and not (doctor.times and doctor.times[0][1].start < asked.before):
        return False
    return bool(doctor.times) or not asked.bookable


def ordered(doctors: Sequence[Doctor], sort: str) -> list[Doctor]:
    """In the order that is asked for; who does not say what it goes by comes last, and names decide between equals."""

    def key(one: Doctor) -> tuple[Any, ...]:
        name = (normalized(called(one.person)), one.role["id"])
        if sort == "distance":
            return (one.metres is None, one.metres or 0.0, *name)
        if sort == "price":
            return (one.price is None, one.price or (Decimal(0), ""), *name)
        if sort == "next-slot":
            return (not one.times, one.times[0][1].start if one.times else datetime.max, *name)
        return name

    return sorted(doctors, key=key)


async def add_times(context: Context, asked: Asked, doctors: Sequence[Doctor]) -> None:
    """Add the next times to each: of the Schedules of the role, and of those of the person at its places."""
    if not doctors:
        return
    actors = sorted({name for one in doctors for name in (one.reference, one.person_reference)})
    schedules = await found(
        context.repository.store,
        "Schedule",
        {"x.actor": {"$in": actors}, "x.active": {"$ne": NOT_ACTIVE}},
        MOST_SCHEDULES,
    )
    now = moment.now()
    until = min(asked.before, now + AHEAD) if asked.before else now + AHEAD
    times = await next_times(context, [one["id"] for one in schedules], asked.visits, SLOTS, until)
    for doctor in doctors:
        rows = [row for one in schedules if is_of(one, doctor) for row in times.get(one["id"], ())]
        doctor.times = sorted(rows, key=lambda row: row[1].start)[:SLOTS]


def is_of(schedule: Json, doctor: Doctor) -> bool:
    """Whether a Schedule is of somebody in this role: it names the role, or the person and no other role or place."""
    actors = actors_of(schedule)
    if doctor.reference in actors:
        return True
    if doctor.person_reference not in actors or any(actor.startswith("PractitionerRole/") for actor in actors):
        return False
    for kind, mine in (
        ("Location/", {f"Location/{one['id']}" for one in doctor.places}),
        ("HealthcareService/", set(references_of(doctor.role.get("healthcareService")))),
    ):
        named = {actor for actor in actors if actor.startswith(kind)}
        if named and mine and named.isdisjoint(mine):
            return False
    return True


async def verified_on(context: Context, doctors: Sequence[Doctor]) -> dict[str, str]:
    """When each was verified here; who was imported was not."""
    names = {name_of(one.person_reference): one.person_reference for one in doctors}
    rows = await found(
        context.repository.store.unguarded,
        "Task",
        {"_id": {"$in": sorted(names)}, "x.status": "=completed"},
        len(names) or 1,
    )
    return {names[row["id"]]: str(row.get("lastModified", "")) for row in rows}


async def bundle_of(
    context: Context,
    request: Request,
    inputs: Inputs,
    asked: Asked,
    results: tuple[list[Doctor], list[Doctor]],
    address: str,
    cut: bool,
) -> bytes:
    """A page of the answer."""
    doctors, shown = results
    since = await verified_on(context, shown) if shown else {}
    included: dict[str, bytes] = {}
    matches: list[tuple[str, bytes]] = []
    details: dict[str, bytes] = {}
    for doctor in shown:
        offers = await as_offers(context, doctor.times, asked.visits)
        url = f"{request.base_url}/{doctor.reference}"
        matches.append((url, codec.encode(doctor.role)))
        rows = list(marks_of(doctor, offers, since.get(doctor.person_reference, "")))
        details[url] = codec.encode({"extension": rows})[1:-1] if rows else b""
        beside = [doctor.person, doctor.organization, *doctor.places, *doctor.services, *offers]
        for one in beside:
            if one:
                included.setdefault(f"{request.base_url}/{one['resourceType']}/{one['id']}", codec.encode(one))
    given = pairs_of(inputs)
    links = [link("self", address, given)]
    rest = [(name, value) for name, value in given if name != "_offset"]
    if asked.offset + asked.count < len(doctors):
        links.append(link("next", address, [*rest, ("_offset", str(asked.offset + asked.count))]))
    if asked.offset:
        before = max(asked.offset - asked.count, 0)
        links.append(link("previous", address, [*rest, *([("_offset", str(before))] if before else [])]))
    return searchset(
        total=len(doctors),
        links=links,
        matches=matches,
        issues=issues_of(doctors, cut),
        details=details,
        included=included.items(),
    )


def marks_of(doctor: Doctor, offers: Sequence[Json], verified: str) -> Any:
    """What is said of a match beside the resource: how far, how much, when, where, and since when it is known."""
    if doctor.metres is not None:
        kilometres = (Decimal(doctor.metres) / 1000).quantize(Decimal("0.001"))
        yield {"url": DISTANCE, "valueDistance": {"value": kilometres, "unit": "km", "system": UCUM, "code": "km"}}
    if doctor.price is not None:
        yield {"url": FEE, "valueMoney": {"value": doctor.price[0], "currency": doctor.price[1]}}
    for offer in offers:
        yield {
            "url": NEXT_SLOT,
            "valueReference": {"reference": f"Appointment/{offer['id']}", "display": offer["start"]},
        }
    if verified:
        yield {"url": VERIFIED_ON, "valueDateTime": verified}
    if place := where(doctor.organization, doctor.places):
        yield {"url": PRACTICE, "valueString": place}


def pairs_of(inputs: Inputs) -> list[tuple[str, str]]:
    """The parameters as a query, for links."""
    found: list[tuple[str, str]] = []
    for name in NAMES:
        for value in inputs.all(name):
            if type(value) is dict:
                coding = next(iter(value.get("coding", ())), value)
                plain = (
                    value.get("reference")
                    or value.get("value")
                    or f"{coding.get('system', '')}|{coding.get('code', '')}"
                )
                found.append((name, str(plain)))
                if "currency" in value:
                    found.append(("currency", str(value["currency"])))
            else:
                found.append((name, str(value).lower() if type(value) is bool else str(value)))
    return found


def issues_of(doctors: Sequence[Doctor], cut: bool) -> list[Issue]:
    """What is not as it looks: nobody fits, or there are more than were looked at."""
    if cut:
        told = "There are more doctors than were looked at: say more of whom you look for, or a smaller distance."
        return [Issue("incomplete", told, key="HS-DIRECTORY-MANY", severity="warning")]
    if not doctors:
        told = "Nobody whom you may see fits all that you ask for: leave something out, or look farther away."
        return [Issue("informational", told, key="HS-DIRECTORY-NOBODY", severity="information")]
    return []
