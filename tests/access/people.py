"""New patients, what is written about them, and callers with a policy of the test's own."""

from __future__ import annotations

import itertools
from typing import Any

import httpx

from fhir_server.model.access import AccessPolicy, Grant

VITALS, LABS = "vital-signs", "laboratory"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
NUMBERS = itertools.count()


def observation(patient: str, category: str = VITALS, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": {"text": "pulse"},
        "subject": {"reference": f"Patient/{patient}"},
        **more,
    }


def within(patient: str, *grants: Grant, denials: tuple[Grant, ...] = (), **more: Any) -> AccessPolicy:
    """Grants (the scopes) to somebody whose role is to see one patient's record."""
    role = Grant("*", "cruds", compartments=frozenset({f"Patient/{patient}"}))
    return AccessPolicy(layers=(grants or (Grant("*", "cruds"),), (role,)), denials=denials, **more)


def as_(world: Any, policy: AccessPolicy, **identity: Any) -> httpx.Client:
    name = f"caller-{next(NUMBERS)}"
    world.callers.add(name, policy, **identity)
    return world.as_(name)


def created(world: Any, resource: dict[str, Any]) -> str:
    with world.as_("operator") as operator:
        answer = operator.post(resource["resourceType"], json=resource)
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]
