"""A doctor and a patient, each on one page, as the caller may see them; changes that say of which version they are."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pymongo import monitoring

from resources.directory.finding import NEXT_SLOT, PRACTICE
from resources.directory.record import FEE
from tests.conformance.test_command_counts import Listener
from tests.conftest import InProcessServer
from tests.resources.callers import Roles
from tests.resources.directory.conftest import CARDIOLOGY, Town, fee, speaks, town  # noqa: F401  (a fixture)
from tests.resources.prescription.conftest import key_of
from tests.resources.verification.conftest import Board, licence

Json = dict[str, Any]


# --- doctors ----------------------------------------------------------------------------------------------------------


def test_a_doctor_is_on_one_page_with_hours_places_fees_and_times(town: Town) -> None:  # noqa: F811
    clinic = town.put("Organization", name="Heart Clinic")
    place = town.place(50.0, 7.0, address={"city": "Bonn"})
    service = town.put("HealthcareService", name="Visits", extension=[fee(80)])
    doctor, role = town.seen(
        communication=[speaks("de"), speaks("en")],
        qualification=[licence(uuid.uuid4().hex)],
        organization={"reference": clinic},
        location=[{"reference": place}],
        healthcareService=[{"reference": service}],
        availableTime=[{"daysOfWeek": ["mon"], "availableStartTime": "09:00:00", "availableEndTime": "12:00:00"}],
    )
    town.timetable(doctor)
    bundle = town.get(f"{doctor}/$directory-profile", "patient")
    entries = {f"{e['resource']['resourceType']}/{e['resource']['id']}": e for e in bundle["entry"]}
    assert bundle["entry"][0]["search"]["mode"] == "match"
    assert set(entries) >= {doctor, role, clinic, place, service}
    assert entries[doctor]["resource"]["qualification"][0]["issuer"]["display"] == "Board of Medicine"
    assert entries[role]["resource"]["availableTime"][0]["daysOfWeek"] == ["mon"]
    # Of a role, the same is told beside it as in searches.
    bundle = town.get(f"{role}/$directory-profile", "patient")
    marks = {row["url"]: row for row in bundle["entry"][0]["search"]["extension"]}
    assert marks[FEE]["valueMoney"] == {"value": 80, "currency": "EUR"}
    assert marks[PRACTICE]["valueString"] == "Heart Clinic, Practice, Bonn"
    times = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Appointment"]
    assert len(times) == 3
    assert NEXT_SLOT in marks


def test_who_is_hidden_has_no_page_for_patients_and_one_for_colleagues(town: Town) -> None:  # noqa: F811
    doctor = town.doctor(licence(uuid.uuid4().hex))
    role = town.role_of(doctor, specialty=[CARDIOLOGY])
    town.settle()
    for address in (doctor, role):
        assert town.call("patient", "GET", f"{address}/$directory-profile").status_code == 404
        assert town.call(doctor, "GET", f"{address}/$directory-profile").status_code == 200


# --- patients ---------------------------------------------------------------------------------------------------------

ALLERGIC = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]
}
ACTIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}
RESOLVED = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "resolved"}]}
MISTAKE = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "entered-in-error"}]
}


def recorded(board: Board, doctor: str) -> tuple[str, list[str]]:
    """A patient of whom everything is recorded: their reference, and what is to be shown."""
    patient = board.put("Patient", birthDate="1970-01-01", generalPractitioner=[{"reference": doctor}])
    of = {"reference": patient}
    shown = [
        board.put("AllergyIntolerance", patient=of, code={"text": "Penicillin"}, clinicalStatus=ALLERGIC),
        board.put("Condition", subject=of, code={"text": "Asthma"}, clinicalStatus=ACTIVE),
        board.put("MedicationStatement", subject=of, status="active", medicationCodeableConcept={"text": "Salbutamol"}),
        board.put("MedicationRequest", subject=of, status="active", intent="order",
                  medicationCodeableConcept={"text": "Salbutamol"}),
        board.put("FamilyMemberHistory", patient=of, status="completed", relationship={"text": "mother"}),
        board.put("Coverage", beneficiary=of, status="active", payor=[{"display": "Insurer"}]),
        board.put("RelatedPerson", patient=of, active=True),
        doctor,
    ]  # fmt: skip
    return patient, shown


def included(bundle: Json) -> set[str]:
    rows = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "include"]
    return {f"{row['resourceType']}/{row['id']}" for row in rows}


def test_a_patient_is_on_one_page_without_what_is_past_or_a_mistake(town: Town) -> None:  # noqa: F811
    doctor, _ = town.seen()
    patient, shown = recorded(town, doctor)
    of = {"reference": patient}
    past = [
        town.put("Condition", subject=of, code={"text": "Flu"}, clinicalStatus=RESOLVED),
        town.put("Coverage", beneficiary=of, status="cancelled", payor=[{"display": "Insurer"}]),
        town.put("RelatedPerson", patient=of, active=False),
    ]
    town.put("Condition", subject=of, code={"text": "Not theirs"}, verificationStatus=MISTAKE)
    town.put("MedicationStatement", subject=of, status="entered-in-error", medicationCodeableConcept={"text": "x"})
    name = uuid.uuid4().hex
    town.roles.add(name, "patient", patient, patient=patient)
    bundle = town.get(f"{patient}/$profile", name)
    assert bundle["entry"][0]["resource"]["birthDate"] == "1970-01-01"
    assert included(bundle) == set(shown)
    assert included(town.get(f"{patient}/$profile?past=true", name)) == {*shown, *past}
    only = included(town.get(f"{patient}/$profile?section=coverage,allergies", name))
    assert {one.partition("/")[0] for one in only} == {"Coverage", "AllergyIntolerance", "Practitioner"}
    answer = town.call(name, "GET", f"{patient}/$profile?section=moods")
    assert (answer.status_code, key_of(answer)) == (400, "HS-OP-PARAMETER")


def test_an_empty_section_says_so_and_one_that_is_not_shown_as_well(town: Town) -> None:  # noqa: F811
    patient = town.put("Patient", managingOrganization={"reference": (clinic := town.put("Organization", name="C"))})
    of = {"reference": patient}
    town.put("AllergyIntolerance", patient=of, code={"text": "Penicillin"}, clinicalStatus=ALLERGIC)
    outcome = town.get(f"{patient}/$profile")["entry"][-1]["resource"]
    told = {issue["diagnostics"].partition(":")[0]: key_of({"issue": [issue]}) for issue in outcome["issue"]}
    empty = ("conditions", "medications", "family-history", "coverage", "proxies")
    assert told == dict.fromkeys(empty, "HS-PAGE-EMPTY")
    # The front desk sees who pays and who acts for the patient, and nothing clinical.
    desk = uuid.uuid4().hex
    town.roles.add(desk, "front-desk", town.put("Practitioner"), organization=clinic)
    bundle = town.get(f"{patient}/$profile", desk)
    assert included(bundle) == set()
    told = {
        i["diagnostics"].partition(":")[0]: key_of({"issue": [i]}) for i in bundle["entry"][-1]["resource"]["issue"]
    }
    assert told["allergies"] == told["conditions"] == "HS-PAGE-NOT-SHOWN"
    assert told["coverage"] == "HS-PAGE-EMPTY"


def test_a_stranger_has_no_page(town: Town) -> None:  # noqa: F811
    other = town.put("Patient")
    assert town.call("patient", "GET", f"{other}/$profile").status_code == 404


def test_a_page_costs_the_same_however_much_is_recorded(make_server: Callable[..., InProcessServer]) -> None:
    listener = Listener()
    monitoring.register(listener)
    server = make_server()
    listener.database = server.settings.mongodb_database
    board = Board(server, Roles(server=server))
    doctor = board.put("Practitioner")
    patient, shown = recorded(board, doctor)
    for _ in range(20):
        shown.append(board.put("Condition", subject={"reference": patient}, clinicalStatus=ACTIVE))
    empty = board.put("Patient", generalPractitioner=[{"reference": doctor}])
    counts = []
    for whose, wanted in ((patient, set(shown)), (empty, {doctor})):
        with listener.noting() as noted:
            assert included(board.get(f"{whose}/$profile")) == wanted
        counts.append(Counter(noted))
    assert counts[0] == counts[1]
    # The Patient, one for each type, and the general practitioners.
    assert counts[0].total() == 1 + 7 + 1, counts[0]


# --- which version a change is of -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strict(make_server: Callable[..., InProcessServer]) -> InProcessServer:
    return make_server(if_match_types="Patient,Practitioner")


def test_where_it_is_asked_for_a_change_says_which_version_it_is_of(strict: InProcessServer) -> None:
    client = strict.client
    body: Json = {"resourceType": "Patient", "id": "v", "gender": "male"}
    made = client.put("Patient/v", json=body)  # nothing was there
    assert made.status_code == 201
    answer = client.put("Patient/v", json={**body, "gender": "female"})
    assert (answer.status_code, key_of(answer)) == (428, "HS-HTTP-IF-MATCH")
    tag = {"If-Match": made.headers["etag"]}
    changed = client.put("Patient/v", json={**body, "gender": "female"}, headers=tag)
    assert changed.status_code == 200
    assert client.put("Patient/v", json={**body, "gender": "other"}, headers=tag).status_code == 412

    patch = [{"op": "replace", "path": "/gender", "value": "other"}]
    kind = {"Content-Type": "application/json-patch+json"}
    assert client.patch("Patient/v", json=patch, headers=kind).status_code == 428
    assert client.patch("Patient?_id=v", json=patch, headers=kind).status_code == 428
    assert client.put("Patient?_id=v", json=body).status_code == 428
    tag = {"If-Match": changed.headers["etag"]}
    assert client.patch("Patient/v", json=patch, headers={**kind, **tag}).status_code == 200


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_entries_of_bundles_say_it_too(strict: InProcessServer, kind: str) -> None:
    client, name = strict.client, f"b{kind}"
    body: Json = {"resourceType": "Patient", "id": name, "gender": "male"}

    def sent(**request: str) -> str:
        entry = {"resource": body, "request": {"method": "PUT", "url": f"Patient/{name}", **request}}
        answer = client.post("", json={"resourceType": "Bundle", "type": kind, "entry": [entry]})
        return str(answer.json()["entry"][0]["response"]["status"]) if answer.is_success else str(answer.status_code)

    assert sent().startswith("201")
    body["gender"] = "female"
    assert sent().startswith("428")
    assert sent(ifMatch='W/"1"').startswith("200")


def test_other_types_need_not_say_it(strict: InProcessServer) -> None:
    body: Json = {"resourceType": "Organization", "id": "o", "name": "A"}
    for name in ("A", "B"):
        assert strict.client.put("Organization/o", json={**body, "name": name}).is_success
