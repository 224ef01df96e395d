"""Patches that cannot be carried out: https://hl7.org/fhir/R4/http.html#patch."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.interactions.patches import (
    FHIR_JSON,
    JSON_PATCH,
    XML_PATCH,
    created,
    diagnostics,
    json_patch,
    operation,
    parameters,
)


def test_nothing_is_there_to_be_patched(client: httpx.Client) -> None:
    address = created(client)
    assert client.delete(address).status_code == 204
    for gone, status in ((address, 410), ("Patient/never-was", 404), ("Patient/bad_id!", 400), ("Nonsense/1", 404)):
        answer = json_patch(client, gone, {"op": "remove", "path": "/active"})
        assert answer.status_code == status
        assert answer.json()["resourceType"] == "OperationOutcome"


@pytest.mark.parametrize(
    ("operations", "status", "words"),
    [
        ([{"op": "test", "path": "/active", "value": False}], 422, "Operation 0 (test '/active'): found true"),
        ([{"op": "remove", "path": "/active"}, {"op": "remove", "path": "/nothing"}], 422, "Operation 1"),
        ([{"op": "replace", "path": "/id", "value": "other"}], 422, "id"),
        ([{"op": "remove", "path": "/id"}], 422, "id"),
        ([{"op": "replace", "path": "/resourceType", "value": "Person"}], 422, "'Person'"),
        ([{"op": "replace", "path": "", "value": 7}], 422, "resourceType"),
        ([{"op": "replace", "path": "/active", "value": "yes"}], 400, "'yes'"),
        ([{"op": "add", "path": "/birthDate", "value": "1980-02-30"}], 400, "1980-02-30"),
        ([{"op": "frob", "path": "/active"}], 400, "'frob'"),
        ([{"op": "add", "path": "active", "value": 1}], 400, "begins with /"),
        ([{"op": "add", "path": "/a~2", "value": 1}], 400, "after ~"),
        ([{"op": "add", "path": "/active"}], 400, "no `value`"),
        ([7], 400, "Operation 0"),
        ({"op": "add"}, 400, "array"),
        ([{"op": "test", "path": "/active", "value": True}] * 1001, 413, "1,001"),
        ([{"op": "copy", "from": "", "path": "/contact"}] * 110, 422, "levels"),
        (
            [{"op": "add", "path": "/x", "value": [1]}, *[{"op": "copy", "from": "/x", "path": "/x/-"}] * 40],
            422,
            "values",
        ),
    ],
)
def test_a_json_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, operations: Any, status: int, words: str
) -> None:
    address = created(client)
    answer = client.patch(address, content=json.dumps(operations), headers=JSON_PATCH)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (operation("delete", "Patient.nam"), 400, "'nam'"),
        (operation("delete", "Patient..active"), 400, "position"),
        (operation("delete", "Patient.name"), 422, "2 elements"),
        (operation("delete", "Patient"), 422, "whole resource"),
        (operation("delete", "Patient.name.count()"), 422, "computed"),
        (operation("replace", "Patient.gender", value=("valueCode", "male")), 422, "nothing"),
        (operation("replace", "Patient.active", value=("valueString", "yes")), 422, "boolean"),
        (operation("replace", "Patient.name[0]", value=("valuePeriod", {"start": "2020"})), 422, "HumanName"),
        (operation("replace", "Patient.id", value=("valueId", "other")), 422, "id"),
        (operation("add", "Patient", name=("valueString", "active"), value=("valueBoolean", False)), 422, "active"),
        (operation("add", "Patient", name=("valueString", "x"), value=("valueBoolean", False)), 422, "'x'"),
        (operation("insert", "Patient.name", index=("valueInteger", 3), value=("valueHumanName", {})), 422, "index 3"),
        (operation("insert", "Patient.active", index=("valueInteger", 0), value=("valueBoolean", True)), 422, "list"),
        (operation("move", "Patient.name", source=("valueInteger", 0), destination=("valueInteger", 2)), 422, "2"),
        (operation("move", "Patient.name", source=("valueInteger", 0)), 400, "destination"),
        (operation("move", "Patient.name", source=("valueInteger", -1), destination=("valueInteger", 0)), 400, "-1"),
        (operation("frob", "Patient.name"), 400, "'frob'"),
        ({"name": "operation"}, 400, "no parts"),
        ({"name": "other"}, 400, "operation"),
    ],
)
def test_a_fhirpath_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, change: dict[str, Any], status: int, words: str
) -> None:
    address = created(client, name=[{"family": "a"}, {"family": "b"}])
    answer = client.patch(address, json=parameters(change), headers=FHIR_JSON)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("<diff/>", 400, "no operation"),
        ("<diff><", 400, "XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><diff><remove sel="f:Patient/f:active"/></diff>', 400, "document type"),
        ("<diff><frob sel='f:Patient'/></diff>", 400, "'frob'"),
        ("<diff><remove/></diff>", 400, "sel"),
        ("<diff><remove sel='f:Patient/'/></diff>", 400, "name"),
        ("<diff><remove sel='f:Patient//f:active'/></diff>", 400, "name"),
        ("<diff><remove sel='count(f:Patient)'/></diff>", 400, "not expected"),
        ("<diff><remove sel='g:Patient'/></diff>", 400, "'g'"),
        ("<diff><remove sel='f:Patient'/></diff>", 422, "root"),
        ("<diff><remove sel='f:Patient/f:name'/></diff>", 422, "2 nodes"),
        ("<diff><remove sel='f:Patient/f:gender'/></diff>", 422, "nothing"),
        ("<diff><replace sel='f:Patient'><Person xmlns='http://hl7.org/fhir'/></replace></diff>", 422, "'Person'"),
        ("<diff><replace sel='f:Patient/f:id/@value'>x</replace></diff>", 422, "id"),
        ("<diff><replace sel='f:Patient/f:active/@value'>maybe</replace></diff>", 400, "maybe"),
    ],
)
def test_an_xml_patch_that_cannot_be_carried_out_changes_nothing(
    client: httpx.Client, body: str, status: int, words: str
) -> None:
    address = created(client, name=[{"family": "a"}, {"family": "b"}])
    answer = client.patch(address, content=body, headers=XML_PATCH)
    assert answer.status_code == status, answer.text
    assert words in diagnostics(answer)
    assert client.get(address).headers["ETag"] == 'W/"1"'


def test_a_body_that_is_no_patch_is_told_what_one_is(client: httpx.Client) -> None:
    address = created(client)
    odd = client.patch(address, content="x", headers={"Content-Type": "text/turtle"})
    assert odd.status_code == 415
    assert "application/json-patch+json" in odd.headers["Accept-Patch"]
    resource = client.patch(address, json={"resourceType": "Patient"}, headers=FHIR_JSON)
    assert (resource.status_code, "Parameters" in diagnostics(resource)) == (400, True)
    array = client.patch(address, json=[], headers={"Content-Type": "application/json"})
    assert (array.status_code, "application/json-patch+json" in diagnostics(array)) == (400, True)
    assert client.patch(address, content=b"", headers=JSON_PATCH).status_code == 400
