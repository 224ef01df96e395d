"""The states of Appointments, Slots and AppointmentResponses, and the locks, hold for plain FHIR writes as well."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any

import httpx
import pytest

from fhir_server.model.access import NOBODY
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.rules import Write
from resources.scheduling.extensions import STILL_FREE
from resources.scheduling.states import APPOINTMENT, RESPONSE, SLOT
from resources.states import StateMachine
from tests.resources.scheduling.conftest import CONSULTATION, Clinic, Json, at, hours, service

MACHINES = (APPOINTMENT, SLOT, RESPONSE)

#: Every pair of states of every machine.
PAIRS = [
    (machine, old, new)
    for machine in MACHINES
    for old, new in itertools.product([*machine.next, "entered-in-error"], repeat=2)
    if old != new
]


@pytest.mark.parametrize(("machine", "old", "new"), PAIRS, ids=[f"{m.type}-{o}-{n}" for m, o, n in PAIRS])
def test_each_state_follows_where_the_machine_says_so_and_nowhere_else(
    machine: StateMachine, old: str, new: str
) -> None:
    write = Write(machine.type, "1", {machine.element: old}, {machine.element: new}, NOBODY)
    if new in machine.following(old):
        assert machine.rule(write) == {machine.element: new}
        return
    with pytest.raises(UnprocessableError) as refused:
        machine.rule(write)
    for following in machine.following(old):
        assert repr(following) in str(refused.value)


def test_the_standard_knows_every_state_of_the_machines() -> None:
    assert set(APPOINTMENT.next) == {
        *("proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "checked-in", "waitlist")
    }
    assert set(SLOT.next) == {"busy", "free", "busy-unavailable", "busy-tentative"}


def booked(clinic: Clinic, day: int, clock: str = "09:00", **more: Any) -> tuple[str, Json, str]:
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    made = clinic.client.post("Appointment", json=clinic.appointment(at(day, clock), 30, doctor, patient, **more))
    assert made.status_code == 201, made.text
    return f"Appointment/{made.json()['id']}", made.json(), doctor


def free(clinic: Clinic, doctor: str, day: int, clock: str = "09:00") -> bool:
    offers = clinic.find(practitioner=doctor, start=at(day, clock).isoformat(), _count=1)
    return offers[0]["start"][11:16] == clock


WAYS = ["put", "patch", "transaction", "delete"]


@pytest.mark.parametrize("way", WAYS)
def test_however_an_appointment_is_given_up_its_time_is_free_again(clinic: Clinic, way: str) -> None:
    place, appointment, doctor = booked(clinic, 40)
    assert not free(clinic, doctor, 40)
    gone = {**appointment, "status": "cancelled", "cancelationReason": {"text": "Ill"}}
    match way:
        case "put":
            answer = clinic.client.put(place, json=gone)
        case "patch":
            steps = [
                {"op": "replace", "path": "/status", "value": "cancelled"},
                {"op": "add", "path": "/cancelationReason", "value": {"text": "Ill"}},
            ]
            answer = clinic.client.patch(place, json=steps, headers={"Content-Type": "application/json-patch+json"})
        case "transaction":
            entry = {"resource": gone, "request": {"method": "PUT", "url": place}}
            answer = clinic.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        case _:
            answer = clinic.client.delete(place)
    assert answer.status_code in (200, 204), answer.text
    assert free(clinic, doctor, 40)
    assert [t for t in clinic.taken() if t["a"] == appointment["id"]] == []
    slots = clinic.client.get("Slot", params={"schedule": schedule_of(clinic, doctor)}).json()
    assert slots["total"] == 0


def schedule_of(clinic: Clinic, actor: str) -> str:
    (row,) = clinic.client.get("Schedule", params={"actor": actor}).json()["entry"]
    return f"Schedule/{row['resource']['id']}"


@pytest.mark.parametrize("status", ["pending", "booked", "arrived", "checked-in", "fulfilled"])
def test_a_plain_write_takes_the_time_in_each_state_that_has_one(clinic: Clinic, status: str) -> None:
    _, _, doctor = booked(clinic, 41, status=status)
    again = clinic.client.post("Appointment", json=clinic.appointment(at(41, "09:29"), 2, doctor))
    assert again.status_code == 409
    assert again.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-TAKEN"
    assert clinic.client.post("Appointment", json=clinic.appointment(at(41, "09:30"), 2, doctor)).status_code == 201


@pytest.mark.parametrize("status", ["proposed", "waitlist", "cancelled", "noshow", "entered-in-error"])
def test_a_plain_write_takes_nothing_in_the_others(clinic: Clinic, status: str) -> None:
    _, _, doctor = booked(clinic, 42, status=status)
    assert free(clinic, doctor, 42)


def test_a_transaction_with_two_for_one_time_is_refused_whole(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    clinic.schedule(doctor)
    entries = [
        {
            "resource": clinic.appointment(at(43, "09:00") + timedelta(minutes=n), 30, doctor),
            "request": {"method": "POST", "url": "Appointment"},
        }
        for n in (0, 29)
    ]
    answer = clinic.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 409, answer.text
    assert free(clinic, doctor, 43)
    assert clinic.client.get("Appointment", params={"actor": doctor}).json()["total"] == 0


def test_an_update_that_moves_an_appointment_frees_where_it_was(clinic: Clinic) -> None:
    place, appointment, doctor = booked(clinic, 44)
    moved = {**appointment, "start": at(44, "11:00").isoformat(), "end": at(44, "11:30").isoformat()}
    assert clinic.client.put(place, json=moved).status_code == 200
    assert free(clinic, doctor, 44)
    assert not free(clinic, doctor, 44, "11:00")


def test_a_visit_over_midnight_takes_both_days(clinic: Clinic) -> None:
    _, _, doctor = booked(clinic, 45, "23:45")
    for start, minutes, status in ((at(46, "00:10"), 5, 409), (at(45, "23:40"), 6, 409), (at(46, "00:15"), 5, 201)):
        answer = clinic.client.post("Appointment", json=clinic.appointment(start, minutes, doctor))
        assert answer.status_code == status, answer.text


def test_every_schedule_of_a_person_is_taken_whatever_name_they_take_part_by(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    role = clinic.put("PractitionerRole", {"practitioner": {"reference": doctor}})
    clinic.schedule(doctor)
    clinic.schedule(role)
    first = clinic.client.post("Appointment", json=clinic.appointment(at(47, "09:00"), 30, role))
    assert first.status_code == 201, first.text
    assert clinic.client.post("Appointment", json=clinic.appointment(at(47, "09:00"), 30, doctor)).status_code == 409
    assert len([t for t in clinic.taken() if t["a"] == first.json()["id"]]) == 2


def test_a_schedule_that_gets_rules_knows_what_was_booked_before(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    for _ in range(2):  # an EHR let two in at once; they stay, and nobody else is let in
        made = clinic.client.post("Appointment", json=clinic.appointment(at(48, "09:00"), 30, doctor))
        assert made.status_code == 201
    clinic.schedule(doctor, hours("09:00", "10:00"), service(CONSULTATION, 30))
    assert clinic.client.post("Appointment", json=clinic.appointment(at(48, "09:10"), 5, doctor)).status_code == 409
    assert not free(clinic, doctor, 48)


def test_what_has_passed_is_history_and_can_be_brought_in_as_it_was(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    clinic.schedule(doctor)
    for _ in range(2):
        made = clinic.client.post(
            "Appointment", json=clinic.appointment(at(-9, "09:00"), 30, doctor, status="fulfilled")
        )
        assert made.status_code == 201, made.text
    assert [t for t in clinic.taken() if t["a"] == made.json()["id"]] == []


def test_fulfilled_needs_an_encounter_which_may_come_in_the_same_transaction(clinic: Clinic) -> None:
    place, appointment, _ = booked(clinic, 49)
    done = {**appointment, "status": "fulfilled"}
    refused = clinic.client.put(place, json=done)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-ENCOUNTER"
    encounter = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "appointment": [{"reference": place}],
    }
    entries = [
        {"resource": done, "request": {"method": "PUT", "url": place}},
        {"resource": encounter, "request": {"method": "POST", "url": "Encounter"}},
    ]
    answer = clinic.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("change", "status", "key"),
    [
        ({"status": "cancelled"}, 422, "HS-SCHED-REASON"),
        ({"status": "noshow"}, 422, "HS-SCHED-NOT-BEGUN"),
        ({"status": "proposed"}, 422, "HS-STATE"),
        ({"cancelationReason": {"text": "x"}}, 400, "app-4"),
        ({"start": None}, 400, "app-2"),
        ({"start": None, "end": None}, 400, "app-3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_an_appointment_must_not_say(clinic: Clinic, change: Json, status: int, key: str) -> None:
    place, appointment, _ = booked(clinic, 50)
    changed = {name: value for name, value in {**appointment, **change}.items() if value is not None}
    refused = clinic.client.put(place, json=changed)
    assert refused.status_code == status, refused.text
    assert key in refused.text


def test_slots_that_follow_an_appointment_change_with_it_alone(clinic: Clinic) -> None:
    _, _, doctor = booked(clinic, 51)
    (row,) = clinic.client.get("Slot", params={"schedule": schedule_of(clinic, doctor)}).json()["entry"]
    slot = row["resource"]
    place = f"Slot/{slot['id']}"
    assert clinic.client.put(place, json={**slot, "status": "free"}).status_code == 422
    assert clinic.client.delete(place).status_code == 422


def test_a_schedule_with_rules_that_nobody_understands_is_refused(clinic: Clinic) -> None:
    schedule = clinic.schedule(clinic.doctor())
    content = clinic.client.get(schedule).json()
    content["extension"][0]["extension"][0]["valueCode"] = "Mars/Olympus"
    refused = clinic.client.put(schedule, json=content)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-ZONE"


def test_an_appointment_of_a_year_is_too_long(clinic: Clinic) -> None:
    doctor = clinic.doctor()
    clinic.schedule(doctor)
    answer = clinic.client.post("Appointment", json=clinic.appointment(at(52, "09:00"), 366 * 1440, doctor))
    assert answer.status_code == 422
    assert "HS-SCHED-TOO-LONG" in answer.text


def test_slots_of_ours_hold_with_references_that_are_looked_at(make_server: Any) -> None:
    clinic = Clinic(make_server(referential_integrity="refuse"))
    doctor, patient = clinic.doctor(), clinic.patient()
    clinic.schedule(doctor)
    made = clinic.booked(clinic.find(practitioner=doctor, start=at(5, "00:00").isoformat())[0], patient)
    place = f"Appointment/{made['id']}"
    moved = clinic.call("reschedule", place, start=at(6, "10:00").isoformat())
    assert moved.status_code == 200, moved.text
    cancelled = clinic.call("cancel", place)
    assert cancelled.status_code == 200, cancelled.text
    assert clinic.client.get("Slot").json()["total"] == 0


def still_free(outcome: Json, taken: str) -> list[Json]:
    """What an OperationOutcome offers to who has lost a time: as `$book` tells it."""
    (issue,) = outcome["issue"]
    assert (issue["severity"], issue["code"]) == ("error", "conflict")
    assert issue["details"]["coding"][0]["code"] == "HS-SCHED-TAKEN"
    named = [link["valueReference"]["reference"] for link in outcome["extension"] if link["url"] == STILL_FREE]
    free: list[Json] = outcome["contained"]
    assert named == [f"#{one['id']}" for one in free]
    assert all(one["status"] == "proposed" and one["start"] != taken for one in free)
    return free


@pytest.mark.parametrize("way", ["post", "put", "patch", "batch", "transaction"])
def test_who_loses_a_time_by_a_plain_write_is_told_what_is_still_free(clinic: Clinic, way: str) -> None:
    _, taken, doctor = booked(clinic, 53)
    mine = clinic.appointment(at(53, "09:00"), 30, doctor, clinic.patient())
    place = "Appointment"
    match way:
        case "post":
            answer = clinic.client.post(place, json=mine)
        case "put" | "patch":
            place = clinic.put("Appointment", {**mine, "status": "proposed"})
            if way == "put":
                answer = clinic.client.put(place, json={**mine, "id": place.partition("/")[2]})
            else:
                steps = [{"op": "replace", "path": "/status", "value": "booked"}]
                headers = {"Content-Type": "application/json-patch+json"}
                answer = clinic.client.patch(place, json=steps, headers=headers)
        case _:
            other = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
            entries = [other, {"resource": mine, "request": {"method": "POST", "url": "Appointment"}}]
            answer = clinic.client.post("", json={"resourceType": "Bundle", "type": way, "entry": entries})
    outcome = answer.json()
    if way == "batch":
        assert answer.status_code == 200, answer.text
        response = outcome["entry"][1]["response"]
        assert response["status"] == "409"
        outcome = response["outcome"]
    else:
        assert answer.status_code == 409, answer.text
    where = "Bundle.entry[1].resource.start" if way == "transaction" else "Appointment.start"
    assert outcome["issue"][0]["expression"] == [where]
    free = still_free(outcome, taken["start"])
    assert len(free) == 5
    named, patient = f"Appointment/{free[0]['id']}", clinic.patient()
    held = clinic.call("hold", appointment_reference=named, patient_reference=patient)
    assert held.status_code == 201, held.text


def test_an_operation_that_loses_is_answered_as_before_and_one_that_nobody_can_replace_without_alternatives(
    clinic: Clinic,
) -> None:
    _, _, doctor = booked(clinic, 54)
    clinic.client.put(doctor, json={"resourceType": "Practitioner", "id": doctor[13:], "active": False})
    lost = clinic.client.post("Appointment", json=clinic.appointment(at(54, "09:00"), 30, doctor))
    assert lost.status_code == 409
    assert lost.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-TAKEN"
    assert "contained" not in lost.json()


def written_slots(clinic: Clinic, day: int) -> tuple[str, list[str]]:
    """A Schedule of an EHR, without rules, and its free Slots."""
    doctor = clinic.doctor()
    schedule = clinic.put("Schedule", {"active": True, "actor": [{"reference": doctor}]})
    slots = [
        clinic.put(
            "Slot",
            {
                "schedule": {"reference": schedule},
                "status": "free",
                "start": at(day, clock).isoformat(),
                "end": (at(day, clock) + timedelta(minutes=30)).isoformat(),
            },
        )
        for clock in ("09:00", "10:00", "11:00")
    ]
    return doctor, slots


@pytest.mark.parametrize("way", ["put", "patch", "delete", "transaction"])
def test_a_slot_that_an_appointment_has_is_lost_for_who_sets_it_plainly(clinic: Clinic, way: str) -> None:
    doctor, slots = written_slots(clinic, 55)
    mine = clinic.appointment(at(55, "09:00"), 30, doctor, clinic.patient(), slot=[{"reference": slots[0]}])
    assert clinic.client.post("Appointment", json=mine).status_code == 201
    stands = clinic.client.get(slots[0]).json()
    assert stands["status"] == "busy"
    wanted = {**stands, "status": "busy-tentative"}
    match way:
        case "put":
            lost = clinic.client.put(slots[0], json=wanted)
        case "patch":
            steps = [{"op": "replace", "path": "/status", "value": "free"}]
            lost = clinic.client.patch(slots[0], json=steps, headers={"Content-Type": "application/json-patch+json"})
        case "delete":
            lost = clinic.client.delete(slots[0])
        case _:
            entry = {"resource": wanted, "request": {"method": "PUT", "url": slots[0]}}
            lost = clinic.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    assert lost.status_code == 409, lost.text
    free = still_free(lost.json(), stands["start"])
    assert [one["slot"][0]["reference"] for one in free] == slots[1:]
    assert clinic.client.get(slots[0]).json() == stands
    commented = clinic.client.put(slots[0], json={**stands, "comment": "Room 3"})
    assert commented.status_code == 200, commented.text
    assert clinic.client.put(slots[1], json={**clinic.client.get(slots[1]).json(), "status": "busy"}).status_code == 200


def test_a_transaction_takes_a_slot_with_its_appointment_and_gives_both_up(clinic: Clinic) -> None:
    doctor, slots = written_slots(clinic, 56)
    slot = clinic.client.get(slots[0]).json()
    mine = clinic.appointment(at(56, "09:00"), 30, doctor, clinic.patient(), slot=[{"reference": slots[0]}])
    name = f"t{uuid.uuid4().hex[:16]}"

    def both(appointment: Json, status: str) -> httpx.Response:
        entries = [
            {"resource": {**slot, "status": status}, "request": {"method": "PUT", "url": slots[0]}},
            {"resource": {**appointment, "id": name}, "request": {"method": "PUT", "url": f"Appointment/{name}"}},
        ]
        return clinic.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})

    taken = both(mine, "busy")
    assert taken.status_code == 200, taken.text
    given = both({**mine, "status": "cancelled", "cancelationReason": {"text": "Ill"}}, "free")
    assert given.status_code == 200, given.text
    assert clinic.client.get(slots[0]).json()["status"] == "free"
