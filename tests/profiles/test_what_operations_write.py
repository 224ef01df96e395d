"""What our own operations write is valid by our own profiles: visits, talks, tickets, prescriptions, logs, documents.

Each operation is called as the one whose it is; then everything that stands in the store is asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resources.communication.words import TAGS as THREAD
from resources.dispensing.codes import FULFILMENT
from resources.dispensing.codes import SYSTEM as PRESCRIPTION
from resources.healthlog.entry import SUPPLIED
from resources.healthlog.entry import TAGS as LOG
from resources.monitoring.threshold import CATEGORY
from resources.ticket.words import TASKS, TICKET
from tests.conftest import InProcessServer
from tests.profiles.own import PREFIX, PROFILES
from tests.resources.document.conftest import pdf_of
from tests.resources.monitoring.conftest import clears_at, plan_of, tells
from tests.resources.prescription.conftest import Clinic, given, made, values
from tests.resources.scheduling.conftest import CONSULTATION, hours, rules, service

Json = dict[str, Any]

#: Types of which every resource is of one profile.
SIMPLE = {
    "Appointment": "appointment",
    "AppointmentResponse": "appointment-response",
    "Basic": "notification-preferences",
    "CareTeam": "care-team",
    "DocumentReference": "document-reference",
    "MedicationDispense": "medication-dispense",
    "MedicationRequest": "medication-request",
    "Schedule": "schedule",
    "Slot": "slot",
}

#: By type, marks of what is of a profile, as `system|code`.
MARKED = {
    "CarePlan": {f"{CATEGORY}|threshold": "threshold"},
    "Communication": {f"{THREAD}|header": "thread", f"{THREAD}|message": "message"},
    "Observation": {f"{LOG}|{SUPPLIED}": "health-log-entry"},
    "Task": {f"{TASKS}|{TICKET}": "ticket", f"{PRESCRIPTION}|{FULFILMENT}": "fulfilment"},
}


class Walk:
    """What the people of a clinic do in a day."""

    def __init__(self, clinic: Clinic) -> None:
        self.clinic = clinic
        self.doctor, self.patient = clinic.names["doctor"], clinic.names["patient"]

    def do(self, who: str, place: str, *expect: int, **parameters: Any) -> Json:
        answer = self.clinic.call(who, "POST", place, given(**parameters))
        assert answer.status_code in (expect or (200, 201)), (place, answer.text)
        body: Json = answer.json()
        return body

    def visits(self) -> None:
        """One is booked and moved, one is asked for and negotiated, one is cancelled."""
        usual, asked = service(CONSULTATION, 30, 5, 5), service({"text": "asked"}, 30, confirmation=True)
        self.clinic.put(
            "Schedule",
            active=True,
            actor=[{"reference": self.doctor}],
            extension=[rules(hours("09:00", "17:00"), usual, asked)],
        )
        booked = self._booked(3)
        later = _day(4, "10:00")
        self.do("patient", f"Appointment/{booked['id']}/$reschedule", start=later)
        other = self._booked(5)
        self.do("patient", f"Appointment/{other['id']}/$cancel", reason="pat")
        held = self._held(6)
        assert held["status"] == "pending"
        self.do("doctor", f"Appointment/{held['id']}/$propose", start=[_day(7, "09:00"), _day(7, "10:00")])
        standing = self.clinic.get(f"Appointment/{held['id']}")
        assert "alternative" in str(standing["extension"])

    def _offers(self, days: int) -> Json:
        day = (datetime.now(UTC) + timedelta(days=days)).date()
        address = f"Appointment/$find?start={day}T00:00:00Z&end={day}T23:59:00Z&practitioner={self.doctor}"
        found = self.clinic.get(f"{address}&patient-reference={self.patient}", "patient")
        offers = [e["resource"] for e in found["entry"] if e["resource"]["resourceType"] == "Appointment"]
        return dict(offers[0])

    def _booked(self, days: int) -> Json:
        return self._taken("book", days)

    def _held(self, days: int) -> Json:
        return self._taken("hold", days)

    def _taken(self, operation: str, days: int) -> Json:
        row = {"name": "appointment-resource", "resource": {**self._offers(days), "status": "pending"}}
        answer = self.clinic.call(
            "patient", "POST", f"Appointment/${operation}", {"resourceType": "Parameters", "parameter": [row]}
        )
        assert answer.status_code == 201, answer.text
        return next(e["resource"] for e in answer.json()["entry"] if e["resource"]["resourceType"] == "Appointment")

    def talks(self) -> None:
        """A thread with messages, one of which is edited and one taken back."""
        header = self.do(
            "patient",
            "Communication/$open-thread",
            participant={"reference": self.doctor},
            subject={"reference": self.patient},
            topic="Cough",
            message="I cough.",
        )
        said = self.do("doctor", f"Communication/{header['id']}/$send", message="Since wen?")
        self.do("doctor", f"Communication/{said['id']}/$edit", message="Since when?")
        gone = self.do("patient", f"Communication/{header['id']}/$send", message="I do not know.")
        self.do("patient", f"Communication/{gone['id']}/$retract")
        self.do("doctor", f"Communication/{header['id']}/$close-thread")

    def asks(self) -> None:
        """A ticket that is claimed and answered, and one that waits."""
        pool = self.clinic.put(
            "CareTeam",
            status="active",
            name="Front",
            participant=[{"member": {"reference": self.doctor}}],
        )
        for answered in (True, False):
            opened = self.do("patient", "Task/$open-ticket", pool={"reference": pool}, message="A new prescription?")
            ticket = values(opened)["return"]
            if answered:
                self.do("doctor", f"Task/{ticket['id']}/$claim")
                self.do("doctor", f"Task/{ticket['id']}/$resolve", answer="It is ready.")

    def prescribes(self) -> None:
        """One is handed out in two parts, one is refused, one is a draft."""
        order = self.clinic.drafted(dispenseRequest=self.clinic.addressed())
        self.clinic.do("doctor", order, "sign")
        secret = values(self.clinic.do("pharmacy", order, "accept"))["secret"]
        for number in (5, 15):
            self.clinic.do(
                "pharmacy", order, "dispense", 201, secret=secret, quantity={"value": number, "unit": "capsule"}
            )
        self.clinic.do("pharmacy", order, "close", secret=secret)
        refused = self.clinic.drafted("Ibuprofen 400 MG Oral Tablet", dispenseRequest=self.clinic.addressed())
        self.clinic.do("doctor", refused, "sign")
        self.clinic.do("pharmacy", refused, "reject", reason="Out of stock")
        self.clinic.drafted("Paracetamol 500 MG Oral Tablet")

    def measures(self) -> None:
        """An entry of the health log, and a threshold that is tried and put in force."""
        entry = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "subject": {"reference": self.patient},
            "effectiveDateTime": (datetime.now(UTC) - timedelta(minutes=5)).isoformat(timespec="milliseconds"),
            "valueQuantity": {"value": 130, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        }
        assert self.clinic.call("patient", "POST", "Observation", entry).status_code == 201
        plan = plan_of(self.patient, clears_at(170), *tells(self.doctor), level=180)
        answer = self.clinic.call("doctor", "POST", "CarePlan", plan)
        assert answer.status_code == 201, answer.text
        address = f"CarePlan/{answer.json()['id']}"
        self.do("doctor", f"{address}/$back-test")
        active = {**self.clinic.get(address, "doctor"), "status": "active"}
        assert self.clinic.call("doctor", "PUT", address, active).status_code == 200

    def sends(self) -> None:
        """A document, and how to be told of things."""
        answer = self.clinic.servers[0].client.post(
            f"DocumentReference/$upload?patient={self.patient}",
            content=pdf_of(),
            headers={"Authorization": "Bearer patient", "Content-Type": "application/pdf"},
        )
        assert answer.status_code == 201, answer.text
        part = [{"name": "kind", "valueCode": "message"}, {"name": "channel", "valueCode": "email"}]
        rows = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "preference", "part": part},
                {"name": "quiet-from", "valueString": "22:00"},
                {"name": "quiet-to", "valueString": "07:00"},
                {"name": "zone", "valueString": "Europe/Berlin"},
            ],
        }
        assert self.clinic.call("patient", "POST", "$notification-preferences", rows).status_code == 200


def _day(days: int, time: str) -> str:
    """A moment some days ahead, by the clock of the Schedule's zone in winter and in summer alike: within its hours."""
    return f"{(datetime.now(UTC) + timedelta(days=days)).date()}T{time}:00Z"


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    clinic = made(make_server)
    walk = Walk(clinic)
    for part in (walk.visits, walk.talks, walk.asks, walk.prescribes, walk.measures, walk.sends):
        part()
    return clinic


def profile_for(resource: Json) -> str | None:
    """The profile that a resource is to be valid by; None for one that is of none of ours."""
    kind = resource["resourceType"]
    if kind in SIMPLE:
        return SIMPLE[kind]
    tags = [*resource.get("meta", {}).get("tag", ())]
    concepts = [*resource.get("category", ()), resource.get("code", {})]
    tags += [coding for concept in concepts for coding in concept.get("coding", ())]
    marks = {f"{tag.get('system')}|{tag.get('code')}" for tag in tags}
    return next((profile for mark, profile in MARKED[kind].items() if mark in marks), None)


def written(clinic: Clinic, kind: str) -> Iterator[tuple[Json, str]]:
    for resource in clinic.found(f"{kind}?_count=200"):
        profile = profile_for(resource)
        if profile is not None:
            yield resource, f"healthsphere-{profile}"


@pytest.mark.parametrize("kind", [*SIMPLE, *MARKED])
def test_what_was_written_is_valid_by_our_own_profiles(clinic: Clinic, kind: str) -> None:
    found = list(written(clinic, kind))
    for resource, profile in found:
        answer = clinic.call("operator", "POST", f"{kind}/$validate?profile={PREFIX}{profile}", resource)
        assert answer.status_code == 200, answer.text
        wrong = [one for one in answer.json()["issue"] if one["severity"] in ("error", "fatal")]
        assert wrong == [], (profile, resource)
        unknown = [one for one in answer.json()["issue"] if "HS-CONTENT-EXTENSION" in str(one.get("details"))]
        assert unknown == [], resource
    wanted = {SIMPLE[kind]} if kind in SIMPLE else set(MARKED[kind].values())
    assert {profile.removeprefix("healthsphere-") for _, profile in found} == wanted


def test_what_the_operations_write_is_of_profiles_that_there_are() -> None:
    named = {*SIMPLE.values(), *(profile for marks in MARKED.values() for profile in marks.values())}
    assert {f"healthsphere-{name}" for name in named} <= set(PROFILES)


def test_what_a_taken_time_leaves_free_is_told_by_an_extension_that_is_known(clinic: Clinic) -> None:
    # `still-free` stands in an OperationOutcome, which nobody stores.
    booked = next(one for one in clinic.found("Appointment?status=booked"))
    row = {"name": "appointment-resource", "resource": {**booked, "status": "pending", "id": "x"}}
    refused = clinic.call("patient", "POST", "Appointment/$book", {"resourceType": "Parameters", "parameter": [row]})
    assert refused.status_code == 409, refused.text
    outcome = refused.json()
    assert "still-free" in str(outcome["extension"])
    told = clinic.call("operator", "POST", "OperationOutcome/$validate", outcome).json()["issue"]
    assert [one for one in told if one["severity"] == "error" or "EXTENSION" in str(one.get("details"))] == []
