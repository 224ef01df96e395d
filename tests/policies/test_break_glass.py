"""Breaking the glass: what opens, to whom, for how long, and who is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.model.access import Identity, Scope
from fhir_server.model.clock import now_us
from fhir_server.policies.glass import BreakGlass
from fhir_server.storage.document import BROKEN_GLASS
from tests.policies.conftest import World, somebody

Json = dict[str, Any]
REASON = "unconscious in the emergency room"


def ref(reference: str) -> Json:
    return {"reference": reference}


def asked(patient: str, reason: str | None = REASON, **more: Any) -> Json:
    rows: list[Json] = [{"name": "patient", "valueReference": ref(patient)}]
    if reason is not None:
        rows.append({"name": "reason", "valueString": reason})
    rows += [{"name": name, "valuePositiveInt": value} for name, value in more.items()]
    return {"resourceType": "Parameters", "parameter": rows}


class Emergency:
    """A doctor, and a patient whom nothing relates to them, who denied everything and is labelled very restricted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.doctor = world.put("Practitioner")
        self.patient = world.put("Patient")
        secret = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]}
        self.observation = world.put(
            "Observation", status="final", code={"text": "x"}, subject=ref(self.patient), meta=secret
        )
        self.device = world.put("Device", patient=ref(self.patient))
        scope = {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        }
        self.consent = world.put(
            "Consent",
            status="active",
            scope=scope,
            category=[{"text": "c"}],
            patient=ref(self.patient),
            policy=[{"uri": "urn:p"}],
            provision={"type": "deny"},
        )
        self.trail = world.trail
        self.trail.broken.clear()
        self.trail.mended.clear()

    def me(self, **more: Any) -> Identity:
        return somebody("practitioner", self.doctor, **{"grant_id": "session-1", **more})

    def sees(self, **more: Any) -> bool:
        found = [
            self.observation in self.world.allowed(self.me(**more), "Observation"),
            self.device in self.world.allowed(self.me(**more), "Device", "s"),
            self.world.call(self.me(**more), "GET", self.observation)[0] == 200,
        ]
        assert len(set(found)) == 1, found
        return found[0]


@pytest.fixture
def emergency(world: World) -> Iterator[Emergency]:
    made = Emergency(world)
    yield made
    world.delete(made.consent)


def test_the_record_opens_to_the_session_and_closes_when_it_is_mended(world: World, emergency: Emergency) -> None:
    assert not emergency.sees()
    before = world.policy(emergency.me())
    status, answer = world.call(emergency.me(), "POST", "$break-glass", asked(emergency.patient, minutes=5))
    assert status == 200, answer
    assert emergency.sees()
    opened = world.policy(emergency.me())
    assert opened.version.endswith(f" BTG {emergency.patient}")
    assert opened.version.partition(" ")[0] != before.version.partition(" ")[0]
    assert not emergency.sees(grant_id="session-2")
    assert not emergency.sees(subject="somebody-else")
    status, answer = world.call(emergency.me(), "POST", "$mend-glass")
    assert status == 200
    assert not emergency.sees()
    assert world.policy(emergency.me()).version == before.version
    assert world.call(emergency.me(), "POST", "$mend-glass")[0] == 404


def test_scopes_hold_behind_the_broken_glass(world: World, emergency: Emergency) -> None:
    world.call(emergency.me(), "POST", "$break-glass", asked(emergency.patient))
    narrow = emergency.me(scopes=(Scope("user", "Patient", "rs"),))
    assert world.call(narrow, "GET", emergency.patient)[0] == 200
    assert world.call(narrow, "GET", emergency.observation)[0] == 403
    elsewhere = emergency.me(scopes=(Scope("patient", "*", "rs"),), patient="Patient/another")
    assert world.call(elsewhere, "GET", emergency.observation)[0] == 404


def test_nothing_opens_before_the_review_and_the_trail_know(world: World, emergency: Emergency) -> None:
    world.call(emergency.me(), "POST", "$break-glass", asked(emergency.patient, minutes=7))
    (glass,) = emergency.trail.broken
    assert (glass.reason, glass.patient, glass.user) == (REASON, emergency.patient, emergency.doctor)
    assert glass.ends_us - glass.started_us == 7 * 60_000_000
    auditor = somebody("auditor")
    status, task = world.call(auditor, "GET", glass.task)
    assert status == 200
    assert task["description"] == REASON
    assert world.call(emergency.me(), "GET", glass.task)[0] == 404, "who broke the glass closes no review"
    task["status"] = "completed"
    assert world.call(auditor, "PUT", glass.task, task)[0] == 200


def test_a_trail_that_cannot_be_written_opens_nothing(world: World, emergency: Emergency) -> None:
    class Broken:
        async def glass_broken(self, glass: Any) -> None:
            raise ConnectionError

        async def glass_mended(self, glass: Any) -> None: ...

    async def create(resource: Json) -> str:
        return "t1"

    glass = BreakGlass(world.store, create, Broken(), most_minutes=60)
    with pytest.raises(ConnectionError):
        world.server.run(glass.start(emergency.me(), emergency.patient, REASON, 5))
    time.sleep(1.1)
    assert not emergency.sees()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"reason": None}, 400),
        ({"reason": "x"}, 400),
        ({"reason": " .... .... .... "}, 400),
        ({"minutes": 0}, 400),
        ({"minutes": 61}, 400),
        ({"patient": "Patient/nobody"}, 404),
        ({"patient": "Practitioner/1"}, 400),
        ({"patient": "Patient/a/_history/1"}, 400),
    ],
)
def test_a_call_without_reason_patient_or_bounds_is_refused(
    world: World, emergency: Emergency, change: Json, status: int
) -> None:
    given = {"patient": emergency.patient, **change}
    found, outcome = world.call(emergency.me(), "POST", "$break-glass", asked(**given))
    assert found == status, outcome
    assert not emergency.trail.broken
    assert not emergency.sees()


@pytest.mark.parametrize("role", ["patient", "proxy", "pharmacy", "front-desk", "administrator", "auditor", "system"])
def test_only_clinicians_break_the_glass(world: World, emergency: Emergency, role: Any) -> None:
    user = {"patient": emergency.patient, "proxy": "RelatedPerson/1"}.get(role, emergency.doctor)
    me = somebody(role, user, grant_id="g")
    assert world.call(me, "POST", "$break-glass", asked(emergency.patient))[0] == 403
    btg = somebody(role, user, grant_id="g", purpose="BTG", reason=REASON, patient=emergency.patient)
    if role in ("pharmacy", "front-desk", "auditor", "administrator"):
        assert emergency.observation not in world.allowed(btg, "Observation")


def test_a_token_for_breaking_the_glass_opens_nothing_by_itself(world: World, emergency: Emergency) -> None:
    """It would be without a time limit, and nobody would review it: `$break-glass` is the way."""
    assert not emergency.sees(purpose="BTG", patient=emergency.patient, reason=REASON)


def test_it_ends_by_itself_and_the_trail_is_told_once(world: World, emergency: Emergency) -> None:
    world.call(emergency.me(), "POST", "$break-glass", asked(emergency.patient, minutes=1))
    (glass,) = emergency.trail.broken
    world.server.run(world.store.rows(BROKEN_GLASS).put(glass.id, {"ends": now_us() - 1}))
    time.sleep(1.1)
    assert not emergency.sees()
    other = BreakGlass(world.store, None, world.trail, most_minutes=60)  # type: ignore[arg-type]
    closed = [world.server.run(one.close_ended()) for one in (world.glass, other)]
    assert closed == [1, 0]
    assert [g.id for g in emergency.trail.mended] == [glass.id]


def test_another_process_knows_within_two_seconds(world: World, emergency: Emergency) -> None:
    other = world.process(BreakGlass(world.store, None, world.trail, most_minutes=60))  # type: ignore[arg-type]

    def opened() -> bool:
        return emergency.patient in world.server.run(other.of(emergency.me())).version

    assert not opened()
    world.call(emergency.me(), "POST", "$break-glass", asked(emergency.patient))
    time.sleep(2.0)
    assert opened()
    world.call(emergency.me(), "POST", "$mend-glass")
    time.sleep(2.0)
    assert not opened()
