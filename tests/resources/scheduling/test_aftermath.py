"""What happens by itself: holds end, people are told and reminded, and a freed time goes to the waitlist."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from fhir_server.jobs.follower import Changed
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from resources.scheduling import moment
from resources.scheduling.aftermath import REMINDER, follow, remind
from resources.scheduling.extensions import SCHEDULE
from tests.conftest import InProcessServer
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, part, service, the_one
from tests.resources.told import Told


class Times:
    """A clock of the server and of scheduling, and the work that is due by it."""

    def __init__(self, clinic: Clinic, set_clock: Callable[[datetime], None], clock: list[int]) -> None:
        self.clinic, self._set, self._clock = clinic, set_clock, clock

    def to(self, when: datetime) -> None:
        """Go there, and do all that is due."""
        self._set(when)
        self._clock[0] = moment.us_of(when)
        self.settle()

    def settle(self) -> None:
        """Have all that changed be followed, and all that is due be done, until there is nothing left."""

        async def work() -> None:
            context = self.clinic.server.context
            store = context.repository.store
            fields, all_ = {"v": 1}, {"sort": [("_id", 1)], "limit": 0}
            while True:
                before = await store.find("Appointment", {}, fields=fields, **all_)
                await context.feed.caught_up()
                done = await context.timers.run_due()
                # The server looks for what is due, too: what it has done has changed something.
                if not done and before == await store.find("Appointment", {}, fields=fields, **all_):
                    return

        self.clinic.server.run(work())


@pytest.fixture(scope="module")
def clock() -> list[int]:
    return [moment.us_of(moment.now())]


@pytest.fixture(scope="module")
def timed(make_server: Callable[..., InProcessServer], clock: list[int]) -> Clinic:
    return Clinic(make_server({"now": lambda: clock[0]}))


@pytest.fixture
def times(timed: Clinic, clocks: Callable[[datetime], None], clock: list[int]) -> Times:
    made = Times(timed, clocks, clock)
    made.to(at(0, "12:00"))
    return made


def told(clinic: Clinic, person: str) -> list[str]:
    """What somebody was told, in order."""
    query = {"recipient": person, "_sort": "_lastUpdated,_id", "_count": "100"}
    body = clinic.client.get("Communication", params=query).json()
    rows = [row["resource"] for row in body.get("entry", ())]
    assert all("payload" not in row for row in rows)
    return sorted(row["category"][0]["coding"][0]["code"] for row in rows)


def offers(clinic: Clinic, doctor: str, day: int) -> list[Json]:
    return clinic.find(practitioner=doctor, start=at(day, "00:00").isoformat(), end=at(day, "23:00").isoformat())


def read(clinic: Clinic, appointment: Json) -> Json:
    return dict(clinic.client.get(f"Appointment/{appointment['id']}").json())


def test_a_hold_that_nobody_books_is_cancelled_when_it_has_run_out(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    clinic.schedule(doctor, holdMinutes=15)
    offer = offers(clinic, doctor, 5)[0]
    held = the_one(clinic.call("hold", appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient))
    times.to(at(0, "12:14"))
    assert read(clinic, held)["status"] == "pending"
    times.to(at(0, "12:15"))
    assert read(clinic, held)["status"] == "cancelled"
    assert [t for t in clinic.taken() if t["a"] == held["id"]] == []
    slots = clinic.client.get("Slot", params={"_id": held["slot"][0]["reference"].partition("/")[2]}).json()
    assert slots["total"] == 0


def test_a_hold_that_was_booked_in_time_stays(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    clinic.schedule(doctor)
    offer = offers(clinic, doctor, 5)[0]
    held = the_one(clinic.call("hold", appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient))
    times.settle()
    assert clinic.call("book", appointment_reference=f"Appointment/{held['id']}").status_code == 200
    times.to(at(1, "12:00"))
    assert read(clinic, held)["status"] == "booked"


def test_people_are_told_once_and_reminded_at_the_set_times(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    reminders = [part("reminder", valueInteger=minutes) for minutes in (1440, 60)]
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), *reminders)
    made = clinic.booked(offers(clinic, doctor, 5)[0], patient)
    times.settle()
    assert told(clinic, patient) == ["appointment-booked"]
    assert told(clinic, doctor) == ["appointment-booked"]
    times.to(at(4, "08:59"))
    assert told(clinic, patient) == ["appointment-booked"]
    times.to(at(4, "09:00"))
    assert told(clinic, patient) == ["appointment-booked", "appointment-reminder"]
    moved = clinic.call("reschedule", f"Appointment/{made['id']}", start=at(5, "16:00").isoformat())
    assert moved.status_code == 200, moved.text
    times.to(at(5, "08:00"))  # when the second reminder of the first time would have been due
    assert told(clinic, patient) == ["appointment-booked", "appointment-moved", "appointment-reminder"]
    times.to(at(5, "15:00"))
    assert told(clinic, patient).count("appointment-reminder") == 2
    assert clinic.call("cancel", f"Appointment/{made['id']}").status_code == 200
    times.settle()
    assert told(clinic, patient).count("appointment-cancelled") == 1
    assert told(clinic, doctor).count("appointment-cancelled") == 1


def waiting(clinic: Clinic, doctor: str, day: int, created: str, **more: Any) -> tuple[Json, str]:
    patient = clinic.patient()
    wish: Json = {
        "resourceType": "Appointment",
        "status": "waitlist",
        "created": created,
        "serviceType": [CONSULTATION],
        "requestedPeriod": [{"start": at(day, "00:00").isoformat(), "end": at(day, "23:59").isoformat()}],
        "participant": [{"actor": {"reference": actor}, "status": "needs-action"} for actor in (doctor, patient)],
        **more,
    }
    made = clinic.client.post("Appointment", json=wish)
    assert made.status_code == 201, made.text
    return dict(made.json()), patient


def test_a_freed_time_is_offered_to_one_after_the_other(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), waitlistOffer=30)
    late, _ = waiting(clinic, doctor, 6, "2026-03-01")
    early, early_patient = waiting(clinic, doctor, 6, "2026-01-01")
    urgent, urgent_patient = waiting(clinic, doctor, 6, "2026-06-01", priority=1)
    elsewhen, _ = waiting(clinic, doctor, 7, "2025-01-01")
    made = clinic.booked(offers(clinic, doctor, 6)[4], patient)
    times.settle()
    assert clinic.call("cancel", f"Appointment/{made['id']}").status_code == 200
    times.settle()
    assert [read(clinic, one)["status"] for one in (urgent, early, late)] == ["pending", "waitlist", "waitlist"]
    assert read(clinic, urgent)["start"] == made["start"]
    assert told(clinic, urgent_patient) == ["waitlist-offer"]
    assert made["start"] not in {offer["start"] for offer in offers(clinic, doctor, 6)}
    declined = clinic.call("decline", f"Appointment/{urgent['id']}")
    assert the_one(declined)["status"] == "waitlist", declined.text
    assert "start" not in the_one(declined)
    times.settle()
    assert [read(clinic, one)["status"] for one in (urgent, early, late)] == ["waitlist", "pending", "waitlist"]
    assert told(clinic, early_patient) == ["waitlist-offer"]
    times.to(at(0, "12:31"))  # who does not answer waits on
    assert [read(clinic, one)["status"] for one in (urgent, early, late)] == ["waitlist", "waitlist", "pending"]
    taken = clinic.call("book", appointment_reference=f"Appointment/{late['id']}")
    assert taken.status_code == 200, taken.text
    assert the_one(taken)["status"] == "booked"
    assert the_one(taken)["start"] == made["start"]
    assert read(clinic, elsewhen)["status"] == "waitlist"


def test_nothing_is_offered_so_late_that_nobody_could_come(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), waitlistNotice=72 * 60)
    one, _ = waiting(clinic, doctor, 3, "2026-03-01")
    made = clinic.booked(offers(clinic, doctor, 3)[0], patient)
    assert clinic.call("cancel", f"Appointment/{made['id']}").status_code == 200
    times.settle()
    assert read(clinic, one)["status"] == "waitlist"


def test_a_time_that_was_freed_by_moving_is_offered_too(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    clinic.schedule(doctor)
    one, _ = waiting(clinic, doctor, 8, "2026-03-01")
    made = clinic.booked(offers(clinic, doctor, 8)[0], patient)
    times.settle()
    assert clinic.call("reschedule", f"Appointment/{made['id']}", start=at(9, "09:00").isoformat()).status_code == 200
    times.settle()
    assert read(clinic, one)["start"] == made["start"]
    accepted = clinic.call("book", appointment_reference=f"Appointment/{one['id']}")
    assert the_one(accepted)["status"] == "booked"


def test_a_request_that_nobody_answers_is_cancelled_and_both_are_told(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    schedule = clinic.schedule(doctor)
    asked = clinic.appointment(
        at(9, "10:00"),
        30,
        doctor,
        patient,
        status="pending",
        extension=[
            {"url": SCHEDULE, "valueReference": {"reference": schedule}},
            {
                "url": "urn:healthsphere:StructureDefinition:held-until",
                "valueInstant": (at(0, "12:00") + timedelta(hours=1)).isoformat(),
            },
        ],
    )
    made = clinic.client.post("Appointment", json=asked).json()
    times.settle()
    assert told(clinic, doctor) == ["appointment-asked"]
    times.to(at(0, "13:00"))
    gone = read(clinic, made)
    assert gone["status"] == "cancelled"
    assert gone["cancelationReason"]["coding"][0]["code"] == "other"
    assert told(clinic, patient) == ["appointment-cancelled"]
    assert "appointment-cancelled" in told(clinic, doctor)


def test_what_is_told_of_a_restricted_appointment_is_as_restricted(times: Times) -> None:
    clinic, patient = times.clinic, times.clinic.patient()
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}
    doctor = clinic.doctor()
    named = [{"url": SCHEDULE, "valueReference": {"reference": clinic.schedule(doctor)}}]
    appointment = clinic.appointment(at(9, "10:00"), 30, doctor, patient, meta={"security": [label]}, extension=named)
    assert clinic.client.post("Appointment", json=appointment).status_code == 201
    times.settle()
    rows = clinic.client.get("Communication", params={"subject": patient}).json()["entry"]
    assert len(rows) == 2, "to the patient and to the doctor, both of the record of the patient"
    assert all(row["resource"]["meta"]["security"] == [label] for row in rows)


def test_what_a_system_brings_in_as_it_was_is_news_to_nobody(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    made = clinic.client.post("Appointment", json=clinic.appointment(at(9, "10:00"), 30, doctor, patient))
    assert made.status_code == 201
    times.settle()
    assert told(clinic, patient) == told(clinic, doctor) == []


def test_what_is_followed_twice_is_told_once_in_the_app_and_by_mail(times: Times) -> None:
    clinic, doctor, patient = times.clinic, times.clinic.doctor(), times.clinic.patient()
    news = Told(clinic.server, clinic.client, doctor, patient)
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), part("reminder", valueInteger=60))
    made = clinic.booked(offers(clinic, doctor, 5)[0], patient)
    context, name = clinic.server.context, f"Appointment/{made['id']}"
    times.settle()
    body = codec.encode(clinic.client.get(name).json())
    changed = Changed("Appointment", made["id"], 1, False, moment.us_of(moment.now()), body)
    clinic.server.run(follow(context, [changed]))
    times.to(at(5, "08:00"))
    reminder = Timer(REMINDER, f"{made['id']}/60", 0, {"id": made["id"], "start": made["start"]}, 1)
    clinic.server.run(remind(context, reminder))
    booked, reminded = ("appointment-booked", name), ("appointment-reminder", name)
    assert news.events(patient) == news.mails(patient) == [booked, reminded]
    assert news.events(doctor) == news.mails(doctor) == [booked]
    assert told(clinic, patient) == ["appointment-booked", "appointment-reminder"], "of the record"
    assert {letter.title for letter in news.letters} == {"Your appointment"}


def test_an_appointment_that_its_patient_does_not_see_is_no_news_to_the_patient(times: Times) -> None:
    clinic, patient, doctor = times.clinic, times.clinic.patient(), times.clinic.doctor()
    news = Told(clinic.server, clinic.client, doctor, patient)
    label = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "NOPAT"}
    named = [{"url": SCHEDULE, "valueReference": {"reference": clinic.schedule(doctor)}}]
    appointment = clinic.appointment(at(9, "10:00"), 30, doctor, patient, meta={"security": [label]}, extension=named)
    made = clinic.client.post("Appointment", json=appointment)
    assert made.status_code == 201
    times.settle()
    assert news.events(patient) == news.mails(patient) == []
    assert news.events(doctor) == [("appointment-booked", f"Appointment/{made.json()['id']}")]
