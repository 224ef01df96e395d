"""read, vread, create, update, delete: http://hl7.org/fhir/R4/http.html."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "birthDate": "1970-05-06"}


def created(client: httpx.Client, resource: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(resource["resourceType"], json=resource)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_a_created_resource_has_an_id_a_version_and_an_address(client: httpx.Client) -> None:
    answer = client.post(
        "Patient", json={**PATIENT, "id": "ignored", "meta": {"versionId": "77", "source": "http://a"}}
    )
    resource = answer.json()
    assert answer.status_code == 201
    assert resource["id"] != "ignored"
    assert resource["meta"]["versionId"] == "1"
    assert resource["meta"]["source"] == "http://a"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", resource["meta"]["lastUpdated"])
    assert answer.headers["Location"] == f"{client.base_url}Patient/{resource['id']}/_history/1"
    assert answer.headers["ETag"] == 'W/"1"'
    assert answer.headers["Last-Modified"].endswith("GMT")
    assert answer.headers["Content-Type"] == "application/fhir+json;charset=utf-8"
    assert client.get(f"Patient/{resource['id']}").json() == resource


def test_a_resource_of_another_type_than_the_address_is_refused(client: httpx.Client) -> None:
    answer = client.post("Observation", json=PATIENT)
    assert answer.status_code == 400
    assert "'Patient'" in answer.json()["issue"][0]["diagnostics"]


def test_an_invalid_resource_is_refused_with_all_its_faults(client: httpx.Client) -> None:
    answer = client.post("Patient", json={"resourceType": "Patient", "birthDate": "1970-02-30", "gendr": "male"})
    places = {issue["expression"][0] for issue in answer.json()["issue"]}
    assert answer.status_code == 400
    assert places == {"Patient.birthDate", "Patient.gendr"}


@pytest.mark.parametrize(
    ("prefer", "kind"),
    [("return=minimal", None), ("return=representation", "Patient"), ("return=OperationOutcome", "OperationOutcome")],
)
def test_the_answer_to_a_write_is_what_prefer_asks_for(client: httpx.Client, prefer: str, kind: str | None) -> None:
    answer = client.post("Patient", json=PATIENT, headers={"Prefer": prefer})
    assert answer.status_code == 201
    assert (answer.json()["resourceType"] if answer.content else None) == kind


def test_what_the_validation_lets_pass_is_told_to_who_asks(client: httpx.Client) -> None:
    odd = {"resourceType": "DeviceMetric", "type": {"text": "x"}, "category": "setting"}
    odd["parent"] = {"reference": "DeviceDefinition/1"}
    answer = client.post("DeviceMetric", json=odd, headers={"Prefer": "return=OperationOutcome"})
    assert answer.status_code == 201
    told = [(i["severity"], i.get("expression")) for i in answer.json()["issue"]]
    assert told == [("information", None), ("warning", ["DeviceMetric.parent.reference"])]


def test_an_update_makes_the_next_version_and_keeps_the_earlier_one(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    answer = client.put(f"Patient/{first['id']}", json={**first, "gender": "female"})
    assert answer.status_code == 200
    assert answer.json()["meta"]["versionId"] == "2"
    assert client.get(f"Patient/{first['id']}/_history/1").json() == first
    assert client.get(f"Patient/{first['id']}/_history/2").json() == answer.json()


def test_an_update_of_an_unknown_id_creates_it(client: httpx.Client) -> None:
    answer = client.put("Patient/chosen-by-the.client", json={**PATIENT, "id": "chosen-by-the.client"})
    assert answer.status_code == 201
    assert answer.headers["Location"].endswith("/Patient/chosen-by-the.client/_history/1")


@pytest.mark.parametrize("body", [PATIENT, {**PATIENT, "id": "other"}])
def test_an_update_whose_body_has_no_or_another_id_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.put("Patient/this-one", json=body)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["Patient.id"]
    assert client.get("Patient/this-one").status_code == 404


def test_an_id_that_is_none_is_refused(client: httpx.Client) -> None:
    assert client.put("Patient/a_b", json={**PATIENT, "id": "a_b"}).status_code == 400


def test_if_match_lets_only_the_first_of_two_writers_through(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    address = f"Patient/{first['id']}"
    assert client.put(address, json=first, headers={"If-Match": 'W/"1"'}).status_code == 200
    refused = client.put(address, json=first, headers={"If-Match": 'W/"1"'})
    assert refused.status_code == 412
    assert "current version is 2" in refused.json()["issue"][0]["diagnostics"]
    assert client.delete(address, headers={"If-Match": 'W/"1"'}).status_code == 412
    assert client.get(address).headers["ETag"] == 'W/"2"'


def test_if_none_match_creates_only_what_is_not_there(client: httpx.Client) -> None:
    body = {**PATIENT, "id": "only-once"}
    assert client.put("Patient/only-once", json=body, headers={"If-None-Match": "*"}).status_code == 201
    assert client.put("Patient/only-once", json=body, headers={"If-None-Match": "*"}).status_code == 412


def test_sixty_updates_at_once_without_if_match_all_take_effect(server: Any) -> None:
    first = created(server.client, PATIENT)
    address = f"{server.base_url}/Patient/{first['id']}"
    answers = server.gather(*(server.client.build_request("PUT", address, json=first) for _ in range(60)))
    assert {a.status_code for a in answers} == {200}
    assert server.client.get(f"Patient/{first['id']}").headers["ETag"] == 'W/"61"'


def test_an_if_match_that_is_no_etag_is_refused(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    assert client.put(f"Patient/{first['id']}", json=first, headers={"If-Match": "!!"}).status_code == 400


def test_a_deleted_resource_is_gone_and_its_history_stays(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    address = f"Patient/{first['id']}"
    assert client.delete(address).status_code == 204
    assert client.delete(address).status_code == 204
    gone = client.get(address)
    assert gone.status_code == 410
    assert gone.json()["issue"][0]["code"] == "deleted"
    assert client.get(f"{address}/_history/2").status_code == 410
    assert client.get(f"{address}/_history/1").json() == first
    history = client.get(f"{address}/_history").json()
    assert [e["request"]["method"] for e in history["entry"]] == ["DELETE", "POST"]
    assert client.get("Patient", params={"_id": first["id"]}).json()["total"] == 0


def test_a_deleted_resource_comes_back_by_an_update_with_the_next_version(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    client.delete(f"Patient/{first['id']}")
    answer = client.put(f"Patient/{first['id']}", json=first)
    assert answer.status_code == 201
    assert answer.headers["ETag"] == 'W/"3"'
    assert client.get(f"Patient/{first['id']}").status_code == 200


def test_deleting_what_never_was_changes_nothing(client: httpx.Client) -> None:
    assert client.delete("Patient/never-at-all").status_code == 204
    assert client.get("Patient/never-at-all").status_code == 404
    told = client.delete("Patient/never-at-all", headers={"Prefer": "return=OperationOutcome"})
    assert told.status_code == 200
    assert told.json()["issue"][0]["severity"] == "information"


def test_a_client_that_holds_the_version_is_told_304(client: httpx.Client) -> None:
    first = created(client, PATIENT)
    address = f"Patient/{first['id']}"
    answer = client.get(address)
    for header in ({"If-None-Match": answer.headers["ETag"]}, {"If-Modified-Since": answer.headers["Last-Modified"]}):
        again = client.get(address, headers=header)
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["ETag"] == answer.headers["ETag"]
    client.put(address, json=first)
    assert client.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("version", ["0", "2", "x", "99999999999999999999", "%D9%A1"])
def test_a_version_that_never_was_is_not_found(client: httpx.Client, version: str) -> None:
    first = created(client, PATIENT)
    assert client.get(f"Patient/{first['id']}/_history/{version}").status_code == 404


def test_concurrent_updates_without_if_match_all_take_effect_one_after_another(server: Any) -> None:
    client = server.client
    first = created(client, PATIENT)
    address = f"{server.base_url}/Patient/{first['id']}"
    answers = server.gather(
        *(client.build_request("PUT", address, json={**first, "multipleBirthInteger": n}) for n in range(10))
    )
    assert [a.status_code for a in answers] == [200] * 10
    history = client.get(f"Patient/{first['id']}/_history?_count=50").json()
    assert [e["resource"]["meta"]["versionId"] for e in history["entry"]] == [str(n) for n in range(11, 0, -1)]
    assert {e["resource"].get("multipleBirthInteger") for e in history["entry"]} == {None, *range(10)}


def test_of_concurrent_updates_with_one_if_match_exactly_one_wins(server: Any) -> None:
    client = server.client
    first = created(client, PATIENT)
    address = f"{server.base_url}/Patient/{first['id']}"
    answers = server.gather(
        *(client.build_request("PUT", address, json=first, headers={"If-Match": 'W/"1"'}) for _ in range(20))
    )
    statuses = sorted(a.status_code for a in answers)
    assert statuses.count(200) == 1
    assert set(statuses[1:]) <= {409, 412}
    assert client.get(f"Patient/{first['id']}").headers["ETag"] == 'W/"2"'


@pytest.mark.parametrize("number", ["1.10", "66.899999999999991", "1e3", "0.00000001", "-0.0", "100", "1.0E-10"])
def test_a_decimal_comes_back_digit_by_digit(client: httpx.Client, number: str) -> None:
    value = f'{{"value":{number},"unit":"kg"}}'
    body = f'{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"valueQuantity":{value}}}'
    answer = client.post("Observation", content=body, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 201, answer.text
    assert f'"value":{number},' in client.get(f"Observation/{answer.json()['id']}").text
