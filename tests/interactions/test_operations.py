"""Operations: how they are found, `$validate`, `$meta` and `$versions`."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "birthDate": "1970-05-06"}


def parameters(**given: Any) -> dict[str, Any]:
    rows = []
    for name, value in given.items():
        kind = "resource" if isinstance(value, dict) and "resourceType" in value else None
        kind = kind or ("valueMeta" if isinstance(value, dict) else "valueCode")
        rows.append({"name": name, kind: value})
    return {"resourceType": "Parameters", "parameter": rows}


def severities(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [issue["severity"] for issue in answer.json()["issue"]]


def test_validate_tells_what_a_write_would_say_and_stores_nothing(client: httpx.Client) -> None:
    before = client.get("Patient?_summary=count").json()["total"]
    assert severities(client.post("Patient/$validate", json=PATIENT)) == ["information", "warning"]
    faulty = {**PATIENT, "birthDate": "1970-02-30", "gendr": "male"}
    assert severities(client.post("Patient/$validate", json=faulty)) == ["error", "error", "warning"]
    answer = client.post("Patient/$validate", json=parameters(resource=faulty, mode="create"))
    assert severities(answer) == ["error", "error", "warning"]
    assert client.get("Patient?_summary=count").json()["total"] == before


def test_advice_is_given_by_validate_and_not_by_a_write(client: httpx.Client) -> None:
    (_, advice) = client.post("Patient/$validate", json=PATIENT).json()["issue"]
    assert advice["details"]["coding"][1] == {
        "system": "http://hl7.org/fhir/StructureDefinition/DomainResource",
        "code": "dom-6",
    }
    answer = client.post("Patient", json=PATIENT, headers={"Prefer": "return=OperationOutcome"})
    assert [issue["severity"] for issue in answer.json()["issue"]] == ["information"]


def test_a_write_that_breaks_an_invariant_is_refused_with_its_key(client: httpx.Client) -> None:
    answer = client.post("Patient", json={**PATIENT, "contact": [{"gender": "male"}]})
    assert answer.status_code == 400
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "invariant"
    assert issue["expression"] == ["Patient.contact[0]"]
    assert [coding["code"] for coding in issue["details"]["coding"]] == ["HS-VAL-INVARIANT", "pat-1"]


def test_validate_of_a_stored_resource(client: httpx.Client) -> None:
    made = client.post("Patient", json=PATIENT).json()
    address = f"Patient/{made['id']}/$validate"
    assert severities(client.get(address)) == ["information", "warning"]
    assert severities(client.get(f"{address}?mode=delete")) == ["information"]
    other = parameters(resource={**PATIENT, "id": "other"}, mode="update")
    assert client.post(address, json=other).json()["issue"][0]["expression"] == ["Patient.id"]
    assert client.get("Patient/never-was/$validate?mode=delete").status_code == 404


def test_the_mode_profile_judges_by_the_profile_that_is_named(client: httpx.Client) -> None:
    own = "http://hl7.org/fhir/StructureDefinition/Patient"
    faulty = {**PATIENT, "gendr": "male"}
    for resource, is_faulty in ((PATIENT, False), (faulty, True)):
        body = parameters(resource=resource, mode="profile", profile=own)
        assert ("error" in severities(client.post("Patient/$validate", json=body))) == is_faulty
    unknown = parameters(resource=PATIENT, mode="profile", profile="http://example.org/StructureDefinition/none")
    answer = client.post("Patient/$validate", json=unknown)
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-OP-PROFILE"


@pytest.mark.parametrize(
    "body", [parameters(mode="nonsense", resource=PATIENT), parameters(), {"resourceType": "Observation"}, {"x": 1}]
)
def test_a_call_that_cannot_be_understood_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.post("Patient/$validate", json=body)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["diagnostics"]


def test_labels_are_added_once_and_removed_each_with_a_version(client: httpx.Client) -> None:
    made = client.post("Patient", json=PATIENT).json()
    address = f"Patient/{made['id']}"
    tag = {"system": "http://t.example", "code": "x"}
    for _ in range(2):
        answer = client.post(f"{address}/$meta-add", json=parameters(meta={"tag": [tag], "profile": ["http://p"]}))
        assert answer.json()["parameter"][0]["valueMeta"]["tag"] == [tag]
    assert client.get(address).headers["ETag"] == 'W/"2"'
    assert client.get(f"Patient?_tag=http://t.example|x&_id={made['id']}").json()["total"] == 1
    client.post(f"{address}/$meta-delete", json=parameters(meta={"tag": [{**tag, "display": "other"}]}))
    (row,) = client.get(f"{address}/$meta").json()["parameter"]
    assert row["valueMeta"]["profile"] == ["http://p"]
    assert "tag" not in row["valueMeta"]
    assert client.post(f"{address}/$meta-add", json=parameters(meta={"versionId": "9"})).status_code == 400


def test_versions_tells_r4(client: httpx.Client) -> None:
    assert client.get("$versions").json()["parameter"][0] == {"name": "version", "valueCode": "4.0"}


def test_an_operation_that_changes_something_is_no_get(client: httpx.Client) -> None:
    answer = client.get("Patient/1/$meta-add")
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    "path", ["$nonsense", "Patient/$versions", "$validate", "Patient/1/2/$validate", "X/$validate"]
)
def test_an_operation_is_found_only_where_it_is(client: httpx.Client, path: str) -> None:
    assert client.post(path, json=PATIENT).status_code == 404


def test_the_capability_statement_lists_the_operations(client: httpx.Client) -> None:
    (rest,) = client.get("metadata").json()["rest"]
    assert {"name": "versions"}.items() <= rest["operation"][0].items()
    assert "validate" in {o["name"] for o in rest["resource"][0]["operation"]}
