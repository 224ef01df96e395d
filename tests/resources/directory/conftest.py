"""A town with doctors: what they do, where, for how much, and when they are free."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from resources.directory.record import ACCEPTS, FEE
from tests.conftest import InProcessServer
from tests.resources.callers import Roles
from tests.resources.scheduling.conftest import CONSULTATION, hours, rules, service
from tests.resources.verification.conftest import Board, Clock

Json = dict[str, Any]

SNOMED = "http://snomed.info/sct"
CARDIOLOGY = {"coding": [{"system": SNOMED, "code": "394579002", "display": "Cardiology"}]}
#: A code of which nothing but the code is said.
BARE_CARDIOLOGY = {"coding": [{"system": SNOMED, "code": "394579002"}]}
DERMATOLOGY = {"coding": [{"system": SNOMED, "code": "394582007"}]}


@dataclass
class Town(Board):
    """A board of doctors, and the names by which tests find their own among all that others have made."""

    def place(self, latitude: float, longitude: float, **content: Any) -> str:
        position = {"latitude": latitude, "longitude": longitude}
        return self.put("Location", **{"name": "Practice", "position": position, **content})

    def seen(self, family: str = "", **content: Any) -> tuple[str, str]:
        """A doctor who came verified from elsewhere, and their role."""
        person = {key: content.pop(key) for key in ("communication", "qualification") if key in content}
        name = [{"family": family or f"F{uuid.uuid4().hex[:8]}", "given": ["Vera"]}]
        doctor = self.put("Practitioner", active=True, name=name, **person)
        content = {"specialty": [CARDIOLOGY], **content}
        return doctor, self.role_of(doctor, **{key: value for key, value in content.items() if value})

    def timetable(self, *actors: str, opens: str = "08:00", closes: str = "12:00", **numbers: int) -> str:
        times = rules(hours(opens, closes), service(CONSULTATION, 30), zone="UTC", **numbers)
        return self.put("Schedule", actor=[{"reference": name} for name in actors], extension=[times])

    def searched(self, query: str, who: str = "patient") -> Json:
        return self.get(f"PractitionerRole/$find-doctor?{query}", who)

    def doctors(self, query: str, who: str = "patient") -> list[str]:
        """The roles that are found, in their order."""
        entries = self.searched(query, who).get("entry", [])
        return [f"PractitionerRole/{e['resource']['id']}" for e in entries if e["search"]["mode"] == "match"]


def fee(amount: float, currency: str = "EUR") -> Json:
    return {"url": FEE, "valueMoney": {"value": amount, "currency": currency}}


def accepts(payer: str) -> Json:
    return {"url": ACCEPTS, "valueReference": {"reference": payer}}


def speaks(code: str) -> Json:
    return {"coding": [{"system": "urn:ietf:bcp:47", "code": code}]}


@pytest.fixture(scope="module")
def town(make_server: Callable[..., InProcessServer]) -> Town:
    roles, clock = Roles(), Clock()
    roles.server = make_server({"gate": roles, "now": clock}, auth="on")
    roles.add("operator", "operator", scopes=())
    roles.add("system", "system")
    for number in (1, 2):
        roles.add(f"admin-{number}", "administrator")
    made = Town(roles.server, roles, clock)
    patient = made.put("Patient")
    roles.add("patient", "patient", patient, patient=patient)
    return made
