"""What `$find` offers, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.resources.scheduling.conftest import (
    BUCHAREST,
    CONSULTATION,
    HOUSE_CALL,
    Clinic,
    Json,
    at,
    hours,
    service,
    the_one,
)


def clocks_of(offers: list[Json]) -> list[str]:
    return [datetime.fromisoformat(offer["start"]).astimezone(BUCHAREST).strftime("%H:%M") for offer in offers]


def on(clinic: Clinic, day: int, **asked: Any) -> list[Json]:
    return clinic.find(start=at(day, "00:00").isoformat(), end=at(day, "23:59").isoformat(), **asked)


def test_a_free_day_is_offered_whole_and_in_the_words_of_r4(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    schedule = clinic.schedule(doctor)
    offers = on(clinic, 10, practitioner=doctor)
    assert clocks_of(offers) == [f"{h:02}:{m}" for h in range(9, 17) for m in ("00", "30")]
    first = offers[0]
    assert first["status"] == "proposed"
    assert first["minutesDuration"] == 30
    assert first["serviceType"] == [CONSULTATION]
    assert first["start"].endswith(("+02:00", "+03:00"))
    assert first["extension"] == [
        {"url": "urn:healthsphere:StructureDefinition:schedule", "valueReference": {"reference": schedule}}
    ]
    assert first["participant"] == [{"actor": {"reference": doctor}, "required": "required", "status": "needs-action"}]
    for offer in offers[:3]:
        assert clinic.client.post("Appointment/$validate", json=offer).json()["issue"][0]["severity"] != "error"


def test_pages_hold_every_offer_once_and_in_order(clinic: Clinic) -> None:
    doctors = [clinic.doctor(), clinic.doctor()]
    for doctor in doctors:
        clinic.schedule(doctor)
    asked = {"start": at(10, "00:00").isoformat(), "end": at(12, "00:00").isoformat(), "_count": 7}
    pairs = [*asked.items(), *(("practitioner", doctor) for doctor in doctors)]
    body = clinic.client.get("Appointment/$find", params=pairs).json()
    found: list[tuple[str, str]] = []
    while True:
        found += [(e["resource"]["start"], e["resource"]["id"]) for e in body["entry"]]
        following = [row["url"] for row in body["link"] if row["relation"] == "next"]
        if not following:
            break
        body = clinic.client.get(following[0]).json()
    assert len(found) == len(set(found)) == 64
    assert [start for start, _ in found] == sorted(start for start, _ in found)


def test_what_is_booked_held_or_kept_free_around_it_is_not_offered(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor, hours("09:00", "12:00"), service(CONSULTATION, 30, 0, 30), grid=30)
    clinic.booked(on(clinic, 11, practitioner=doctor)[2], patient)
    # 10:00 is booked, and the half hour behind is kept free; a visit at 9:30 would need that half hour, too
    assert clocks_of(on(clinic, 11, practitioner=doctor)) == ["09:00", "11:00", "11:30"]
    slots = clinic.client.get("Slot", params={"schedule": schedule_of(clinic, doctor)}).json()["entry"]
    assert sorted(row["resource"]["status"] for row in slots) == ["busy", "busy-unavailable"]


def schedule_of(clinic: Clinic, actor: str) -> str:
    (row,) = clinic.client.get("Schedule", params={"actor": actor}).json()["entry"]
    return f"Schedule/{row['resource']['id']}"


def test_notice_and_horizon_bound_what_is_offered(clinic: Clinic, clocks: Any) -> None:
    doctor = clinic.doctor()
    day = [hours("09:00", "17:00"), service(CONSULTATION, 60)]
    clinic.schedule(doctor, *day, zone="UTC", minimumNotice=120, bookingHorizon=2)
    clocks(at(1, "09:10", UTC))
    offers = clinic.find(practitioner=doctor, _count=100)
    assert offers[0]["start"][11:16] == "12:00"
    assert datetime.fromisoformat(offers[-1]["start"]) < at(1, "09:10", UTC) + timedelta(days=2)
    assert len(offers) == 5 + 8 + 1


def test_types_of_visit_have_their_own_length_and_who_has_none_is_not_offered(clinic: Clinic) -> None:
    doctor, other = clinic.doctor(), clinic.doctor()
    clinic.schedule(doctor, hours("09:00", "12:00"), service(CONSULTATION, 30), service(HOUSE_CALL, 90))
    clinic.schedule(other, hours("09:00", "12:00"), service(CONSULTATION, 30))
    asked = f"practitioner={doctor}&practitioner={other}&visit-type=http://example.org/visits|house-call"
    span = (
        f"start={at(10, '00:00').strftime('%Y-%m-%dT%H:%M:%SZ')}&end={at(10, '23:00').strftime('%Y-%m-%dT%H:%M:%SZ')}"
    )
    body = clinic.client.get(f"Appointment/$find?{asked}&{span}").json()
    offers = [row["resource"] for row in body["entry"]]
    assert [offer["minutesDuration"] for offer in offers] == [90, 90]
    assert {offer["participant"][0]["actor"]["reference"] for offer in offers} == {doctor}


def test_a_doctor_and_a_room_are_offered_when_both_are_free(clinic: Clinic) -> None:
    doctor, room, patient = clinic.doctor(), clinic.room(), clinic.patient()
    clinic.schedule(doctor, hours("09:00", "12:00"), service(CONSULTATION, 30))
    clinic.schedule(room, hours("10:00", "13:00"), service(CONSULTATION, 30))
    asked = {"practitioner": doctor, "location_reference": room}
    assert clocks_of(on(clinic, 12, **asked)) == ["10:00", "10:30", "11:00", "11:30"]
    made = clinic.booked(on(clinic, 12, **asked)[1], patient)
    assert {p["actor"]["reference"] for p in made["participant"]} == {doctor, room, patient}
    assert clocks_of(on(clinic, 12, **asked)) == ["10:00", "11:00", "11:30"]
    assert len(on(clinic, 12, practitioner=doctor)) == 5


def test_slots_that_an_ehr_writes_are_the_availability(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    schedule = clinic.put("Schedule", {"actor": [{"reference": doctor}]})
    slots = [
        clinic.put(
            "Slot",
            {
                "schedule": {"reference": schedule},
                "status": status,
                "start": at(13, clock).isoformat(),
                "end": (at(13, clock) + timedelta(minutes=20)).isoformat(),
            },
        )
        for clock, status in (("09:00", "free"), ("09:20", "busy"), ("09:40", "free"))
    ]
    offers = on(clinic, 13, practitioner=doctor)
    assert [offer["slot"][0]["reference"] for offer in offers] == [slots[0], slots[2]]
    made = clinic.booked(offers[0], patient)
    assert made["minutesDuration"] == 20
    assert clinic.client.get(slots[0]).json()["status"] == "busy"
    assert len(on(clinic, 13, practitioner=doctor)) == 1
    again = clinic.client.post(
        "Appointment", json=clinic.appointment(at(13, "09:00"), 20, patient, slot=[{"reference": slots[0]}])
    )
    assert again.status_code == 409
    assert clinic.call("cancel", f"Appointment/{made['id']}", reason="pat").status_code == 200
    assert clinic.client.get(slots[0]).json()["status"] == "free"
    assert len(on(clinic, 13, practitioner=doctor)) == 2


def test_the_hours_of_a_role_count_where_a_schedule_has_neither_rules_nor_slots(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    role = clinic.put(
        "PractitionerRole",
        {
            "active": True,
            "practitioner": {"reference": doctor},
            "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/timezone", "valueCode": "Europe/Bucharest"}],
            "availableTime": [{"availableStartTime": "09:00:00", "availableEndTime": "11:00:00"}],
        },
    )
    clinic.put("Schedule", {"actor": [{"reference": role}]})
    offers = on(clinic, 13, practitioner=doctor)
    assert clocks_of(offers) == ["09:00", "09:30", "10:00", "10:30"]
    clinic.booked(offers[3], patient)
    assert clocks_of(on(clinic, 13, practitioner=role)) == ["09:00", "09:30", "10:00"]


def test_busy_slots_of_others_close_a_schedule_with_rules(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    schedule = clinic.schedule(doctor, hours("09:00", "11:00"), service(CONSULTATION, 30))
    clinic.put(
        "Slot",
        {
            "schedule": {"reference": schedule},
            "status": "busy-unavailable",
            "start": at(13, "09:15").isoformat(),
            "end": at(13, "09:45").isoformat(),
        },
    )
    assert clocks_of(on(clinic, 13, practitioner=doctor)) == ["10:00", "10:30"]


def test_specialties_organizations_and_places_select(clinic: Clinic) -> None:
    doctor, other = clinic.doctor(), clinic.doctor()
    organization = clinic.put("Organization", {"name": "Clinic"})
    cardiology = {"coding": [{"system": "http://snomed.info/sct", "code": "394579002"}]}
    clinic.put(
        "PractitionerRole",
        {
            "practitioner": {"reference": doctor},
            "organization": {"reference": organization},
            "specialty": [cardiology],
        },
    )
    mine, theirs = clinic.schedule(doctor), clinic.schedule(other)
    assert len(on(clinic, 10, organization=organization)) == 16
    by_specialty = on(clinic, 10, specialty="http://snomed.info/sct|394579002", organization=organization)
    assert {offer["extension"][0]["valueReference"]["reference"] for offer in by_specialty} == {mine}
    assert on(clinic, 10, specialty="http://snomed.info/sct|394579002", practitioner=other) == []
    assert len(on(clinic, 10, schedule=theirs)) == 16
    city = clinic.put("Location", {"name": "Room", "address": {"city": "Sighisoara"}})
    clinic.schedule(city)
    assert {o["participant"][0]["actor"]["reference"] for o in on(clinic, 10, location_string="sighiso")} == {city}


def test_timing_tells_the_preferred_times(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    clinic.schedule(doctor)
    timing = {"repeat": {"dayOfWeek": ["tue"], "when": ["AFT"]}}
    rows = [
        {"name": "practitioner", "valueReference": {"reference": doctor}},
        {"name": "timing", "valueTiming": timing},
        {"name": "_count", "valueInteger": 100},
    ]
    body = clinic.client.post("Appointment/$find", json={"resourceType": "Parameters", "parameter": rows}).json()
    starts = [datetime.fromisoformat(e["resource"]["start"]).astimezone(BUCHAREST) for e in body["entry"]]
    assert starts
    assert {start.weekday() for start in starts} == {1}
    assert all(12 <= start.hour < 18 for start in starts)


@pytest.mark.parametrize("hidden", ["inactive doctor", "inactive schedule", "deleted doctor"])
def test_who_is_not_active_any_more_is_not_offered(clinic: Clinic, hidden: str) -> None:
    doctor = clinic.doctor()
    schedule = clinic.schedule(doctor)
    offer = on(clinic, 10, practitioner=doctor)[0]
    if hidden == "deleted doctor":
        assert clinic.client.delete(doctor).status_code in (200, 204)
    else:
        about = doctor if hidden == "inactive doctor" else schedule
        content = clinic.client.get(about).json()
        clinic.client.put(about, json={**content, "active": False})
    assert on(clinic, 10, schedule=schedule) == []
    refused = clinic.call(
        "book", appointment_reference=f"Appointment/{offer['id']}", patient_reference=clinic.patient()
    )
    assert refused.status_code == 404


def test_nothing_free_says_why(clinic: Clinic) -> None:
    body = clinic.client.get("Appointment/$find", params={"practitioner": "Practitioner/nobody"}).json()
    (row,) = body["entry"]
    assert row["search"]["mode"] == "outcome"
    assert row["resource"]["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-NOTHING"


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("", "HS-SCHED-WHOM"),
        ("start=2027-01-01", "HS-SCHED-WHOM"),
        ("practitioner=Patient/1", "HS-OP-PARAMETER"),
        ("practitioner=1&start=2027-02-01&end=2027-01-01", "HS-SCHED-SPAN"),
        ("practitioner=1&start=soon", "HS-SCHED-MOMENT"),
        ("practitioner=1&_after=x", "HS-OP-PARAMETER"),
        ("practitoner=1", "HS-OP-UNKNOWN"),
    ],
)
def test_what_cannot_be_answered_is_refused(clinic: Clinic, query: str, key: str) -> None:
    answer = clinic.client.get(f"Appointment/$find?{query}")
    assert answer.status_code in (400, 422)
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == key


def test_an_appointment_to_be_moved_is_not_in_its_own_way(clinic: Clinic) -> None:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor, hours("09:00", "10:00"), service(CONSULTATION, 30), grid=15)
    made = clinic.booked(on(clinic, 14, practitioner=doctor)[0], patient)
    assert clocks_of(on(clinic, 14, practitioner=doctor)) == ["09:30"]
    asked = {"practitioner": doctor, "ignore_appointment": f"Appointment/{made['id']}"}
    assert clocks_of(on(clinic, 14, **asked)) == ["09:00", "09:15", "09:30"]
    moved = clinic.call("reschedule", f"Appointment/{made['id']}", start=at(14, "09:15").isoformat())
    assert moved.status_code == 200, moved.text
    assert the_one(moved)["id"] == made["id"]
    assert on(clinic, 14, practitioner=doctor) == []
