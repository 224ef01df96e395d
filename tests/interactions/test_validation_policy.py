"""Writes are held to the policy of the server, by whichever way they come; `$validate` tells all in any case."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.model.access import Caller, Identity
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.repository import Change
from fhir_server.storage.setup import SetupError
from tests.validation.profile.holding import BASE, Json, profile

NAMED: Json = {"resourceType": "Patient", "name": [{"family": "Shaw"}]}
UNNAMED: Json = {"resourceType": "Patient", "birthDate": "1970-05-06"}
CLAIMING: Json = {**UNNAMED, "meta": {"profile": [f"{BASE}p"]}}
TOLD = {"Prefer": "return=OperationOutcome"}

POLICY = f"""
[write]
claimed = "warn"
unknown = "refuse"
[type.Observation]
contents = "refuse"
[type.Group]
recommended = ["{BASE}group"]
[type.Organization]
required = ["{BASE}absent"]
[client.feed]
base = "warn"
[client.feed.type.Patient]
required = ["{BASE}p"]
"""


@pytest.fixture(scope="module")
def server(make_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("policy") / "validation.toml"
    path.write_text(POLICY)
    found = make_server(validation_file=path)
    for definition in (
        profile("Patient", {"path": "name", "min": 1}),
        profile("Group", {"path": "name", "min": 1}, name="group"),
    ):
        assert found.client.put(f"StructureDefinition/{definition['id']}", json=definition).status_code == 201
    return found


@pytest.fixture
def client(server: Any) -> httpx.Client:
    found: httpx.Client = server.client
    return found


def issues(answer: httpx.Response) -> list[tuple[str, str, str]]:
    rows = [row for row in answer.json()["issue"] if "details" in row]
    return [(row["severity"], row["details"]["coding"][0]["code"], row["expression"][0]) for row in rows]


REQUIRED = ("HS-PROFILE-REQUIRED", "Patient.name")


def test_what_only_warns_is_told_to_who_asks_and_is_written(client: httpx.Client) -> None:
    answer = client.post("Patient", json=CLAIMING, headers=TOLD)
    assert answer.status_code == 201
    assert issues(answer) == [("warning", *REQUIRED)]
    assert issues(client.post("Patient", json=NAMED, headers=TOLD)) == []


def test_a_claim_that_nothing_is_known_of_is_refused_where_the_policy_says_so(client: httpx.Client) -> None:
    answer = client.post("Patient", json={**NAMED, "meta": {"profile": ["http://e.example/unknown"]}})
    assert answer.status_code == 422
    assert issues(answer) == [("error", "HS-PROFILE-UNKNOWN", "Patient.meta.profile[0]")]


def test_contents_refuse_where_the_policy_says_so_and_nowhere_else(client: httpx.Client) -> None:
    measure = {"value": 1, "system": "http://unitsofmeasure.org", "code": "mcg"}
    observed = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "valueQuantity": measure}
    answer = client.post("Observation", json=observed)
    assert answer.status_code == 422
    assert issues(answer) == [("error", "HS-CONTENT-UNIT", "Observation.value.code")]
    medication = {"resourceType": "Medication", "amount": {"numerator": measure, "denominator": {"value": 1}}}
    assert client.post("Medication", json=medication).status_code == 201


def test_a_recommended_profile_warns_and_a_demanded_one_that_is_not_held_refuses(client: httpx.Client) -> None:
    answer = client.post("Group", json={"resourceType": "Group", "type": "person", "actual": True}, headers=TOLD)
    assert answer.status_code == 201
    assert issues(answer) == [("warning", "HS-PROFILE-REQUIRED", "Group.name")]
    answer = client.post("Organization", json={"resourceType": "Organization", "name": "x"})
    assert answer.status_code == 422
    assert issues(answer) == [("error", "HS-PROFILE-DEMANDED", "Organization")]
    assert f"{BASE}absent" in answer.json()["issue"][0]["diagnostics"]


def test_every_way_of_writing_is_held_to_it(make_server: Callable[..., Any]) -> None:
    strict = make_server(claimed_profiles="refuse")
    client: httpx.Client = strict.client
    assert client.put("StructureDefinition/p", json=profile("Patient", {"path": "name", "min": 1})).status_code == 201
    kept = client.post("Patient", json={**NAMED, "meta": {"profile": [f"{BASE}p"]}}).json()["id"]
    patch = {"Content-Type": "application/json-patch+json"}
    entry = {"resource": CLAIMING, "request": {"method": "POST", "url": "Patient"}}

    def bundle(kind: str) -> Json:
        return {"resourceType": "Bundle", "type": kind, "entry": [entry]}

    refused = [
        client.post("Patient", json=CLAIMING),
        client.put(f"Patient/{kept}", json={**CLAIMING, "id": kept}),
        client.put("Patient/new", json={**CLAIMING, "id": "new"}),
        client.patch(f"Patient/{kept}", json=[{"op": "remove", "path": "/name"}], headers=patch),
        client.post("Patient", json=CLAIMING, headers={"If-None-Exist": "family=nobody"}),
        client.post("", json=bundle("transaction")),
    ]
    assert [answer.status_code for answer in refused] == [422] * 6
    for answer in refused:
        assert ("HS-PROFILE-REQUIRED") in answer.text
    (row,) = client.post("", json=bundle("batch")).json()["entry"]
    assert row["response"]["status"].startswith("422")
    assert client.get("Patient?_summary=count").json()["total"] == 1
    assert client.get(f"Patient/{kept}").json()["meta"]["versionId"] == "1"


def test_clients_have_demands_of_their_own(server: Any) -> None:
    feed = server.context.repository.speaking_for(Caller(Identity("feed", "feed", "system")))

    def write(resource: Json) -> Any:
        return server.run(feed.commit(Change("PUT", resource["resourceType"], "by-feed", resource)))

    with pytest.raises(UnprocessableError) as refused:
        write(UNNAMED)  # which claims nothing
    assert [(issue.key, issue.expression) for issue in refused.value.issues] == [REQUIRED]
    # What R4 itself says in invariants only warns this client; the structure is right in any case.
    outcome = write({**NAMED, "contact": [{"gender": "male"}]})
    assert [(w.severity, w.key) for w in outcome.warnings] == [("warning", "HS-VAL-INVARIANT")]
    assert server.client.put("Patient/x", json={**NAMED, "id": "x", "contact": [{"gender": "male"}]}).status_code == 400


def test_validate_tells_all_whatever_the_policy_lets_pass(client: httpx.Client) -> None:
    observed = {**CLAIMING, "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"}]}
    observed["extension"][0]["valueString"] = "London"
    answer = client.post("Patient/$validate", json=observed)
    found = {(severity, key) for severity, key, _ in issues(answer)}
    assert {("error", "HS-PROFILE-REQUIRED"), ("error", "HS-PROFILE-TYPE")} <= found


def test_what_must_be_supported_is_told_on_request(client: httpx.Client) -> None:
    definition = profile("Patient", {"path": "photo", "mustSupport": True}, name="supported")
    assert client.put("StructureDefinition/supported", json=definition).status_code == 201
    address = f"Patient/$validate?profile={BASE}supported"
    wanted = ("information", "HS-PROFILE-SUPPORT", "Patient.photo")
    assert wanted not in issues(client.post(address, json=NAMED))
    assert wanted in issues(client.post(f"{address}&mustSupport=true", json=NAMED))


def test_a_policy_that_cannot_be_read_stops_the_start_in_one_line(
    make_server: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "validation.toml"
    path.write_text("[type.Nothing]")
    with pytest.raises(SetupError, match=r"HEALTHSPHERE_VALIDATION_FILE: .*type\.Nothing"):
        make_server(validation_file=path)
