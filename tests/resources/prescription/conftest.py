"""A doctor, a patient and pharmacies on a server that holds them to their roles."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from fhir_server.model.access import Identity, Scope
from tests.conftest import InProcessServer
from tests.resources.callers import EVERYTHING, Roles

Json = dict[str, Any]


@dataclass
class Clinic:
    """One server, or several of one database, and how to ask them as somebody.

    The names of callers: `operator`, `system`, `doctor`, `other-doctor`, `patient`, `pharmacy`, `other-pharmacy`.
    """

    servers: list[InProcessServer]
    known: dict[str, Identity]
    names: dict[str, str] = field(default_factory=dict)

    def call(self, who: str, method: str, address: str, body: Json | None = None, server: int = 0) -> httpx.Response:
        return self.servers[server].client.request(
            method, address, json=body, headers={"Authorization": f"Bearer {who}"}
        )

    def request(self, who: str, method: str, address: str, body: Json | None = None, server: int = 0) -> httpx.Request:
        return self.servers[server].client.build_request(
            method, address, json=body, headers={"Authorization": f"Bearer {who}"}
        )

    def put(self, resource_type: str, **content: Any) -> str:
        """Store a resource as the operator; its reference."""
        resource_id = content.pop("id", None) or f"x{uuid.uuid4().hex[:12]}"
        body = {"resourceType": resource_type, "id": resource_id, **content}
        answer = self.call("operator", "PUT", f"{resource_type}/{resource_id}", body)
        assert answer.status_code in (200, 201), answer.text
        return f"{resource_type}/{resource_id}"

    def get(self, address: str, who: str = "operator") -> Json:
        answer = self.call(who, "GET", address)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def found(self, address: str, who: str = "operator") -> list[Json]:
        return [entry["resource"] for entry in self.get(address, who).get("entry", [])]

    # --- prescriptions ----------------------------------------------------------------------------------------------

    def order(self, medicine: str = "Amoxicillin 500 MG Oral Capsule", **content: Any) -> Json:
        """A MedicationRequest, as the doctor would write it."""
        return {
            "resourceType": "MedicationRequest",
            "status": "draft",
            "intent": "order",
            "medicationCodeableConcept": {"text": medicine},
            "subject": {"reference": self.names["patient"]},
            "requester": {"reference": self.names["doctor"]},
            "dosageInstruction": [{"text": "1 capsule three times a day"}],
            "dispenseRequest": {"quantity": {"value": 20, "unit": "capsule"}},
            **content,
        }

    def drafted(self, medicine: str = "Amoxicillin 500 MG Oral Capsule", **content: Any) -> str:
        """A draft that the doctor has written; its address."""
        answer = self.call("doctor", "POST", "MedicationRequest", self.order(medicine, **content))
        assert answer.status_code == 201, answer.text
        return f"MedicationRequest/{answer.json()['id']}"

    def addressed(self, who: str = "pharmacy", **request: Any) -> Json:
        """The `dispenseRequest` of what is addressed to a pharmacy."""
        quantity = {"value": 20, "unit": "capsule"}
        return {"performer": {"reference": self.names[who]}, "quantity": quantity, **request}

    def signed(self, medicine: str = "Amoxicillin 500 MG Oral Capsule", **content: Any) -> tuple[str, str]:
        """A prescription that the doctor has written and signed: its address, and the pull token."""
        address = self.drafted(medicine, **content)
        answer = self.call("doctor", "POST", f"{address}/$sign")
        assert answer.status_code == 200, answer.text
        return address, str(values(answer.json())["token"])

    def claimed(self, **content: Any) -> tuple[str, str]:
        """A prescription that the pharmacy has claimed: its address, and the secret."""
        address, token = self.signed(**content)
        answer = self.call("pharmacy", "POST", f"{address}/$accept", given(token=token))
        assert answer.status_code == 200, answer.text
        return address, str(values(answer.json())["secret"])

    def do(
        self, who: str, address: str, operation: str, expect: int | tuple[int, ...] = 200, **parameters: Any
    ) -> Json:
        """Call an operation of a prescription."""
        answer = self.call(who, "POST", f"{address}/${operation}", given(**parameters))
        wanted = (expect,) if isinstance(expect, int) else expect
        assert answer.status_code in wanted, (answer.status_code, answer.text)
        body: Json = answer.json()
        return body

    def work(self, address: str) -> Json:
        """The Task that is the work on a prescription now."""
        order_id = address.partition("/")[2]
        tasks = self.found(f"Task?focus=MedicationRequest/{order_id}&code=fulfill&_sort=-_lastUpdated,_id")
        order = sorted(tasks, key=lambda task: task["id"])
        return order[-1]

    def state(self, address: str) -> str:
        code: str = self.work(address)["businessStatus"]["coding"][0]["code"]
        return code

    def matters(self, address: str, matter: str, kind: str = "Task") -> list[Json]:
        """What was made for people about a prescription."""
        element = "focus" if kind == "Task" else "implicated" if kind == "DetectedIssue" else "about"
        found = self.found(f"{kind}?patient={self.names['patient']}&_sort=-_lastUpdated&_count=500")
        return [
            one
            for one in found
            if any(
                coding["code"] == matter
                for concept in (one["code"] if kind != "Communication" else one["category"][0],)
                for coding in concept["coding"]
            )
            and address in str(one.get(element))
        ]


def given(**parameters: Any) -> Json:
    """Parameters; the names with `-` for `_`."""
    rows = []
    for name, value in parameters.items():
        key = ("_" + name[1:] if name.startswith("_") else name).replace("_", "-") if not name.startswith("_") else name
        for one in value if isinstance(value, list) else [value]:
            rows.append({"name": key, **as_value(one)})
    return {"resourceType": "Parameters", "parameter": rows} if rows else {"resourceType": "Parameters"}


def as_value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"valueBoolean": value}
    if isinstance(value, str):
        return {"valueString": value}
    if isinstance(value, dict) and "part" in value:
        return value
    if isinstance(value, dict) and "reference" in value:
        return {"valueReference": value}
    if isinstance(value, dict) and "value" in value and "system" not in value | {"system": 1}:
        return {"valueQuantity": value}
    if isinstance(value, dict) and ("unit" in value or "code" in value):
        return {"valueQuantity": value}
    if isinstance(value, dict) and "system" in value:
        return {"valueIdentifier": value}
    return {"valueCodeableConcept": value}


def values(parameters: Json) -> Json:
    """The parameters of an answer by name; the last one of each."""
    found: Json = {}
    for row in parameters.get("parameter", ()):
        (value,) = [v for key, v in row.items() if key != "name"]
        found[row["name"]] = value
    return found


def all_of(parameters: Json, name: str) -> list[Any]:
    return [
        next(v for key, v in row.items() if key != "name")
        for row in parameters.get("parameter", ())
        if row["name"] == name
    ]


def key_of(answer: Any) -> str:
    """The key of the first issue of a refusal."""
    body = answer.json() if hasattr(answer, "json") else answer
    return str(body["issue"][0]["details"]["coding"][0]["code"])


def made(make_server: Callable[..., InProcessServer], servers: int = 1, **parts: Any) -> Clinic:
    known: dict[str, Identity] = {
        "operator": Identity("operator", "test", "operator"),
        "system": Identity("system", "test", "system", scopes=(Scope("system", "*", "cruds"),)),
    }
    gates = [Roles(known) for _ in range(servers)]
    first = make_server({"gate": gates[0], **parts}, auth="on")
    database = first.settings.mongodb_database
    others = [make_server({"gate": gate, **parts}, auth="on", mongodb_database=database) for gate in gates[1:]]
    for gate, server in zip(gates, (first, *others), strict=True):
        gate.server = server
    clinic = Clinic([first, *others], known)
    names = clinic.names
    names["doctor"] = clinic.put("Practitioner", id="doctor", name=[{"family": "Żółć", "given": ["Ida"]}])
    names["other-doctor"] = clinic.put("Practitioner", id="other-doctor")
    names["patient"] = clinic.put(
        "Patient",
        id="patient",
        name=[{"family": "Müller", "given": ["Kim"]}],
        birthDate="1970-01-01",
        generalPractitioner=[{"reference": names["doctor"]}, {"reference": names["other-doctor"]}],
    )
    for name in ("pharmacy", "other-pharmacy"):
        names[name] = clinic.put("Organization", id=name, name=name)
        user = clinic.put("Practitioner", id=f"{name}-staff")
        known[name] = Identity(name, "test", "pharmacy", EVERYTHING, fhir_user=user, organization=names[name])
    for name in ("doctor", "other-doctor"):
        known[name] = Identity(name, "test", "practitioner", EVERYTHING, fhir_user=names[name])
    known["patient"] = Identity(
        "patient", "test", "patient", EVERYTHING, fhir_user=names["patient"], patient=names["patient"]
    )
    return clinic


@pytest.fixture(scope="session")
def clinic(make_server: Callable[..., InProcessServer]) -> Clinic:
    return made(make_server)


@pytest.fixture(scope="session")
def two_servers(make_server: Callable[..., InProcessServer]) -> Clinic:
    """Two processes' worth of state over one database."""
    return made(make_server, servers=2)
