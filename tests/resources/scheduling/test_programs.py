"""What programs that act for themselves may do with appointments: as far as their scopes go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_server.model.access import Scope
from tests.conftest import InProcessServer
from tests.resources.callers import Roles
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, service, the_one

pytestmark = pytest.mark.xdist_group("programs")

READING = (Scope("system", "Patient", "r"), Scope("system", "Schedule", "rs"), Scope("system", "Slot", "rs"))

#: The back ends of some EHRs, and what they were granted.
PROGRAMS = {
    "booker": (*READING, Scope("system", "Appointment", "cruds")),
    "registrar": (*READING, Scope("system", "Appointment", "cr"), Scope("system", "Patient", "c")),
    "reader": (*READING, Scope("system", "Appointment", "rs")),
    "blind": (Scope("system", "Appointment", "cu"),),
    "narrow": (*READING, Scope("system", "Appointment", "cruds", (("status", "proposed"),))),
    "everything": (Scope("system", "*", "cruds"),),
}


class Practice:
    def __init__(self, server: InProcessServer, roles: Roles) -> None:
        self.roles = roles
        self.operator = Clinic(server, roles.as_("operator"))
        self.programs = {name: Clinic(server, roles.as_(name)) for name in PROGRAMS}
        self.doctor, self.patient = self.operator.doctor(), self.operator.patient()
        self.operator.schedule(
            self.doctor, hours("09:00", "17:00"), service(CONSULTATION, 30, confirmation=True), capacity=20
        )

    def offer(self, day: int) -> str:
        found = self.programs["everything"].find(practitioner=self.doctor, start=at(day, "09:00").isoformat())
        return f"Appointment/{found[0]['id']}"

    def book(self, name: str, day: int, **more: Any) -> httpx.Response:
        given = {"patient_reference": self.patient, **more}
        return self.programs[name].call("book", appointment_reference=self.offer(day), **given)

    def booked(self, day: int) -> str:
        answer = self.book("booker", day)
        assert answer.status_code == 201, answer.text
        return f"Appointment/{the_one(answer)['id']}"


@pytest.fixture(scope="module")
def practice(make_server: Callable[..., InProcessServer]) -> Practice:
    roles = Roles()
    roles.add("operator", "operator")
    for name, scopes in PROGRAMS.items():
        roles.add(name, "system", scopes=scopes)
    server = make_server({"gate": roles}, auth="on")
    roles.server = server
    return Practice(server, roles)


def test_a_program_books_moves_checks_in_and_cancels_as_the_front_desk_does(practice: Practice) -> None:
    program = practice.programs["booker"]
    made = practice.book("booker", 70)
    assert made.status_code == 201, made.text
    assert the_one(made)["status"] == "booked"  # who acts for the practice needs nobody to confirm it
    place = f"Appointment/{the_one(made)['id']}"
    assert program.call("reschedule", place, start=at(70, "11:00").isoformat()).status_code == 200
    assert program.call("cancel", place, reason="prov").status_code == 200
    held = program.call("hold", appointment_reference=practice.offer(70), patient_reference=practice.patient)
    assert program.call("confirm", f"Appointment/{the_one(held)['id']}").status_code == 200
    soon = practice.booked(70)
    early = program.call("check-in", soon)
    assert (early.status_code, key_of(early)) == (422, "HS-SCHED-NOT-BEGUN")


def key_of(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["details"]["coding"][0]["code"])


@pytest.mark.parametrize("name", ["reader", "narrow"])
def test_a_program_that_may_not_change_appointments_changes_none_by_an_operation(practice: Practice, name: str) -> None:
    place = practice.booked(71)
    refused = practice.book(name, 71)
    assert (refused.status_code, key_of(refused)) == (403, "HS-ACCESS-SCOPE")
    for operation in ("cancel", "confirm", "no-show", "check-in", "decline", "propose", "accept", "reschedule"):
        refused = practice.programs[name].call(operation, place)
        assert (refused.status_code, key_of(refused)) == (403, "HS-ACCESS-SCOPE"), operation
    assert practice.operator.client.get(place).json()["status"] == "booked"


def test_a_program_that_does_not_see_a_patient_or_an_appointment_does_nothing_with_it(practice: Practice) -> None:
    place = practice.booked(72)
    blind = practice.programs["blind"]
    booked = blind.call("book", appointment_reference=practice.offer(72), patient_reference=practice.patient)
    assert booked.status_code == 404, booked.text
    assert blind.call("cancel", place).status_code == 404
    assert practice.operator.client.get(place).json()["status"] == "booked"


def test_a_program_makes_a_record_for_a_newcomer_if_it_may_make_records(practice: Practice) -> None:
    newcomer: Json = {"resourceType": "Patient", "name": [{"family": "Nou"}]}
    given: Json = {"patient_reference": [], "patient_resource": newcomer}
    refused = practice.book("booker", 73, **given)
    assert (refused.status_code, key_of(refused)) == (403, "HS-ACCESS-TYPE")
    made = practice.book("registrar", 73, **given)
    assert made.status_code == 201, made.text


def test_what_people_sign_say_and_decide_and_the_work_of_pharmacies_is_not_for_programs(practice: Practice) -> None:
    client = practice.programs["everything"].client
    place = practice.booked(74)
    paths = [f"{place}/$counter", "Communication/$open-thread", "$notification-preferences", "$deliveries"]
    paths += [f"MedicationRequest/1/${code}" for code in ("sign", "withdraw", "accept", "dispense", "close", "stock")]
    paths += ["DocumentReference/1/$review", "DocumentReference/1/$release", "Encounter/1/$summary-pdf"]
    for path in paths:
        refused = client.post(path, json={"resourceType": "Parameters"})
        assert (refused.status_code, key_of(refused)) == (403, "HS-ACCESS-OPERATION"), path
    assert client.get("MedicationRequest/$changes").status_code == 403
