"""`$directory-profile` of a Practitioner or a PractitionerRole: everything that patients are told of a doctor, at once.

Roles with their specialties, hours and fees, places with their positions, services, organizations, and the next times
that can be booked. As the caller sees it: for patients, who is hidden does not exist.

Spec: https://hl7.org/fhir/R4/practitioner.html, https://hl7.org/fhir/R4/practitionerrole.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.bundle import link, searchset
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.exchange import Answer, Request
from resources.directory.asking import Asked
from resources.directory.finding import add_times, marks_of, verified_on
from resources.directory.gathering import Doctor, with_all
from resources.scheduling.next_free import as_offers
from resources.scheduling.schedules import NOT_ACTIVE, found
from resources.scheduling.selection import tokens

Json = dict[str, Any]

#: Roles of one person.
MOST: int = 100


async def directory_profile(context: Context, request: Request) -> Answer:
    """A searchset: the Practitioner or the role that was asked for, and what belongs to it as included.

    Raises:
        NotFoundError: 404; there is none for the caller.
    """
    inputs = Inputs.of(request)
    inputs.only("visit-type")
    visits = tokens(inputs, "visit-type")
    kind, key = request.path[0], request.path[1]
    version = await context.repository.read(kind, key)
    subject: Json = codec.decode(version.body or b"{}")
    roles = [subject]
    if kind == "Practitioner":
        condition = {"x.practitioner": f"Practitioner/{key}", "x.active": {"$ne": NOT_ACTIVE}}
        roles = await found(context.repository.store, "PractitionerRole", condition, MOST)
    doctors = await with_all(context, roles, None, everybody=True)
    await add_times(context, Asked(visits=visits), doctors)
    since = await verified_on(context, doctors) if doctors else {}
    entries: dict[str, bytes] = {}
    details: dict[str, bytes] = {}
    for doctor in doctors:
        offers = await as_offers(context, doctor.times, visits)
        rows = list(marks_of(doctor, offers, since.get(doctor.person_reference, "")))
        details[address_of(request, doctor.role)] = codec.encode({"extension": rows})[1:-1] if rows else b""
        for one in belonging(doctor, offers):
            entries.setdefault(address_of(request, one), codec.encode(one))
    url = address_of(request, subject)
    entries.pop(url, None)
    body = searchset(
        total=1,
        links=[link("self", f"{url}/$directory-profile", [("visit-type", one) for one in visits])],
        matches=[(url, codec.encode(subject))],
        issues=[],
        details=details,
        included=entries.items(),
    )
    return Answer(200, body)


def belonging(doctor: Doctor, offers: list[Json]) -> list[Json]:
    beside = [doctor.role, doctor.person, doctor.organization, *doctor.places, *doctor.services, *offers]
    return [one for one in beside if one]


def address_of(request: Request, resource: Json) -> str:
    return f"{request.base_url}/{resource['resourceType']}/{resource['id']}"
