"""Nobody gets a time that somebody has: whoever asks, by whatever way, however many at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import InProcessServer
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, row_of, service, the_one

AT_ONCE = 50


def parameters(**given: Any) -> Json:
    rows = [row_of(name.replace("_", "-"), value) for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": rows}


@pytest.fixture(scope="module")
def clinics(make_server: Callable[..., InProcessServer], clinic: Clinic) -> list[Clinic]:
    """Several processes' worth of servers over one database."""
    database = clinic.server.settings.mongodb_database
    return [clinic, *(Clinic(make_server(mongodb_database=database)) for _ in range(2))]


async def all_at_once(clinics: list[Clinic], path: str, bodies: list[Json]) -> list[httpx.Response]:
    """Send to the servers in turn; each has an event loop of its own."""

    async def one(clinic: Clinic, mine: list[Json]) -> list[httpx.Response]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=clinic.server.app, raise_app_exceptions=False),
            base_url=clinic.server.base_url,
        ) as client:
            return list(await asyncio.gather(*(client.post(path, json=body) for body in mine)))

    shares = [bodies[n :: len(clinics)] for n in range(len(clinics))]
    futures = [
        asyncio.run_coroutine_threadsafe(one(clinic, share), clinic.server._loop)
        for clinic, share in zip(clinics, shares, strict=True)
    ]
    return [answer for future in futures for answer in await asyncio.wrap_future(future)]


@pytest.mark.parametrize("with_room", [False, True], ids=["doctor", "doctor and room"])
def test_of_fifty_who_book_one_time_at_once_one_gets_it_and_the_others_are_told_what_is_free(
    clinics: list[Clinic], with_room: bool
) -> None:
    clinic = clinics[0]
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    asked: Json = {"practitioner": doctor, "start": at(3, "09:00").isoformat()}
    if with_room:
        room = clinic.room()
        clinic.schedule(room)
        asked["location-reference"] = room
    offer = clinic.find(**asked)[0]
    name = f"Appointment/{offer['id']}"
    bodies = [parameters(appointment_reference=name, patient_reference=patient) for _ in range(AT_ONCE)]
    answers = asyncio.run(all_at_once(clinics, "Appointment/$book", bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: AT_ONCE - 1}
    taken = [t for t in clinic.taken() if t["row"].split("/")[0] in schedules_of(offer)]
    assert len(taken) == (2 if with_room else 1)
    for answer in answers:
        if answer.status_code == 409:
            outcome = answer.json()
            assert outcome["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-TAKEN"
            free = outcome["contained"]
            assert len(free) == 5
            assert all(one["status"] == "proposed" and one["start"] != offer["start"] for one in free)
    held = clinic.call("hold", appointment_reference=f"Appointment/{free[0]['id']}", patient_reference=patient)
    assert held.status_code == 201, held.text
    assert the_one(held)["start"] == free[0]["start"]


def schedules_of(offer: Json) -> set[str]:
    return {one["valueReference"]["reference"].partition("/")[2] for one in offer["extension"]}


def test_of_many_who_write_an_appointment_plainly_at_once_one_is_let_in(clinics: list[Clinic]) -> None:
    clinic = clinics[0]
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    bodies = [clinic.appointment(at(4, "10:00"), 17 + n, doctor, patient) for n in range(12)]
    answers = asyncio.run(all_at_once(clinics, "Appointment", bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 11}


def test_as_many_are_let_in_at_once_as_there_is_capacity_for(clinics: list[Clinic]) -> None:
    clinic = clinics[0]
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor, hours("09:00", "17:00"), service(CONSULTATION, 30), capacity=3)
    bodies = [clinic.appointment(at(4, "10:00"), 30, doctor, patient) for _ in range(12)]
    answers = asyncio.run(all_at_once(clinics, "Appointment", bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 3, 409: 9}


def test_different_times_of_one_day_are_all_booked_at_once(clinics: list[Clinic]) -> None:
    clinic = clinics[0]
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    offers = clinic.find(practitioner=doctor, start=at(5, "00:00").isoformat(), end=at(5, "23:00").isoformat())
    assert len(offers) == 16
    bodies = [
        parameters(appointment_reference=f"Appointment/{offer['id']}", patient_reference=patient) for offer in offers
    ]
    answers = asyncio.run(all_at_once(clinics, "Appointment/$book", bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 16}
    assert clinic.find(practitioner=doctor, start=at(5, "00:00").isoformat(), end=at(5, "23:00").isoformat()) == []
