"""One story over HTTP, each as the one who does it: an application, a search, a booking, a letter, a talk, a
prescription, an alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.model.access import Identity
from tests.conftest import BASE_URL, InProcessServer
from tests.resources.document.conftest import pdf_of, settled
from tests.resources.monitoring.conftest import clears_at, plan_of, tells
from tests.resources.prescription.conftest import EVERYTHING, Clinic, given, made, values
from tests.resources.scheduling.conftest import CONSULTATION, hours, rules, service
from tests.resources.verification.conftest import ahead
from tests.resources.verification.front import Front

Json = dict[str, Any]

PRESSURE = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    return made(make_server)


@pytest.fixture(scope="module")
def front(clinic: Clinic, make_server: Callable[..., InProcessServer]) -> Front:
    """The pages of accounts, on another server of the same database."""
    for number in (1, 2):
        clinic.known[f"admin-{number}"] = Identity(f"admin-{number}", "test", "administrator", EVERYTHING)
    return Front(make_server(auth="on", mongodb_database=clinic.servers[0].settings.mongodb_database))


def test_a_patient_is_cared_for_from_the_first_search_to_the_alarm(clinic: Clinic, front: Front) -> None:
    patient = clinic.names["patient"]

    # A doctor applies on the page; two administrators verify what she claims, and she gets in.
    account = front.applied("ida@example.org", until=ahead(365))
    doctor = str(account["fhirUser"])
    clinic.names["doctor"] = doctor
    clinic.known["doctor"] = replace(clinic.known["doctor"], fhir_user=doctor)
    claims = clinic.found(f"VerificationResult?target={doctor}", "admin-1")
    assert (account["state"], {claim["status"] for claim in claims}) == ("pending", {"attested"})
    near = "PractitionerRole/$find-doctor?near=48.13|11.57|5|km&text=cardio&bookable=true"
    place = clinic.put("Location", name="House 2", position={"latitude": 48.137, "longitude": 11.575})
    clinic.put(
        "PractitionerRole",
        practitioner={"reference": doctor},
        location=[{"reference": place}],
        specialty=[{"coding": [{"system": "http://snomed.info/sct", "code": "394579002"}]}],
    )
    schedule = clinic.put(
        "Schedule",
        active=True,
        actor=[{"reference": doctor}],
        extension=[rules(hours("09:00", "17:00"), service(CONSULTATION, 30))],
    )
    for admin in ("admin-1", "admin-2"):
        assert clinic.get(near, "patient")["total"] == 0
        for claim in claims:
            answer = clinic.call(admin, "POST", f"VerificationResult/{claim['id']}/$approve", given(source="Register"))
            assert answer.status_code == 200, answer.text
    front.caught_up()
    assert front.account("ida@example.org")["state"] == "active"

    # A patient finds her by distance and by when she is free, and books what was found; nobody else gets it.
    found = clinic.get(near, "patient")
    assert [e["resource"]["practitioner"]["reference"] for e in found["entry"] if e["search"]["mode"] == "match"] == [
        doctor
    ]
    offers = [e["resource"] for e in found["entry"] if e["resource"]["resourceType"] == "Appointment"]
    assert ({offer["status"] for offer in offers}, len(offers)) == ({"proposed"}, 3)
    takes_part = {"actor": {"reference": patient}, "required": "required", "status": "needs-action"}
    wanted = {**offers[0], "status": "pending", "participant": [*offers[0]["participant"], takes_part]}
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
