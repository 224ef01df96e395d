"""Letters by mail; those about an Appointment carry it for a calendar, as an iMIP message.

A calendar programme takes an invitation when it is from its organizer to one of its attendees, both by their addresses.
The organizer is this server, for whoever offers the time, and the only attendee is who gets the mail: no other address
and no name leaves this server by it.

Spec: RFC 6047 (iMIP), RFC 5546 (iTIP)
"""

from __future__ import annotations

from typing import Protocol

from icalendar import Calendar, vCalAddress, vText

from fhir_server.interactions.outlets import Letter


class Mail(Protocol):
    """Sends mails, as the sign-in side does."""

    @property
    def address(self) -> str: ...

    async def send(self, to: str, subject: str, text: str, html: str = "", *, calendar: bytes = b"") -> None: ...


class MailOutlet:
    """Tells people by mail; the text leads to where they sign in."""

    public_key = ""

    def __init__(self, mail: Mail, link: str) -> None:
        self._mail = mail
        self._link = link

    async def send(self, to: str, letter: Letter) -> None:
        calendar = addressed(letter, self._mail.address, to) if letter.calendar else b""
        await self._mail.send(to, letter.title, f"{letter.text}\n\n{self._link}\n", calendar=calendar)


def addressed(letter: Letter, sender: str, to: str) -> bytes:
    """The iCalendar message of a letter, for who gets it, with the title of the letter."""
    calendar = Calendar.from_ical(letter.calendar)
    for event in calendar.walk("VEVENT"):
        attendee = vCalAddress(f"mailto:{to}")
        agreed = str(event.get("status")) == "CONFIRMED"
        attendee.params["PARTSTAT"] = vText("ACCEPTED" if agreed else "NEEDS-ACTION")
        attendee.params["RSVP"] = vText("FALSE")
        event.add("organizer", vCalAddress(f"mailto:{sender}"))
        event.add("attendee", attendee)
        event["summary"] = vText(letter.title)
    return bytes(calendar.to_ical())
