"""One story over HTTP, each as the one who does it: a booking, a letter, a talk, a prescription, an alarm."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.conftest import BASE_URL, InProcessServer
from tests.resources.document.conftest import pdf_of, settled
from tests.resources.monitoring.conftest import clears_at, plan_of, tells
from tests.resources.prescription.conftest import Clinic, given, made, values
from tests.resources.scheduling.conftest import CONSULTATION, hours, rules, service

Json = dict[str, Any]

PRESSURE = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    return made(make_server)


def test_a_patient_is_cared_for_from_the_first_search_to_the_alarm(clinic: Clinic) -> None:
    doctor, patient = clinic.names["doctor"], clinic.names["patient"]
    schedule = clinic.put(
        "Schedule",
        active=True,
        actor=[{"reference": doctor}],
        extension=[rules(hours("09:00", "17:00"), service(CONSULTATION, 30))],
    )

    # She finds a time and books it; nobody else gets it.
    day = (datetime.now(UTC) + timedelta(days=3)).date()
    found = clinic.get(
        f"Appointment/$find?start={day}T00:00:00Z&end={day}T23:59:00Z&practitioner={doctor}&patient-reference={patient}",
        "patient",
    )
    offers = [e["resource"] for e in found["entry"] if e["resource"]["resourceType"] == "Appointment"]
    assert {offer["status"] for offer in offers} == {"proposed"}
    wanted = {**offers[0], "status": "pending"}
    booking = {"resourceType": "Parameters", "parameter": [{"name": "appointment-resource", "resource": wanted}]}
    booked = clinic.call("patient", "POST", "Appointment/$book", booking)
    assert booked.status_code == 201, booked.text
    appointment = next(r for r in resources_of(booked.json()) if r["resourceType"] == "Appointment")
    assert (appointment["status"], appointment["start"]) == ("booked", offers[0]["start"])
    assert clinic.call("patient", "POST", "Appointment/$book", booking).status_code == 409
    assert appointment["id"] in {a["id"] for a in clinic.found(f"Appointment?actor={doctor}", "doctor")}
    assert schedule

    # She uploads a letter, which her doctor reads byte by byte.
    letter = pdf_of()
    answer = clinic.servers[0].client.post(
        f"DocumentReference/$upload?patient={patient}",
        content=letter,
        headers={"Authorization": "Bearer patient", "Content-Type": "application/pdf"},
    )
    assert answer.status_code == 201, answer.text
    document = next(r for r in resources_of(answer.json()) if r["resourceType"] == "DocumentReference")
    with httpx.Client(
        transport=clinic.servers[0].client._transport, base_url=BASE_URL, headers={"Authorization": "Bearer doctor"}
    ) as asking:
        content = settled(asking, document)["content"][0]["attachment"]
    assert content["contentType"] == "application/pdf"
    raw = clinic.servers[0].client.get(
        content["url"], headers={"Authorization": "Bearer doctor", "Accept": "application/pdf"}
    )
    assert raw.content == letter

    # They talk; the pharmacy takes no part.
    thread = clinic.call(
        "patient",
        "POST",
        "Communication/$open-thread",
        given(
            participant={"reference": doctor}, subject={"reference": patient}, topic="Letter", message="See my letter."
        ),
    )
    assert thread.status_code in (200, 201), thread.text
    header = next(r for r in resources_of(thread.json()) if r["resourceType"] == "Communication" and "partOf" not in r)
    address = f"Communication/{header['id']}"
    said = clinic.call("doctor", "POST", f"{address}/$send", given(message="Thank you."))
    assert said.status_code in (200, 201), said.text
    assert len(clinic.found(f"Communication?part-of={address}", "patient")) == 2
    assert clinic.call("pharmacy", "GET", address).status_code == 404

    # She is seen, and gets a prescription that a pharmacy pulls, claims and hands out.
    encounter = clinic.call(
        "doctor",
        "POST",
        "Encounter",
        {
            "resourceType": "Encounter",
            "status": "finished",
            "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": {"reference": patient},
            "participant": [{"individual": {"reference": doctor}}],
            "period": {"start": "2026-01-01T08:00:00Z", "end": "2026-01-01T08:20:00Z"},
        },
    )
    assert encounter.status_code == 201, encounter.text
    order = clinic.drafted(dispenseRequest=clinic.addressed())
    clinic.do("doctor", order, "sign")
    pulled = clinic.get("MedicationRequest/$changes", "pharmacy")
    assert order.partition("/")[2] in str(pulled)
    secret = values(clinic.do("pharmacy", order, "accept"))["secret"]
    assert clinic.call("other-pharmacy", "POST", f"{order}/$accept", given()).status_code in (404, 409)
    clinic.do("pharmacy", order, "dispense", 201, secret=secret)
    clinic.do("pharmacy", order, "close", secret=secret)
    assert clinic.get(order, "patient")["status"] == "completed"

    # She logs her blood pressure; the doctor's threshold raises one alarm, with a Task for the doctor.
    plan = clinic.call("doctor", "POST", "CarePlan", threshold(patient, doctor))
    assert plan.status_code == 201, plan.text
    address = f"CarePlan/{plan.json()['id']}"
    assert clinic.call("doctor", "POST", f"{address}/$back-test").status_code == 200
    active = {**clinic.get(address, "doctor"), "status": "active"}
    assert clinic.call("doctor", "PUT", address, active).status_code == 200
    for minutes, value in ((5, 150), (0, 195)):
        logged = clinic.call("patient", "POST", "Observation", measured(patient, value, minutes))
        assert logged.status_code == 201, logged.text
    server = clinic.servers[0]
    server.run(server.context.feed.caught_up())
    tasks = clinic.found(f"Task?owner={doctor}&patient={patient}&status=requested", "doctor")
    assert [t for t in tasks if t["owner"]["reference"] == doctor and "Systolic" in str(t)], tasks
    assert [flag["status"] for flag in clinic.found(f"Flag?patient={patient}", "doctor")] == ["active"]


def resources_of(answer: Json) -> list[Json]:
    """What an answer holds, be it one resource, a Bundle or Parameters."""
    rows = [row.get("resource") for row in (*answer.get("entry", ()), *answer.get("parameter", ()))]
    return [answer, *(row for row in rows if row)]


def measured(patient: str, value: int, minutes_ago: int) -> Json:
    moment = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": PRESSURE,
        "subject": {"reference": patient},
        "effectiveDateTime": moment.isoformat(timespec="milliseconds"),
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]", "unit": "mmHg"},
    }


def threshold(patient: str, doctor: str) -> Json:
    return plan_of(patient, clears_at(170), *tells(doctor), level=180)
