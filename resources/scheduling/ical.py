"""Appointments as iCalendar: for a mail, for a feed, and for whoever asks.

One Appointment is one UID for all its life, and its version is the SEQUENCE: a calendar knows the newer of two. Nothing
about anybody's health stands in it: the title says "Appointment" where nobody has asked for more.

Spec: RFC 5545, RFC 5546
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from icalendar import Calendar, Event, vCalAddress, vText

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.scheduling import moment
from resources.scheduling.extensions import ALTERNATIVE, extensions, reference, value

Json = dict[str, Any]

PRODUCT = "-//HealthSphere//Scheduling//EN"

#: What an Appointment that has become something is in a calendar (RFC 5545 section 3.8.1.11).
GONE = frozenset({"cancelled", "noshow", "entered-in-error"})
STATUS = {"booked": "CONFIRMED", "arrived": "CONFIRMED", "checked-in": "CONFIRMED", "fulfilled": "CONFIRMED"}
ANSWERS = {
    "accepted": "ACCEPTED",
    "declined": "DECLINED",
    "tentative": "TENTATIVE",
    "needs-action": "NEEDS-ACTION",
}


def method_of(appointment: Json) -> str:
    """The method of RFC 5546 by which an Appointment is sent."""
    if appointment.get("status") in GONE:
        return "CANCEL"
    by = [reference(one, "by") for one in extensions(appointment, ALTERNATIVE)]
    return "COUNTER" if by and by[0].startswith("Patient/") else "REQUEST"


def event_of(appointment: Json, base_url: str, *, title: str = "Appointment", people: bool = True) -> Event:
    """An Appointment as an event; with whom is left out where `people` is false."""
    start, end = appointment["start"], appointment["end"]
    countered = list(extensions(appointment, ALTERNATIVE)) if method_of(appointment) == "COUNTER" else []
    if countered:
        start, end = value(countered[0], "start"), value(countered[0], "end")
    meta = appointment.get("meta", {})
    event = Event()
    event.add("uid", f"{appointment['id']}@{urlsplit(base_url).hostname or 'localhost'}")
    event.add("sequence", int(meta.get("versionId", "1")) - 1)
    event.add("dtstamp", moment.parsed(meta.get("lastUpdated", start), "Appointment.meta.lastUpdated"))
    event.add("dtstart", moment.parsed(start, "Appointment.start"))
    event.add("dtend", moment.parsed(end, "Appointment.end"))
    event.add("summary", title)
    gone = appointment.get("status") in GONE
    event.add("status", "CANCELLED" if gone else STATUS.get(str(appointment.get("status")), "TENTATIVE"))
    event.add("class", "PRIVATE")
    for row in appointment.get("participant", ()) if people else ():
        actor = row.get("actor", {}).get("reference", "")
        address = vCalAddress(f"{base_url}/{actor}")
        if actor.startswith("Practitioner") and "organizer" not in event:
            event.add("organizer", address)
        elif actor.startswith(("Patient/", "Practitioner", "RelatedPerson/")):
            address.params["PARTSTAT"] = vText(ANSWERS.get(row.get("status", ""), "NEEDS-ACTION"))
            event.add("attendee", address)
    return event


def calendar_of(events: Iterable[Event], method: str | None = None, properties: Mapping[str, str] = {}) -> bytes:
    """A calendar with some events."""
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    if method is not None:
        calendar.add("method", method)
    for name, text in properties.items():
        calendar.add(name, text)
    for event in events:
        calendar.add_component(event)
    return bytes(calendar.to_ical())


def message_of(appointment: Json, base_url: str, *, people: bool = True) -> bytes:
    """An Appointment as it is sent to a calendar: an invitation, an update, a cancellation or a counter-proposal.

    Args:
        people: whether it says who takes part; a mail names its two ends alone

    Raises:
        UnprocessableError: 422; it has no time.
    """
    if "start" not in appointment or "end" not in appointment:
        raise UnprocessableError(
            f"Appointment/{appointment.get('id')} has no time yet.",
            key="HS-SCHED-NO-TIME",
            expression="Appointment.start",
        )
    return calendar_of([event_of(appointment, base_url, people=people)], method_of(appointment))


async def ical(context: Context, request: Request) -> Answer:
    """Appointment/[id]/$ical: the Appointment as iCalendar, in a Binary."""
    Inputs.of(request).only()
    version = await context.repository.read("Appointment", request.path[1])
    appointment = codec.decode(version.body or b"")
    data = message_of(appointment, request.base_url)
    content_type = f"text/calendar; charset=utf-8; method={method_of(appointment)}"
    return answered({"resourceType": "Binary", "contentType": content_type, "data": b64encode(data).decode()})
