"""Series, iCalendar, private feeds, links to video visits, and the next free times."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from icalendar import Calendar

from resources.scheduling.next_free import next_free
from tests.resources.scheduling.conftest import (
    BUCHAREST,
    CONSULTATION,
    Clinic,
    Json,
    at,
    hours,
    part,
    service,
    the_one,
)


def on(clinic: Clinic, doctor: str, day: int) -> list[Json]:
    return clinic.find(practitioner=doctor, start=at(day, "00:00").isoformat(), end=at(day, "23:00").isoformat())


# --- series ---------------------------------------------------------------------------------------------------------


def rows(answer: httpx.Response, kind: str = "Appointment") -> list[Json]:
    return [e["resource"] for e in answer.json()["entry"] if e["resource"]["resourceType"] == kind]


def test_a_series_is_at_the_same_time_of_the_wall_clock_in_summer_and_in_winter(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor, bookingHorizon=400)
    offer = on(clinic, doctor, 20)[2]
    answer = clinic.call(
        "book-series",
        appointment_reference=f"Appointment/{offer['id']}",
        patient_reference=patient,
        rrule="FREQ=WEEKLY;INTERVAL=4;COUNT=12",
    )
    assert answer.status_code == 201, answer.text
    starts = [datetime.fromisoformat(row["start"]) for row in rows(answer)]
    assert {start.astimezone(BUCHAREST).strftime("%H:%M") for start in starts} == {"10:00"}
    assert len({start.utcoffset() for start in starts}) == 2, "eleven months have a change of the clocks"
    assert len(starts) == len(set(starts)) == 12
    assert len({row["extension"][-1]["valueString"] for row in rows(answer)}) == 1
    assert {row["status"] for row in rows(answer)} == {"booked"}


def test_a_series_is_booked_whole_or_not_at_all_or_what_is_possible_with_a_list(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    clinic.booked(on(clinic, doctor, 37)[0], patient)
    first = on(clinic, doctor, 30)[0]
    asked: Json = {
        "appointment_reference": f"Appointment/{first['id']}",
        "patient_reference": patient,
        "rrule": "FREQ=WEEKLY;COUNT=3",
    }
    refused = clinic.call("book-series", **asked)
    assert refused.status_code == 409
    assert refused.json()["contained"]
    assert clinic.client.get("Appointment", params={"actor": doctor}).json()["total"] == 1
    listed = clinic.call("book-series", **asked, failures="list")
    assert listed.status_code == 201, listed.text
    assert len(rows(listed)) == 2
    (issue,) = rows(listed, "OperationOutcome")[0]["issue"]
    assert at(37, "09:00").strftime("%Y-%m-%dT%H:%M") in issue["diagnostics"]


@pytest.mark.parametrize(
    "rule", ["", "WEEKLY", "FREQ=DAILY", "FREQ=SECONDLY;COUNT=3", "FREQ=DAILY;COUNT=61", "FREQ=DAILY;UNTIL=20200101"]
)
def test_a_rule_that_makes_no_series_is_refused(clinic: Clinic, rule: str) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    offer = on(clinic, doctor, 20)[0]
    answer = clinic.call(
        "book-series", appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient, rrule=rule
    )
    assert answer.status_code == 400
    assert "HS-SCHED-RRULE" in answer.text


# --- iCalendar ------------------------------------------------------------------------------------------------------


def calendar_of(clinic: Clinic, appointment: Json) -> Any:
    answer = clinic.client.get(f"Appointment/{appointment['id']}/$ical")
    assert answer.status_code == 200, answer.text
    binary = answer.json()
    assert binary["contentType"].startswith("text/calendar")
    return Calendar.from_ical(b64decode(binary["data"]))


def test_an_appointment_is_invited_to_moved_and_cancelled_under_one_name_with_growing_sequence(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    made = clinic.booked(on(clinic, doctor, 21)[0], patient)
    place = f"Appointment/{made['id']}"
    invited = calendar_of(clinic, made)
    clinic.call("reschedule", place, start=at(21, "11:00").isoformat())
    moved = calendar_of(clinic, made)
    clinic.call("cancel", place)
    cancelled = calendar_of(clinic, made)
    assert [c["METHOD"] for c in (invited, moved, cancelled)] == ["REQUEST", "REQUEST", "CANCEL"]
    events = [c.walk("VEVENT")[0] for c in (invited, moved, cancelled)]
    assert {event["UID"] for event in events} == {f"{made['id']}@test"}
    sequences = [int(event["SEQUENCE"]) for event in events]
    assert sequences == sorted(set(sequences))
    assert [event["STATUS"] for event in events] == ["CONFIRMED", "CONFIRMED", "CANCELLED"]
    assert events[1]["DTSTART"].dt == at(21, "11:00")
    assert {str(event["SUMMARY"]) for event in events} == {"Appointment"}
    assert str(events[0]["ORGANIZER"]).endswith(doctor)


def test_a_counter_proposal_is_one_in_a_calendar_too(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    offer = on(clinic, doctor, 21)[0]
    held = the_one(clinic.call("hold", appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient))
    assert clinic.call("counter", f"Appointment/{held['id']}", start=at(21, "12:00").isoformat()).status_code == 200
    calendar = calendar_of(clinic, held)
    assert calendar["METHOD"] == "COUNTER"
    (event,) = calendar.walk("VEVENT")
    assert event["DTSTART"].dt == at(21, "12:00")
    assert event["STATUS"] == "TENTATIVE"


def test_what_has_no_time_is_no_event(clinic: Clinic) -> None:
    wish = {
        "resourceType": "Appointment",
        "status": "waitlist",
        "participant": [{"actor": {"reference": clinic.patient()}, "status": "accepted"}],
    }
    made = clinic.client.post("Appointment", json=wish).json()
    answer = clinic.client.get(f"Appointment/{made['id']}/$ical")
    assert answer.status_code == 422
    assert "HS-SCHED-NO-TIME" in answer.text


# --- feeds ----------------------------------------------------------------------------------------------------------


def feed_url(clinic: Clinic, person: str, **given: Any) -> str:
    answer = clinic.call("calendar-feed", person, **given)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["parameter"][0]["valueUrl"])


def test_a_private_feed_has_a_persons_appointments_and_says_nothing_of_them(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    named = {"coding": CONSULTATION["coding"], "text": "Cancer clinic"}
    clinic.schedule(doctor, hours("09:00", "17:00"), service(named, 30))
    made = clinic.booked(on(clinic, doctor, 22)[0], patient)
    gone = clinic.booked(on(clinic, doctor, 22)[0], patient)
    clinic.call("cancel", f"Appointment/{gone['id']}")
    url = feed_url(clinic, patient)
    answer = clinic.client.get(url)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/calendar; charset=utf-8"
    (event,) = Calendar.from_ical(answer.content).walk("VEVENT")
    assert event["DTSTART"].dt == datetime.fromisoformat(made["start"])
    assert "Cancer" not in answer.text
    assert doctor not in answer.text
    assert clinic.client.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    detailed = feed_url(clinic, patient, details=True)
    assert "Cancer clinic" in clinic.client.get(detailed).text
    assert clinic.client.get(url).status_code == 404, "a new one ends the one before"


def test_a_feed_ends_when_its_owner_says_so_and_others_cannot_be_guessed(clinic: Clinic) -> None:
    url = feed_url(clinic, clinic.doctor())
    person = clinic.doctor()
    mine = feed_url(clinic, person)
    assert len(mine.rpartition("/")[2]) == 43 + len(".ics")
    assert clinic.call("calendar-feed", person, revoke=True).status_code == 200
    assert clinic.client.get(mine).status_code == 404
    assert clinic.client.get(url).status_code == 200
    for guess in ("x", "A" * 43, "..%2F..%2Fmetadata"):
        assert clinic.client.get(f"http://test/calendar/{guess}.ics").status_code == 404

    async def stored() -> Any:
        return await clinic.server.context.repository.store.rows("_calendar_feeds").all()

    token = url.rpartition("/")[2].removesuffix(".ics")
    assert token not in str(clinic.server.run(stored()))


# --- video ----------------------------------------------------------------------------------------------------------


def test_the_link_of_a_video_visit_is_told_around_its_time_and_stands_in_no_resource(
    clinic: Clinic, clocks: Callable[[datetime], None]
) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    video = part("video", valueUrl="https://video.example.org/rooms/")
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), video)
    made = clinic.booked(on(clinic, doctor, 23)[0], patient)
    place = f"Appointment/{made['id']}"
    early = clinic.call("join", place)
    assert early.status_code == 422
    assert "HS-SCHED-NOT-OPEN" in early.text
    clocks(at(23, "08:31"))
    link = {p["name"]: p for p in clinic.call("join", place).json()["parameter"]}["url"]["valueUrl"]
    assert link.startswith("https://video.example.org/rooms/")
    assert len(link) > 32 + 2 * 32
    assert clinic.call("join", place).json()["parameter"][0]["valueUrl"] == link
    assert "video.example.org" not in clinic.client.get(place).text
    clocks(at(23, "10:00"))
    assert clinic.call("join", place).status_code == 422


def test_a_visit_in_person_has_no_link(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    made = clinic.booked(on(clinic, doctor, 23)[0], patient)
    assert "HS-SCHED-NO-VIDEO" in clinic.call("join", f"Appointment/{made['id']}").text


# --- the next free times --------------------------------------------------------------------------------------------


def test_the_next_free_times_of_several_schedules_are_told_at_once(clinic: Clinic) -> None:
    one, other = clinic.doctor(), clinic.doctor()
    first = clinic.schedule(one, minimumNotice=1440).partition("/")[2]
    rare = [hours("09:00", "10:00", "sun"), service(CONSULTATION, 60)]
    second = clinic.schedule(other, *rare, minimumNotice=1440).partition("/")[2]

    async def asked() -> Any:
        return await next_free(clinic.server.context, [first, second, "none"], count=2)

    found = clinic.server.run(asked())
    assert set(found) == {first, second}
    assert [len(times) for times in found.values()] == [2, 2]
    sundays = [free.start.astimezone(BUCHAREST) for free in found[second]]
    assert {day.weekday() for day in sundays} == {6}
    assert sundays[1].date() - sundays[0].date() == timedelta(days=7)
    assert all(free.start > datetime.now(UTC) for free in found[first])
