"""`$convert`: a resource comes back as it was sent, in the format that is asked for."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PATIENT = {"resourceType": "Patient", "id": "x", "meta": {"versionId": "7"}, "birthDate": "1970-05-06"}


@pytest.mark.parametrize(
    "body",
    [PATIENT, {"resourceType": "Parameters", "parameter": [{"name": "input", "resource": PATIENT}]}],
    ids=["bare", "parameter"],
)
def test_a_resource_comes_back_unchanged(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.post("$convert", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json() == PATIENT
    assert client.get("Patient/x").status_code == 404


def test_digits_are_kept(client: httpx.Client) -> None:
    body = b'{"resourceType":"Observation","status":"final","code":{"text":"x"},"valueQuantity":{"value":1.10}}'
    assert client.post("$convert", content=body).content == body


def test_parameters_can_be_what_is_converted(client: httpx.Client) -> None:
    body = {"resourceType": "Parameters", "parameter": [{"name": "a", "valueString": "b"}]}
    assert client.post("$convert", json=body).json() == body


def test_json_becomes_xml_and_back(client: httpx.Client) -> None:
    xml = client.post("$convert", json=PATIENT, headers={"Accept": "application/fhir+xml"})
    assert xml.headers["Content-Type"].startswith("application/fhir+xml")
    assert b'<birthDate value="1970-05-06"/>' in xml.content
    back = client.post("$convert", content=xml.content, headers={"Content-Type": "application/fhir+xml"})
    assert back.json() == PATIENT


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"resourceType": "Nonsense"},
        {"resourceType": "Patient", "birthDate": "x"},
        {"resourceType": "Patient", "x": 1},
    ],
)
def test_what_is_no_valid_resource_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    assert client.post("$convert", json=body).status_code == 400


def test_without_a_resource_there_is_nothing_to_convert(client: httpx.Client) -> None:
    assert client.post("$convert", content=b"").status_code == 400
    assert client.get("$convert").status_code == 400
