"""A server whose clock the tests move, and the thresholds and measurements that they write."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fhir_server.model.clock import instant_of, now_us

Json = dict[str, Any]

UCUM = "http://unitsofmeasure.org"
HOUR_US = 3_600_000_000
URL = "urn:healthsphere:StructureDefinition:threshold"


class Clock:
    """The moment, as a test says."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def __call__(self) -> int:
        return now_us() + self.ahead_us


class Ward:
    """One or two servers on one database, and what is written to them."""

    def __init__(self, make_server: Callable[..., Any], clock: Clock, count: int = 1) -> None:
        self.clock = clock
        first = make_server({"now": clock})
        name = first.settings.mongodb_database
        self.servers = [first, *(make_server({"now": clock}, mongodb_database=name) for _ in range(count - 1))]
        self.client = first.client
        self.newest_us = 0
        self.context = first.context

    def patient(self) -> str:
        """A new patient; the reference."""
        return self.made({"resourceType": "Patient"})

    def made(self, resource: Json) -> str:
        answer = self.client.post(resource["resourceType"], json=resource, headers={"Prefer": "return=representation"})
        assert answer.status_code == 201, answer.text
        return f"{resource['resourceType']}/{answer.json()['id']}"

    def measured(self, patient: str, value: float, hours_ago: float, *, unit: str = "mm[Hg]", **more: Any) -> str:
        moment_us = now_us() - round(hours_ago * HOUR_US)
        if hours_ago == 0:  # later than the one before, however fast the machine
            moment_us = self.newest_us = max(moment_us, self.newest_us + 1000)
        return self.made(
            {
                "resourceType": "Observation",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                "subject": {"reference": patient},
                "effectiveDateTime": instant_of(moment_us),
                "valueQuantity": {"value": value, "system": UCUM, "code": unit, "unit": unit},
                **more,
            }
        )

    def threshold(self, patient: str, *parts: Json, kind: str = "threshold", level: float = 180) -> str:
        return self.made(plan_of(patient, *parts, kind=kind, level=level))

    def in_force(self, patient: str, *parts: Json, **more: Any) -> str:
        """A threshold that was tried and put in force."""
        plan = self.threshold(patient, *parts, **more)
        assert self.client.post(f"{plan}/$back-test").status_code == 200
        answer = self.status(plan, "active")
        assert answer.status_code == 200, answer.text
        return plan

    def status(self, plan: str, status: str) -> Any:
        return self.client.put(plan, json={**self.client.get(plan).json(), "status": status})

    def settle(self) -> None:
        """All that was written is judged."""
        for server in self.servers:
            server.run(server.context.feed.caught_up())

    def wait(self, hours: float) -> None:
        """Time goes by, and what is due is done."""
        self.clock.ahead_us += round(hours * HOUR_US)
        self.servers[0].run(self.context.timers.run_due())

    def found(self, resource_type: str, patient: str) -> list[Json]:
        """What there is of a patient, the oldest first."""
        bundle = self.client.get(resource_type, params={"patient": patient, "_sort": "_lastUpdated"}).json()
        return [row["resource"] for row in bundle.get("entry", ())]

    def counts(self, patient: str) -> list[int]:
        """How many issues, flags, messages and tasks."""
        self.settle()
        return [len(self.found(name, patient)) for name in ("DetectedIssue", "Flag", "Communication", "Task")]


def plan_of(patient: str, *parts: Json, kind: str = "threshold", level: float = 180) -> Json:
    quantity = {"value": level, "comparator": ">", "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"}
    measure = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
    rule: Json = {
        "resourceType": "PlanDefinition",
        "id": "rule",
        "status": "active",
        "title": "Systolic blood pressure",
        "goal": [
            {"description": {"text": "not too high"}, "target": [{"measure": measure, "detailQuantity": quantity}]}
        ],
    }
    if parts:
        rule["extension"] = [{"url": URL, "extension": list(parts)}]
    return {
        "resourceType": "CarePlan",
        "contained": [rule],
        "instantiatesCanonical": ["#rule"],
        "status": "draft",
        "intent": "plan",
        "category": [{"coding": [{"system": "urn:healthsphere:CodeSystem:care-plan", "code": kind}]}],
        "subject": {"reference": patient},
        "author": {"reference": "Practitioner/first"},
    }


def clears_at(value: float, unit: str = "mm[Hg]") -> Json:
    return {"url": "clear", "valueQuantity": {"value": value, "system": UCUM, "code": unit}}


def hours(name: str, value: float) -> Json:
    return {"url": name, "valueDuration": {"value": value, "unit": "h", "system": UCUM, "code": "h"}}


def tells(*references: str) -> list[Json]:
    return [{"url": "tell", "valueReference": {"reference": reference}} for reference in references]


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def ward(make_server: Callable[..., Any], clock: Clock) -> Iterator[Ward]:
    one = Ward(make_server, clock)
    yield one
    for server in one.servers:
        server.close()


@pytest.fixture
def patient(ward: Ward) -> str:
    return ward.patient()


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex
