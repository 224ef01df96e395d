"""What the roles let people do with devices and thresholds, by the table of roles itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.model.access import Identity
from tests.policies.conftest import EVERYTHING, World
from tests.resources.monitoring.conftest import plan_of

Json = dict[str, Any]

PATIENT = Identity("ann", "app", "patient", EVERYTHING, fhir_user="Patient/ann", patient="Patient/ann")
DOCTOR = Identity("doc", "app", "practitioner", EVERYTHING, fhir_user="Practitioner/doc")


@pytest.fixture(scope="module")
def clinic(make_server: Callable[..., Any]) -> Iterator[World]:
    world = World(make_server())
    world.put("Practitioner", "doc")
    world.put("Patient", "ann", generalPractitioner=[{"reference": "Practitioner/doc"}])
    world.put("Patient", "kim")
    yield world
    world.close()


def device(patient: str) -> Json:
    return {"resourceType": "Device", "patient": {"reference": patient}}


@pytest.mark.parametrize(
    ("who", "resource", "status"),
    [
        (PATIENT, device("Patient/ann"), 201),
        (PATIENT, device("Patient/kim"), 403),
        (PATIENT, plan_of("Patient/ann", kind="own-threshold"), 201),
        (PATIENT, plan_of("Patient/kim", kind="own-threshold"), 403),
        (PATIENT, plan_of("Patient/ann"), 403),
        (DOCTOR, plan_of("Patient/ann"), 201),
        (DOCTOR, plan_of("Patient/kim"), 403),
    ],
)
def test_people_set_what_is_theirs_to_set(clinic: World, who: Identity, resource: Json, status: int) -> None:
    answered, told = clinic.call(who, "POST", resource["resourceType"], resource)
    assert answered == status, told


def test_a_doctor_tries_the_thresholds_of_their_patients_alone(clinic: World) -> None:
    mine = clinic.put("CarePlan", **{k: v for k, v in plan_of("Patient/ann").items() if k != "resourceType"})
    other = clinic.put("CarePlan", **{k: v for k, v in plan_of("Patient/kim").items() if k != "resourceType"})
    empty = {"resourceType": "Parameters"}
    assert clinic.call(DOCTOR, "POST", f"{mine}/$back-test", empty)[0] == 200
    assert clinic.call(DOCTOR, "POST", f"{other}/$back-test", empty)[0] == 404
    assert clinic.call(PATIENT, "POST", f"{mine}/$back-test", empty)[0] == 403
