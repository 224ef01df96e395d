"""Requests, offers and counter-offers: what is held, by whom it is answered, and what becomes free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity, Scope
from fhir_server.policies.roles import load_roles
from profiles.registry import registry
from tests.access.conftest import Callers
from tests.conftest import InProcessServer
from tests.resources.scheduling.conftest import (
    BUCHAREST,
    CONSULTATION,
    Clinic,
    Json,
    at,
    hours,
    row_of,
    service,
    the_one,
)

DIRECTORY = load_roles(registry()).groups["directory"]


class Practice:
    """A clinic with access control: a doctor who confirms what is asked for, two patients, and the front desk."""

    def __init__(self, server: InProcessServer, callers: Callers) -> None:
        self.callers = callers
        self.server = server
        callers.add("operator", AccessPolicy())
        callers.known["operator"] = Caller(Identity("operator", "test", "operator"), AccessPolicy())
        self.operator = Clinic(server, self.client("operator"))
        self.doctor, self.other_doctor = self.operator.doctor(), self.operator.doctor()
        self.patient, self.other = self.operator.patient(), self.operator.patient()
        self.operator.schedule(
            self.doctor, hours("09:00", "17:00"), service(CONSULTATION, 30, confirmation=True), changeNotice=120
        )
        self.add("patient", "patient", self.patient, patients=[self.patient])
        self.add("other", "patient", self.other, patients=[self.other])
        self.add("doctor", "practitioner", self.doctor, patients=[self.patient, self.other])
        self.add("colleague", "practitioner", self.other_doctor, patients=[self.patient, self.other])
        self.add("desk", "front-desk", self.other_doctor, patients=[self.patient, self.other])

    def client(self, name: str) -> httpx.Client:
        transport = self.server.client._transport
        return httpx.Client(
            transport=transport, base_url=self.server.base_url, headers={"Authorization": f"Bearer {name}"}
        )

    def add(self, name: str, role: Any, user: str, patients: list[str]) -> None:
        mine = (
            Grant("*", "cruds", compartments=frozenset(patients)),
            *(Grant(one, "rs") for one in DIRECTORY),
        )
        identity = Identity(
            name,
            "test",
            role,
            scopes=(Scope("user", "*", "cruds"),),
            fhir_user=user,
            patient=user if role == "patient" else None,
        )
        operations = load_roles(registry()).roles[role].operations
        self.callers.known[name] = Caller(identity, AccessPolicy(layers=(mine,), operations=operations))

    def as_(self, name: str) -> Clinic:
        return Clinic(self.server, self.client(name))

    def offers(self, day: int) -> list[Json]:
        return self.as_("patient").find(
            practitioner=self.doctor, start=at(day, "00:00").isoformat(), end=at(day, "23:00").isoformat()
        )

    def asked(self, day: int, number: int = 0) -> Json:
        """An Appointment that a patient has asked for."""
        answer = self.as_("patient").call("book", appointment_reference=f"Appointment/{self.offers(day)[number]['id']}")
        assert answer.status_code == 201, answer.text
        return the_one(answer)


@pytest.fixture(scope="module")
def practice(make_server: Callable[..., InProcessServer]) -> Practice:
    callers = Callers()
    return Practice(make_server({"gate": callers}, auth="on"), callers)


def said(practice: Practice, appointment: Json) -> list[str]:
    """What was answered, in order."""
    query = {"appointment": f"Appointment/{appointment['id']}", "_sort": "_lastUpdated,_id"}
    body = practice.operator.client.get("AppointmentResponse", params=query).json()
    rows = [row["resource"] for row in body.get("entry", ())]
    return [f"{row['actor']['reference'].partition('/')[0]} {row['participantStatus']}" for row in rows]


def states(appointment: Json) -> dict[str, str]:
    return {p["actor"]["reference"].partition("/")[0]: p["status"] for p in appointment["participant"]}


def test_a_request_waits_with_its_time_held_until_the_doctor_confirms_it(practice: Practice) -> None:
    asked = practice.asked(3)
    assert asked["status"] == "pending"
    assert states(asked) == {"Patient": "accepted", "Practitioner": "needs-action"}
    assert asked["start"] not in {offer["start"] for offer in practice.offers(3)}
    place = f"Appointment/{asked['id']}"
    assert practice.as_("patient").call("confirm", place).status_code == 403
    assert practice.as_("other").call("cancel", place).status_code == 404
    assert practice.as_("colleague").call("confirm", place).status_code == 403
    confirmed = practice.as_("doctor").call("confirm", place)
    assert confirmed.status_code == 200, confirmed.text
    booked = the_one(confirmed)
    assert (booked["status"], states(booked)) == ("booked", {"Patient": "accepted", "Practitioner": "accepted"})
    assert [e["url"] for e in booked["extension"]] == ["urn:healthsphere:StructureDefinition:schedule"]
    assert said(practice, asked) == ["Practitioner accepted"]
    again = practice.as_("doctor").call("confirm", place)
    assert again.status_code == 409
    assert again.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SCHED-STATE"


def test_a_request_that_is_declined_is_cancelled_and_its_time_is_free(practice: Practice) -> None:
    asked = practice.asked(3, 1)
    declined = practice.as_("desk").call("decline", f"Appointment/{asked['id']}", comment="On holiday")
    assert declined.status_code == 200, declined.text
    gone = the_one(declined)
    assert gone["status"] == "cancelled"
    assert gone["cancelationReason"]["coding"][0]["code"] == "prov"
    assert "slot" not in gone
    assert asked["start"] in {offer["start"] for offer in practice.offers(3)}
    assert said(practice, asked) == ["Practitioner declined"]


def test_the_patient_takes_one_of_the_times_that_are_offered_and_the_others_are_free_in_the_same_moment(
    practice: Practice,
) -> None:
    asked = practice.asked(4)
    place = f"Appointment/{asked['id']}"
    times = [at(4, clock).isoformat() for clock in ("10:00", "11:00", "12:00")]
    offered = practice.as_("doctor").call("propose", place, start=times)
    assert offered.status_code == 200, offered.text
    assert states(the_one(offered)) == {"Patient": "accepted", "Practitioner": "tentative"}
    free = clocks(practice, 4)
    assert {"09:00", "10:00", "11:00", "12:00"}.isdisjoint(free)
    assert practice.as_("doctor").call("accept", place, start=times[1]).status_code == 403
    assert practice.as_("patient").call("accept", place).status_code == 409
    accepted = practice.as_("patient").call("accept", place, start=times[1])
    assert accepted.status_code == 200, accepted.text
    booked = the_one(accepted)
    assert booked["status"] == "booked"
    assert datetime.fromisoformat(booked["start"]) == at(4, "11:00")
    assert states(booked) == {"Patient": "accepted", "Practitioner": "accepted"}
    assert {"09:00", "10:00", "12:00"} <= clocks(practice, 4)
    assert "11:00" not in clocks(practice, 4)
    assert said(practice, asked) == ["Practitioner tentative"] * 3 + ["Patient accepted"]
    assert len([t for t in practice.operator.taken() if t["a"] == asked["id"]]) == 1


def clocks(practice: Practice, day: int) -> set[str]:
    return {offer["start"][11:16] for offer in practice.offers(day)}


def test_times_that_are_not_all_free_are_not_offered_at_all(practice: Practice) -> None:
    first, second = practice.asked(5, 0), practice.asked(5, 2)
    place = f"Appointment/{first['id']}"
    refused = practice.as_("doctor").call("propose", place, start=[at(5, "13:00").isoformat(), second["start"]])
    assert refused.status_code == 409
    assert refused.json()["contained"]
    assert "13:00" in clocks(practice, 5)
    assert practice.as_("doctor").call("propose", place, start=[at(5, f"{h}:00").isoformat() for h in range(9, 16)]) \
        .status_code == 400  # fmt: skip


def test_a_patient_counters_three_times_at_most_and_the_doctor_accepts_one(practice: Practice) -> None:
    asked = practice.asked(6)
    place = f"Appointment/{asked['id']}"
    for clock in ("10:00", "11:00", "12:00"):
        countered = practice.as_("patient").call("counter", place, start=at(6, clock).isoformat())
        assert countered.status_code == 200, countered.text
        assert clock not in clocks(practice, 6)
    assert {"10:00", "11:00"} <= clocks(practice, 6)
    refused = practice.as_("patient").call("counter", place, start=at(6, "13:00").isoformat())
    assert refused.status_code == 422
    assert "HS-SCHED-ROUNDS" in refused.text
    assert practice.as_("patient").call("accept", place).status_code == 403
    assert practice.as_("doctor").call("confirm", place).status_code == 409
    accepted = practice.as_("doctor").call("accept", place)
    assert accepted.status_code == 200, accepted.text
    assert the_one(accepted)["start"][11:16] == "12:00"
    assert said(practice, asked)[-1] == "Practitioner accepted"


def test_an_offer_that_has_run_out_cannot_be_accepted(practice: Practice, clocks: Any) -> None:
    asked = practice.asked(20)
    place = f"Appointment/{asked['id']}"
    assert practice.as_("doctor").call("propose", place, start=at(20, "15:00").isoformat()).status_code == 200
    clocks(datetime.now().astimezone() + timedelta(hours=73))
    late = practice.as_("patient").call("accept", place)
    assert late.status_code == 409
    assert "HS-SCHED-RAN-OUT" in late.text
    assert "15:00" in {offer["start"][11:16] for offer in practice.offers(20)}


def test_of_patient_who_accepts_and_others_who_book_the_same_time_nobody_gets_it_twice(practice: Practice) -> None:
    asked = practice.asked(7)
    place = f"Appointment/{asked['id']}"
    time = at(7, "14:00").isoformat()
    practice.as_("doctor").call("propose", place, start=time)
    practice.operator.client.put(  # a hold that has run out, and that nobody has removed yet
        place, json=ran_out(practice.operator.client.get(place).json())
    )
    offer = next(offer for offer in practice.offers(7) if offer["start"][11:16] == "14:00")
    body = {
        "resourceType": "Parameters",
        "parameter": [row_of("appointment-reference", f"Appointment/{offer['id']}")],
    }
    client = practice.operator.client
    requests = [
        client.build_request("POST", "Appointment/$book", json=body, headers={"Authorization": "Bearer other"}),
        client.build_request("POST", f"{place}/$accept", headers={"Authorization": "Bearer patient"}),
    ]
    answers = practice.server.gather(*requests)
    assert [answer.status_code for answer in answers] == [201, 409]


def ran_out(appointment: Json) -> Json:
    for extension in appointment["extension"]:
        for one in extension.get("extension", ()):
            if one["url"] == "until":
                one["valueInstant"] = "2020-01-01T00:00:00Z"
    return appointment


def test_a_hold_is_the_patients_own_until_it_runs_out_and_can_then_be_had_by_others(
    practice: Practice, clocks: Any
) -> None:
    offer = practice.offers(8)[3]
    name = f"Appointment/{offer['id']}"
    held = practice.as_("patient").call("hold", appointment_reference=name)
    assert held.status_code == 201, held.text
    mine = the_one(held)
    assert mine["status"] == "pending"
    slot = practice.operator.client.get(mine["slot"][0]["reference"]).json()
    assert slot["status"] == "busy-tentative"
    assert practice.as_("other").call("hold", appointment_reference=name).status_code == 409
    clocks(datetime.now().astimezone() + timedelta(minutes=11))
    theirs = practice.as_("other").call("hold", appointment_reference=name)
    assert theirs.status_code == 201, theirs.text
    late = practice.as_("patient").call("book", appointment_reference=f"Appointment/{mine['id']}")
    assert late.status_code == 409
    assert late.json()["contained"]
    in_time = practice.as_("other").call("book", appointment_reference=f"Appointment/{the_one(theirs)['id']}")
    assert in_time.status_code == 200, in_time.text


def test_patients_cancel_and_move_until_the_practice_says_it_is_too_late(practice: Practice, clocks: Any) -> None:
    asked = practice.asked(9)
    place = f"Appointment/{asked['id']}"
    practice.as_("doctor").call("confirm", place)
    moved = practice.as_("patient").call("reschedule", place, start=at(9, "16:00").isoformat())
    assert moved.status_code == 200, moved.text
    assert the_one(moved)["status"] == "pending", "who confirms confirms another time, too"
    practice.as_("doctor").call("confirm", place)
    assert practice.as_("patient").call("reschedule", place, start=at(9, "16:10").isoformat()).status_code == 409
    clocks(at(9, "14:30"))
    for operation, given in (("cancel", {}), ("reschedule", {"start": at(10, "09:00").isoformat()})):
        late = practice.as_("patient").call(operation, place, **given)
        assert late.status_code == 422
        assert "HS-SCHED-LATE" in late.text
    here = practice.as_("patient").call("check-in", place)
    assert the_one(here)["status"] == "arrived"
    received = practice.as_("desk").call("check-in", place)
    assert the_one(received)["status"] == "checked-in"
    assert practice.as_("desk").call("no-show", place).status_code == 409


def test_a_no_show_is_one_after_the_start_and_for_the_staff_to_say(practice: Practice, clocks: Any) -> None:
    place = f"Appointment/{practice.asked(11)['id']}"
    practice.as_("doctor").call("confirm", place)
    assert practice.as_("patient").call("no-show", place).status_code == 403
    early = practice.as_("doctor").call("no-show", place)
    assert early.status_code == 422
    assert "HS-SCHED-NOT-BEGUN" in early.text
    clocks(at(11, "09:40"))
    missed = practice.as_("doctor").call("no-show", place)
    assert the_one(missed)["status"] == "noshow", missed.text


def test_patients_write_wishes_and_cancellations_alone(practice: Practice) -> None:
    patient, client = practice.as_("patient"), practice.client("patient")
    wish = patient.appointment(at(12, "09:00"), 30, practice.patient, practice.doctor, status="proposed")
    made = client.post("Appointment", json=wish)
    assert made.status_code == 201, made.text
    for status in ("booked", "pending", "arrived"):
        refused = client.post("Appointment", json={**wish, "status": status})
        assert refused.status_code == 403, refused.text
        assert "HS-SCHED-BY-OPERATION" in refused.text
    place = f"Appointment/{practice.asked(12)['id']}"
    practice.as_("doctor").call("confirm", place)
    booked = client.get(place).json()
    assert client.put(place, json={**booked, "start": at(12, "12:00").isoformat()}).status_code == 403
    assert client.put(place, json={**booked, "comment": "I bring my son"}).status_code == 200
    gone = {**booked, "status": "cancelled"}
    assert client.put(place, json=gone).status_code == 422, "a reason is needed"
    assert client.put(place, json={**gone, "cancelationReason": {"text": "Ill"}}).status_code == 200
    assert booked["start"][11:16] in clocks_on(practice, 12)


def clocks_on(practice: Practice, day: int) -> set[str]:
    return {offer["start"][11:16] for offer in practice.offers(day)}


def test_everybody_answers_for_themselves_and_the_participant_has_what_was_answered(practice: Practice) -> None:
    place = f"Appointment/{practice.asked(13)['id']}"
    answer = {
        "resourceType": "AppointmentResponse",
        "appointment": {"reference": place},
        "actor": {"reference": practice.doctor},
        "participantStatus": "tentative",
    }
    assert practice.client("patient").post("AppointmentResponse", json=answer).status_code == 403
    assert practice.client("colleague").post("AppointmentResponse", json=answer).status_code == 403
    made = practice.client("operator").post("AppointmentResponse", json=answer)
    assert made.status_code == 201, made.text
    assert states(practice.client("operator").get(place).json()) == {
        "Patient": "accepted",
        "Practitioner": "tentative",
    }


def test_many_answers_at_once_lose_none(practice: Practice) -> None:
    place = f"Appointment/{practice.asked(14)['id']}"
    client = practice.operator.client
    requests = [
        client.build_request(
            "POST",
            "AppointmentResponse",
            json={
                "resourceType": "AppointmentResponse",
                "appointment": {"reference": place},
                "actor": {"reference": actor},
                "participantStatus": "declined",
            },
        )
        for actor in (practice.doctor, practice.patient)
    ]
    assert {answer.status_code for answer in practice.server.gather(*requests)} == {201}
    assert states(client.get(place).json()) == {"Patient": "declined", "Practitioner": "declined"}


def test_staff_books_outside_the_hours_and_for_patients_whom_they_see_alone(practice: Practice) -> None:
    desk = practice.as_("desk")
    early = desk.appointment(at(15, "07:10"), 25, practice.patient, practice.doctor, status="pending")
    made = desk.call("book", appointment_resource=early)
    assert made.status_code == 201, made.text
    assert the_one(made)["status"] == "booked"
    refused = practice.as_("patient").call("book", appointment_resource=early)
    assert refused.status_code == 409
    stranger = practice.operator.patient()
    hidden = desk.call("book", appointment_resource=desk.appointment(at(15, "06:00"), 25, stranger, practice.doctor))
    assert hidden.status_code == 404


@pytest.mark.parametrize("operation", ["confirm", "decline", "propose", "counter", "accept"])
def test_what_is_booked_is_not_negotiated(practice: Practice, operation: str) -> None:
    appointment = practice.operator.client.post(
        "Appointment",
        json=practice.operator.appointment(at(16, "07:00"), 1, practice.patient, status="booked"),
    ).json()
    given = {"start": at(16, "10:00").isoformat()} if operation in ("propose", "counter") else {}
    answer = practice.operator.call(operation, f"Appointment/{appointment['id']}", **given)
    assert answer.status_code in (409, 422), answer.text


def test_a_patient_cannot_say_what_the_server_says(practice: Practice) -> None:
    """Such as that a time was offered from the waitlist, which needs no confirmation."""
    patient, client = practice.as_("patient"), practice.client("patient")
    start = at(17, "09:00")
    offered = {"url": "urn:healthsphere:StructureDefinition:waitlist-offered", "valueInstant": practice_text(start)}
    draft = patient.appointment(start, 30, practice.patient, practice.doctor, status="pending", extension=[offered])
    draft["start"] = practice_text(start)
    made = patient.call("book", appointment_resource=draft)
    assert made.status_code == 201, made.text
    assert the_one(made)["status"] == "pending"
    wish = {**draft, "status": "waitlist"}
    refused = client.post("Appointment", json=wish)
    assert refused.status_code == 403
    assert "HS-SCHED-BY-OPERATION" in refused.text


def practice_text(moment: datetime) -> str:
    return moment.astimezone(BUCHAREST).isoformat()


def test_a_patient_cannot_hold_a_whole_day(practice: Practice) -> None:
    patient = practice.as_("other")
    answers = [
        patient.call("hold", appointment_reference=f"Appointment/{offer['id']}").status_code
        for offer in practice.offers(18)[:10]
    ]
    assert answers.count(201) <= 8
    assert answers[-1] == 422


def test_an_app_that_may_only_read_books_nothing(practice: Practice) -> None:
    known = practice.callers.known["patient"]
    reading = replace(known.identity, scopes=(Scope("patient", "Appointment", "rs"),))
    practice.callers.known["reader"] = replace(known, identity=reading)
    offer = practice.offers(19)[0]
    refused = practice.as_("reader").call("book", appointment_reference=f"Appointment/{offer['id']}")
    assert refused.status_code == 403
    assert "HS-ACCESS-SCOPE" in refused.text
    place = f"Appointment/{practice.asked(19)['id']}"
    assert "HS-ACCESS-SCOPE" in practice.as_("reader").call("cancel", place).text


def test_an_appointment_that_somebody_does_not_see_is_not_there_whatever_is_asked_of_it(practice: Practice) -> None:
    asked = practice.asked(21)
    other = practice.as_("other")
    span = {"start": at(21, "00:00").isoformat(), "end": at(21, "23:00").isoformat()}
    for name in (asked["id"], "none"):
        seen = other.find(practitioner=practice.doctor, ignore_appointment=f"Appointment/{name}", **span)
        assert asked["start"] not in {offer["start"] for offer in seen}
    draft = other.appointment(at(21, "12:00"), 30, practice.other, practice.doctor, status="pending")
    hidden = other.call("book", appointment_resource={**draft, "id": asked["id"]})
    absent = other.call("book", appointment_resource={**draft, "id": "none"})
    assert [hidden.status_code, absent.status_code] == [201, 409], "made anew, and then the time is taken"
    assert the_one(hidden)["id"] != asked["id"]
