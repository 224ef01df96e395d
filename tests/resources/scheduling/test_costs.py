"""How many commands of MongoDB finding and booking cost, fixed, so that nobody adds one by accident."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import monitoring

from tests.conformance.test_command_counts import Listener
from tests.resources.scheduling.conftest import Clinic, at


@pytest.fixture(scope="module")
def counted(make_server: Callable[..., Any]) -> tuple[Clinic, Listener, str]:
    listener = Listener()
    monitoring.register(listener)
    server = make_server()
    listener.database = server.settings.mongodb_database
    clinic = Clinic(server)
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    clinic.booked(clinic.find(practitioner=doctor, start=at(40, "00:00").isoformat())[0], patient)
    return clinic, listener, doctor


def test_the_first_page_of_a_month_costs_the_same_however_much_is_free(counted: tuple[Clinic, Listener, str]) -> None:
    clinic, listener, doctor = counted
    asked = {"practitioner": doctor, "start": at(1, "00:00").isoformat(), "end": at(31, "00:00").isoformat()}
    for count in (1, 20, 150):
        with listener.noting() as noted:
            assert len(clinic.find(**asked, _count=count)) == count
        # The roles of who is asked for, and of whose Schedules these are; who is not active; then the time itself.
        assert Counter(noted) == {
            "query PractitionerRole": 2,
            "query Schedule": 1,
            "query Practitioner": 1,
            "query _slot_locks": 1,
            "query Slot": 1,
        }


def test_a_whole_month_is_read_in_two_portions(counted: tuple[Clinic, Listener, str]) -> None:
    clinic, listener, doctor = counted
    with listener.noting() as noted:
        assert len(clinic.find(practitioner=doctor, start=at(1, "00:00").isoformat(), _count=1000)) == 31 * 16
    assert Counter(noted)["query _slot_locks"] == Counter(noted)["query Slot"] == 2
    assert len(noted) == 8


def test_a_plain_appointment_of_nobody_with_a_schedule_takes_no_lock(counted: tuple[Clinic, Listener, str]) -> None:
    clinic, listener, _ = counted
    wish = clinic.appointment(at(9, "09:00"), 30, clinic.patient(), status="proposed")
    with listener.noting() as noted:
        assert clinic.client.post("Appointment", json=wish).status_code == 201
    assert [name for name in noted if "_slot_locks" in name or "Schedule" in name] == []
