"""Appointments come to people's calendars by mail: as a real SMTP server takes them, and as a calendar reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from email.message import Message
from typing import Any

import pytest
from icalendar import Calendar

from integrations.notify.mail import MailOutlet
from smart_auth.mail import Smtp, SmtpMail
from tests.conftest import InProcessServer
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, service, the_one
from tests.smtp import Inbox, smtp_server

SENDER = "HealthSphere <no-reply@example.org>"


class Post:
    """A clinic whose letters leave by a real SMTP server."""

    def __init__(self, clinic: Clinic, inbox: Inbox) -> None:
        self.clinic, self.inbox = clinic, inbox

    def person(self, resource_type: str, address: str) -> str:
        name = {"name": [{"family": "Sorescu"}], "telecom": [{"system": "email", "value": address}]}
        return self.clinic.put(resource_type, name)

    def says(self, person: str, **given: Any) -> None:
        """What somebody says of how they are told."""
        rows = [{"name": "person", "valueReference": {"reference": person}}]
        for kind, channels in given.get("kinds", {}).items():
            parts = [{"name": "kind", "valueCode": kind}, *({"name": "channel", "valueCode": c} for c in channels)]
            rows.append({"name": "preference", "part": parts})
        if "language" in given:
            rows.append({"name": "language", "valueCode": given["language"]})
        answer = self.clinic.client.post(
            "$notification-preferences", json={"resourceType": "Parameters", "parameter": rows}
        )
        assert answer.status_code == 200, answer.text

    def taken(self, to: str, number: int) -> list[Message]:
        """The mails to somebody in the order in which they came, when there are so many."""
        context = self.clinic.server.context
        found: list[Message] = []
        for _ in range(600):
            self.clinic.server.run(context.feed.caught_up())
            self.clinic.server.run(context.timers.run_due())
            found = [message for _, recipients, message in self.inbox.taken if recipients == [to]]
            if len(found) >= number:
                break
            time.sleep(0.05)
        assert len(found) == number
        return found


@pytest.fixture(scope="module")
def post(make_server: Callable[..., InProcessServer]) -> Iterator[Post]:
    clinic = Clinic(make_server())
    with smtp_server() as (inbox, port):
        mail = SmtpMail(Smtp("127.0.0.1", port, SENDER, "none"))
        clinic.server.context.outlets["email"] = MailOutlet(mail, "https://example.org/")  # type: ignore[index]
        yield Post(clinic, inbox)


def calendar_in(message: Message) -> tuple[str, Any]:
    """The method that the type of the calendar's part names, and the one event of it."""
    (part,) = [one for one in message.walk() if one.get_content_type() == "text/calendar"]
    assert part.get_content_charset() == "utf-8"
    method = part.get_param("method")
    calendar = Calendar.from_ical(part.get_payload(decode=True))
    assert calendar["METHOD"] == method
    (event,) = calendar.walk("VEVENT")
    return str(method), event


def asked(clinic: Clinic, doctor: str, patient: str, operation: str, day: int) -> Json:
    offer = clinic.find(practitioner=doctor, start=at(day, "00:00").isoformat())[0]
    answer = clinic.call(operation, appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient)
    assert answer.status_code == 201, answer.text
    return the_one(answer)


def test_an_appointment_is_invited_to_updated_and_cancelled_by_mail(post: Post) -> None:
    clinic = post.clinic
    doctor, patient = post.person("Practitioner", "doctor@example.org"), post.person("Patient", "ida@example.org")
    post.says(patient, language="de")
    clinic.schedule(doctor, hours("09:00", "17:00"), service({**CONSULTATION, "text": "Oncology"}, 30))
    made = asked(clinic, doctor, patient, "book", 60)
    place = f"Appointment/{made['id']}"
    post.taken("ida@example.org", 1)
    assert clinic.call("reschedule", place, start=at(60, "11:00").isoformat()).status_code == 200
    post.taken("ida@example.org", 2)
    assert clinic.call("cancel", place, reason="pat").status_code == 200
    mails = post.taken("ida@example.org", 3)
    read = [calendar_in(mail) for mail in mails]
    assert [method for method, _ in read] == ["REQUEST", "REQUEST", "CANCEL"]
    events = [event for _, event in read]
    assert {str(event["UID"]) for event in events} == {f"{made['id']}@test"}
    sequences = [int(event["SEQUENCE"]) for event in events]
    assert sequences == sorted(set(sequences))
    assert [event["DTSTART"].dt for event in events[:2]] == [at(60, "09:00"), at(60, "11:00")]
    assert [str(event["STATUS"]) for event in events] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    for event in events:
        assert (str(event["ORGANIZER"]), str(event["ATTENDEE"])) == (
            "mailto:no-reply@example.org",
            "mailto:ida@example.org",
        )
        assert str(event["SUMMARY"]) == "Ihr Termin"
        assert "DESCRIPTION" not in event
    for mail in mails:  # of nobody's health, and of nobody but who gets it
        told = "".join(str(p.get_payload(decode=True)) for p in mail.walk() if not p.is_multipart()) + mail.as_string()
        assert not [
            word for word in ("Oncology", "consultation", "Sorescu", "doctor@", doctor, patient) if word in told
        ]
    to_doctor = post.taken("doctor@example.org", 3)
    assert [calendar_in(mail)[0] for mail in to_doctor] == ["REQUEST", "REQUEST", "CANCEL"]


def test_times_that_a_patient_names_instead_come_to_the_doctor_as_a_counter_proposal(post: Post) -> None:
    clinic = post.clinic
    doctor, patient = post.person("Practitioner", "counter@example.org"), post.person("Patient", "eva@example.org")
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30, confirmation=True))
    made = asked(clinic, doctor, patient, "hold", 61)
    place = f"Appointment/{made['id']}"
    assert calendar_in(post.taken("counter@example.org", 1)[0])[0] == "REQUEST"
    assert clinic.call("counter", place, start=at(61, "12:00").isoformat()).status_code == 200
    method, event = calendar_in(post.taken("counter@example.org", 2)[1])
    assert (method, event["DTSTART"].dt, str(event["STATUS"])) == ("COUNTER", at(61, "12:00"), "TENTATIVE")
    # What the doctor offers is nothing that a calendar could hold: several times, of which one will be.
    assert clinic.call("propose", place, start=[at(61, hour).isoformat() for hour in ("13:00", "14:00")]).is_success
    (offered,) = post.taken("eva@example.org", 1)
    assert [one.get_content_type() for one in offered.walk()] == ["text/plain"]


def test_who_wants_no_invitations_gets_the_mail_alone_and_who_wants_no_mail_nothing(post: Post) -> None:
    clinic = post.clinic
    doctor, patient = post.person("Practitioner", "quiet@example.org"), post.person("Patient", "plain@example.org")
    post.says(patient, kinds={"invitation": []})
    post.says(doctor, kinds={"appointment": []})
    clinic.schedule(doctor)
    made = asked(clinic, doctor, patient, "book", 62)
    (mail,) = post.taken("plain@example.org", 1)
    assert [one.get_content_type() for one in mail.walk()] == ["text/plain"]
    assert clinic.call("cancel", f"Appointment/{made['id']}", reason="pat").status_code == 200
    post.taken("plain@example.org", 2)
    post.taken("quiet@example.org", 0)
