"""How policies are made and kept: fresh within a second, never older, the same object where nothing changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.model.access import Identity
from fhir_server.model.errors import UnavailableError
from fhir_server.policies.glass import BreakGlass
from tests.policies.conftest import World, somebody


def ref(reference: str) -> dict[str, str]:
    return {"reference": reference}


@pytest.fixture
def me(world: World) -> Iterator[Identity]:
    doctor = world.put("Practitioner")
    made = world.put("Patient", generalPractitioner=[ref(doctor)])
    yield somebody("practitioner", doctor, subject=doctor)
    world.delete(made)


def broken(*_: Any, **__: Any) -> Any:
    raise UnavailableError("The database does not answer.")


def test_a_policy_that_says_the_same_is_the_same_object(world: World, me: Identity) -> None:
    first = world.policy(me)
    time.sleep(1.1)
    assert world.policy(me) is first
    twin = somebody("practitioner", me.fhir_user, subject=me.subject)
    assert twin is not me
    assert world.policy(twin) is first


def test_within_a_second_nothing_is_asked_and_afterwards_nothing_old_stands_in(
    world: World, me: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = world.policy(me)
    for name in ("find", "aggregate"):
        monkeypatch.setattr(world.store, name, broken)
    assert world.policy(me) is first
    time.sleep(1.1)
    with pytest.raises(UnavailableError):
        world.policy(me)
    monkeypatch.undo()
    assert world.policy(me) is first


def test_what_somebody_writes_counts_for_them_at_once(world: World, me: Identity) -> None:
    before = world.allowed(me, "Patient")
    body = {"resourceType": "Patient", "id": "at-once", "generalPractitioner": [ref(str(me.fhir_user))]}
    assert world.client.put("Patient/at-once", json=body).status_code in (200, 201)
    world.policies.noticed("Observation", me.subject)
    world.policies.noticed("Patient", "somebody-else")
    assert world.policy(me) is world.policy(me)
    world.policies.noticed("Patient", me.subject)
    assert world.allowed(me, "Patient") == before | {"Patient/at-once"}
    world.client.delete("Patient/at-once")


def test_a_relation_acts_within_two_seconds_where_nobody_told_of_it(world: World, me: Identity) -> None:
    before = world.allowed(me, "Patient")
    body = {"resourceType": "Patient", "id": "untold", "generalPractitioner": [ref(str(me.fhir_user))]}
    assert world.client.put("Patient/untold", json=body).status_code in (200, 201)
    time.sleep(2.0)
    assert world.allowed(me, "Patient") == before | {"Patient/untold"}
    world.client.delete("Patient/untold")
    time.sleep(2.0)
    assert world.allowed(me, "Patient") == before


def test_two_processes_make_the_same_version(world: World, me: Identity) -> None:
    other = world.process(BreakGlass(world.store, None, world.trail, most_minutes=60))  # type: ignore[arg-type]
    version = world.policy(me).version
    assert version
    assert world.server.run(other.of(me)).version == version
    assert world.policy(somebody("practitioner", me.fhir_user, "Organization/1", subject="x")).version != version


def test_a_clinician_with_hundreds_of_patients_sees_and_changes_them_all_and_no_other(world: World) -> None:
    doctor = world.put("Practitioner")
    entries = []
    for n in range(600):
        patient = {"resourceType": "Patient", "id": f"many-{n}", "generalPractitioner": [ref(doctor)]}
        device = {"resourceType": "Device", "id": f"many-{n}", "patient": ref(f"Patient/many-{n}")}
        entries += [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
            for r in (patient, device)
        ]
    answer = world.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    world.renew()
    me = somebody("practitioner", doctor, subject="busy")
    assert len(world.allowed(me, "Patient", "s")) == 600
    for verb in ("r", "u"):
        assert len(world.allowed(me, "Device", verb)) == 600
    assert world.call(me, "GET", "Device/many-599")[0] == 200
    assert world.call(me, "GET", "Device?patient=Patient/many-599")[1]["total"] == 1
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    assert world.call(me, "POST", "Observation", {**observation, "subject": ref("Patient/many-7")})[0] == 201
    stranger = world.put("Patient")
    assert world.call(me, "POST", "Observation", {**observation, "subject": ref(stranger)})[0] == 403
    for entry in entries:
        entry["request"]["method"] = "DELETE"
        del entry["resource"]
    assert (
        world.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}).status_code
        == 200
    )
