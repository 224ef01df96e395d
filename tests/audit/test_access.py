"""The trail tells who called, and shows to each caller what is theirs: a patient sees who saw them, and nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from fhir_server.model.access import AccessPolicy, Caller, Grant, Identity
from fhir_server.model.errors import UnauthorizedError
from tests.conftest import InProcessServer

Json = dict[str, Any]


def own(patient: str) -> AccessPolicy:
    return AccessPolicy(layers=((Grant("*", "rs", compartments=frozenset({f"Patient/{patient}"})),),), version="own-1")


def patient(name: str) -> Caller:
    me = f"Patient/{name}"
    return Caller(Identity(f"account-{name}", "portal", "patient", fhir_user=me, patient=me), own(name))


CALLERS = {
    "operator": Caller(Identity("operator", "", "operator")),
    "ann": Caller(
        Identity("account-ann", "portal", "patient", fhir_user="Patient/ann", patient="Patient/ann"), own("ann")
    ),
    "bob": Caller(
        Identity("account-bob", "portal", "patient", fhir_user="Patient/bob", patient="Patient/bob"), own("bob")
    ),
    "doctor": Caller(
        Identity(
            "account-7",
            "chart-app",
            "practitioner",
            fhir_user="Practitioner/seven",
            organization="Organization/one",
            purpose="BTG",
            reason="found unconscious",
            token_id="jti-7",
        ),
        AccessPolicy(layers=((Grant("*", "cruds"),),), version="all-1"),
    ),
}


class Gate:
    async def caller_of(self, authorization: str | None) -> Caller:
        name = (authorization or "").removeprefix("Bearer ")
        if name not in CALLERS:
            raise UnauthorizedError("unknown", key="HS-AUTH")
        return CALLERS[name]

    def noticed(self, types: Iterable[str], subject: str) -> None:
        """These policies are made of no resources."""


class House:
    def __init__(self, server: InProcessServer) -> None:
        self._server = server

    def as_(self, name: str) -> httpx.Client:
        headers = {"Authorization": f"Bearer {name}"}
        return httpx.Client(transport=self._server.client._transport, base_url=self._server.base_url, headers=headers)


@pytest.fixture(scope="module")
def house(make_server: Callable[..., InProcessServer]) -> House:
    made = House(make_server({"gate": Gate()}, audit="on", auth="on"))
    with made.as_("operator") as operator:
        for name in ("ann", "bob"):
            operator.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name}).raise_for_status()
        doctor = {"resourceType": "Practitioner", "id": "seven", "name": [{"prefix": ["Dr."], "family": "Okafor"}]}
        operator.put("Practitioner/seven", json=doctor).raise_for_status()
    with made.as_("doctor") as client:
        client.get("Patient?_id=ann,bob").raise_for_status()
        client.get("Patient/ann").raise_for_status()
    return made


def found(client: httpx.Client, **query: str) -> list[Json]:
    answer = client.get("AuditEvent", params={"_count": "500", **query})
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", []) if entry["search"]["mode"] == "match"]


def test_who_called_and_why_is_on_the_trail(house: House) -> None:
    with house.as_("operator") as operator:
        event = found(operator, agent="Practitioner/seven", subtype="read")[0]
    user = next(agent for agent in event["agent"] if agent["requestor"])
    assert user["who"] == {"reference": "Practitioner/seven", "identifier": {"value": "account-7"}}
    assert user["role"][0]["coding"][0]["code"] == "practitioner"
    assert user["policy"] == ["urn:ietf:params:oauth:jti:jti-7", "urn:healthsphere:policy:all-1"]
    assert event["purposeOfEvent"][0]["text"] == "found unconscious"
    assert event["agent"][0]["who"] == {"identifier": {"value": "chart-app"}}


def test_a_patient_sees_who_saw_them_and_nothing_of_others(house: House) -> None:
    with house.as_("ann") as ann, house.as_("operator") as operator:
        mine = found(ann)
        assert mine
        assert all("Patient/ann" in str(event) for event in mine)
        assert "bob" not in str(mine)
        of_bob = found(operator, patient="Patient/bob")
        assert of_bob
        for event in of_bob:
            assert ann.get(f"AuditEvent/{event['id']}").status_code == 404
        assert found(ann, patient="Patient/bob") == []


def test_the_ledger_is_a_patients_own_and_names_people_only_where_they_may_be_seen(house: House) -> None:
    with house.as_("ann") as ann, house.as_("doctor") as doctor:
        mine = ann.get("Patient/ann/$access-ledger").json()
        told = [{part["name"]: part for part in row["part"]} for row in mine["parameter"]]
        seen = next(row for row in told if row["what"]["valueString"] == "Read Patient")
        assert seen["who"]["valueReference"]["reference"] == "Practitioner/seven"
        assert seen["why"]["valueString"] == "emergency access (break the glass): found unconscious"
        assert "bob" not in str(mine)
        assert ann.get("Patient/bob/$access-ledger").status_code == 404
        named = doctor.get("Patient/ann/$access-ledger").json()
        assert {"reference": "Practitioner/seven", "display": "Dr. Okafor"} in [
            part["valueReference"] for row in named["parameter"] for part in row["part"] if part["name"] == "who"
        ]


def test_a_refusal_is_told_with_who_was_refused(house: House) -> None:
    with house.as_("ann") as ann, house.as_("operator") as operator:
        refused = ann.delete("Patient/ann")
        hidden = ann.get("Patient/bob")
        assert (refused.status_code, hidden.status_code) == (403, 404)
        for answer, told in ((refused, "403 HS-ACCESS-TYPE"), (hidden, "404 HS-READ-NOT-FOUND")):
            (event,) = found(operator, **{"entity:identifier": f"|{answer.headers['x-request-id']}"})
            assert (event["outcome"], event["outcomeDesc"]) == ("4", told)
            assert "account-ann" in str(event["agent"])


def test_somebody_without_a_token_is_nobody(house: House) -> None:
    with house.as_("stranger") as stranger, house.as_("operator") as operator:
        answer = stranger.get("Patient/ann")
        assert answer.status_code == 401
        (event,) = found(operator, **{"entity:identifier": f"|{answer.headers['x-request-id']}"})
    assert event["agent"][0]["who"] == {"display": "unknown client"}
    assert "role" not in event["agent"][0]
    assert "purposeOfEvent" not in event
