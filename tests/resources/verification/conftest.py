"""Doctors who apply, administrators who decide, and a patient who looks for them, on a server with a clock to set."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from fhir_server.model.clock import now_us
from tests.conftest import InProcessServer
from tests.resources.callers import Roles

Json = dict[str, Any]

REGISTER = "http://example.org/register-of-doctors"


@dataclass
class Clock:
    """The moment by which timers are due, which a test puts forward."""

    ahead: timedelta = timedelta()

    def __call__(self) -> int:
        return now_us() + round(self.ahead.total_seconds() * 1e6)


def ahead(days: int) -> str:
    """A date so many days from now."""
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def licence(number: str, until: str | date | None = None) -> Json:
    return {
        "identifier": [{"system": REGISTER, "value": number}],
        "code": {"text": "Licence to practise medicine"},
        "issuer": {"display": "Board of Medicine"},
        "period": {"start": "2010-01-01", **({"end": str(until)} if until else {})},
    }


DEGREE = {"code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0360/2.7", "code": "MD"}]}}


@dataclass
class Board:
    """The server, and those who ask it: `operator`, `system`, `admin-1` to `admin-3`, `patient`, and doctors."""

    server: InProcessServer
    roles: Roles
    clock: Clock = field(default_factory=Clock)

    def call(self, who: str, method: str, address: str, body: Json | None = None) -> httpx.Response:
        return self.roles.as_(who).request(method, address, json=body)

    def get(self, address: str, who: str = "operator") -> Json:
        answer = self.call(who, "GET", address)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def found(self, address: str, who: str = "operator") -> list[Json]:
        entries = self.get(address, who).get("entry", [])
        return [e["resource"] for e in entries if e["search"]["mode"] == "match"]

    def put(self, resource_type: str, who: str = "operator", **content: Any) -> str:
        key = content.pop("id", None) or f"x{uuid.uuid4().hex[:12]}"
        body = {"resourceType": resource_type, "id": key, **content}
        answer = self.call(who, "PUT", f"{resource_type}/{key}", body)
        assert answer.status_code in (200, 201), answer.text
        return f"{resource_type}/{key}"

    def doctor(self, *qualifications: Json, **content: Any) -> str:
        """A doctor who is known here and not verified, with an app of their own; the reference is also the name."""
        more = {"qualification": list(qualifications)} if qualifications else {}
        name = [{"family": f"Doc{uuid.uuid4().hex[:8]}", "given": ["Ida"]}]
        reference = self.put("Practitioner", **{"active": False, "name": name, **more, **content})
        self.roles.add(reference, "practitioner", reference)
        return reference

    def role_of(self, doctor: str, **content: Any) -> str:
        return self.put("PractitionerRole", practitioner={"reference": doctor}, **content)

    def do(self, who: str, address: str, operation: str, expect: int = 200, **given: str) -> Json:
        rows = [{"name": name, "valueString": value} for name, value in given.items()]
        body = {"resourceType": "Parameters", "parameter": rows} if rows else None
        answer = self.call(who, "POST", f"{address}/${operation}", body)
        assert answer.status_code == expect, (answer.status_code, answer.text)
        told: Json = answer.json()
        return told

    def verified(self, *qualifications: Json) -> str:
        """A doctor whom two administrators have verified."""
        doctor = self.doctor(*qualifications)
        self.do(doctor, doctor, "apply")
        self.do("admin-1", doctor, "approve", note="looked up")
        self.do("admin-2", doctor, "approve")
        assert self.get(doctor)["active"] is True
        return doctor

    def claims(self, doctor: str) -> dict[str, Json]:
        """The claims of a doctor by their kind; the last one of each."""
        rows = self.found(f"VerificationResult?target={doctor}")
        return {row["validationProcess"][0]["coding"][0]["code"]: row for row in rows}

    def task(self, doctor: str) -> Json:
        (task,) = self.found(f"Task?focus={doctor}&code=urn:healthsphere:task|verify-practitioner")
        return task

    def settle(self) -> None:
        """Everything that follows from what was written, and all that is due, is done."""
        self.server.run(self.server.context.feed.caught_up())
        self.server.run(self.server.context.timers.run_due())


@pytest.fixture(scope="module")
def board(make_server: Callable[..., InProcessServer]) -> Board:
    roles, clock = Roles(), Clock()
    roles.server = make_server({"gate": roles, "now": clock}, auth="on")
    roles.add("operator", "operator", scopes=())
    roles.add("system", "system")
    for number in (1, 2, 3):
        roles.add(f"admin-{number}", "administrator")
    made = Board(roles.server, roles, clock)
    roles.add("patient", "patient", made.put("Patient"))
    return made


@pytest.fixture(autouse=True)
def _the_clock_goes_back(board: Board) -> Any:
    yield
    board.clock.ahead = timedelta()
