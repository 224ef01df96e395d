"""Whatever is done in whatever order, no two Appointments of one resource are at one time beyond its capacity.

The model knows nothing of locks: after each step it reads the stored Appointments, and counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from resources.scheduling.companion import HOLDING
from tests.conftest import InProcessServer
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, service

#: Starts and lengths in minutes that meet, touch and cross midnight.
moments = st.sampled_from([0, 5, 7, 10, 20, 25, 30, 40, 60])
lengths = st.sampled_from([1, 5, 15, 30, 45])
capacities = st.sampled_from([1, 1, 2, 3])
days = itertools.count(60)
WORDS = ("pending", "booked", "arrived", "waitlist", "proposed", "cancelled", "noshow", "entered-in-error")


class Bookings(RuleBasedStateMachine):
    """Operations and plain writes on two doctors and a room."""

    clinic: Clinic

    @initialize(capacity=capacities, buffer=st.sampled_from([0, 0, 5]))
    def begin(self, capacity: int, buffer: int) -> None:
        clinic = self.clinic
        self.start = at(next(days), "23:30")
        self.patient = clinic.patient()
        self.resources = {clinic.doctor(): 1, clinic.doctor(): capacity, clinic.room(): 1}
        for actor, most in self.resources.items():
            given = [hours("00:00", "24:00"), service(CONSULTATION, 15, buffer, buffer)]
            clinic.schedule(actor, *given, capacity=most, grid=5)
        self.made: list[str] = []

    def _actors(self, which: int) -> list[str]:
        names = list(self.resources)
        return [name for number, name in enumerate(names) if which & (1 << number)] or names[:1]

    def _noted(self, answer: Any) -> None:
        assert answer.status_code in (200, 201, 204, 404, 409, 410, 412, 422), answer.text
        if answer.status_code == 201:
            body = answer.json()
            rows = [e["resource"] for e in body["entry"]] if body["resourceType"] == "Bundle" else [body]
            self.made += [row["id"] for row in rows if row["resourceType"] == "Appointment"]

    def _one(self, number: int) -> str:
        return f"Appointment/{self.made[number % len(self.made)]}" if self.made else "Appointment/none"

    @rule(which=st.integers(1, 7), minute=moments, length=lengths, status=st.sampled_from(WORDS[:3]))
    def write(self, which: int, minute: int, length: int, status: str) -> None:
        start = self.start + timedelta(minutes=minute)
        more = {"serviceType": [CONSULTATION]} if length == 15 else {}
        appointment = self.clinic.appointment(start, length, *self._actors(which), status=status, **more)
        self._noted(self.clinic.client.post("Appointment", json=appointment))

    @rule(which=st.integers(1, 7), minute=moments, operation=st.sampled_from(["hold", "book"]))
    def take(self, which: int, minute: int, operation: str) -> None:
        start = self.start + timedelta(minutes=minute)
        draft = self.clinic.appointment(start, 15, *self._actors(which), self.patient, status="pending")
        self._noted(self.clinic.call(operation, appointment_resource=draft))

    @rule(number=st.integers(0, 20), minute=moments, length=lengths, status=st.sampled_from(WORDS))
    def rewrite(self, number: int, minute: int, length: int, status: str) -> None:
        place = self._one(number)
        found = self.clinic.client.get(place)
        if found.status_code == 200:
            start = self.start + timedelta(minutes=minute)
            moved = {
                "start": start.isoformat(),
                "end": (start + timedelta(minutes=length)).isoformat(),
                "status": status,
            }
            reason = {"cancelationReason": {"text": "x"}} if status == "cancelled" else {}
            kept = {name: value for name, value in found.json().items() if name != "cancelationReason"}
            self._noted(self.clinic.client.put(place, json={**kept, **moved, **reason}))

    @rule(number=st.integers(0, 20), minute=moments)
    def move(self, number: int, minute: int) -> None:
        start = (self.start + timedelta(minutes=minute)).isoformat()
        self._noted(self.clinic.call("reschedule", self._one(number), start=start))

    @rule(number=st.integers(0, 20), minute=moments, other=moments)
    def negotiate(self, number: int, minute: int, other: int) -> None:
        place = self._one(number)
        starts = [(self.start + timedelta(minutes=m)).isoformat() for m in {minute, other}]
        self._noted(self.clinic.call("propose", place, start=starts))
        self._noted(self.clinic.call("accept", place, start=starts[0]))

    @rule(number=st.integers(0, 20), operation=st.sampled_from(["book", "confirm", "decline", "cancel"]))
    def answer(self, number: int, operation: str) -> None:
        if operation == "book":
            self._noted(self.clinic.call("book", appointment_reference=self._one(number)))
        else:
            self._noted(self.clinic.call(operation, self._one(number)))

    @rule(number=st.integers(0, 20))
    def delete(self, number: int) -> None:
        self._noted(self.clinic.client.delete(self._one(number)))

    @invariant()
    def nobody_is_in_two_places(self) -> None:
        if not getattr(self, "made", None):
            return
        found = self.clinic.client.get("Appointment", params={"_id": ",".join(set(self.made)), "_count": 1000}).json()
        rows = [row["resource"] for row in found.get("entry", ())]
        for actor, most in self.resources.items():
            edges = sorted(edge for row in rows if takes(row, actor) for edge in edges_of(row))
            depth = 0
            for _, step in edges:
                depth += step
                assert depth <= most, (actor, rows)


def takes(appointment: Json, actor: str) -> bool:
    people = [p["actor"]["reference"] for p in appointment["participant"]]
    return appointment["status"] in HOLDING and actor in people


def edges_of(appointment: Json) -> list[tuple[datetime, int]]:
    return [(datetime.fromisoformat(appointment["start"]), 1), (datetime.fromisoformat(appointment["end"]), -1)]


@pytest.fixture(scope="module")
def own_clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    return Clinic(make_server())


def test_no_two_appointments_of_one_resource_ever_exceed_its_capacity(own_clinic: Clinic) -> None:
    class Here(Bookings):
        clinic = own_clinic

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=8, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
