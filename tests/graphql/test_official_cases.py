"""The GraphQL cases of FHIR R4, from the archive of official test cases.

Spec: http://hl7.org/fhir/R4/graphql.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from fhir_server.model import codec

NAMES = [
    "simple",
    "filter-fhirpath",
    "using wrong field",
    "polymorphic",
    "reference",
    "reference-type-in",
    "reference-type-out",
    "reference-broken",
    "reference-optional",
    "reference-fragment-type",
    "extension-complex",
    "extension-complex-in",
    "extension-complex-out",
    "extension-simple",
    "search-single",
    "search-simple",
    "search-full",
    "reference-reverse",
    "directive-skip",
    "directive-include",
    "directive-variable",
    "flatten",
    "flatten-first",
    "flatten-singleton1",
    "flatten-singleton2",
    "flatten-singleton3",
    "flatten-slice1",
    "flatten-slice2",
    "list-sub",
]

#: What the cases ask about: type and id as their manifest names them, and the file.
HELD = {
    "Patient/example": "r4-examples/Patient-example.json",
    "Patient/glossy": "r4-examples/Patient-glossy.json",
    "Observation/example": "r4-examples/Observation-example.json",
    "Observation/20minute-apgar-score": "fhir-test-cases-r4/observation-example-20minute-apgar-score.xml",
    "Condition/example": "r4-examples/Condition-example.json",
    "MedicationDispense/meddisp008": "r4-examples/MedicationDispense-meddisp008.json",
    "List/example-long": "r4-examples/List-long.json",
}
#: The cases that search know two patients only.
SEARCHED = {"Patient/example": HELD["Patient/example"], "Patient/xds": "fhir-test-cases-r4/patient-example-xds.xml"}


def filled(client: httpx.Client, held: dict[str, str], folder: Path) -> httpx.Client:
    for address, name in held.items():
        body = (folder / name).read_bytes()
        kind = "xml"
        body = re.sub(rb'<id value="[^"]*"', f'<id value="{address.partition("/")[2]}"'.encode(), body, count=1)
        if name.endswith(".json"):
            kind = "json"
            body = codec.encode({**codec.decode(body), "id": address.partition("/")[2]})
        answer = client.put(address, content=body, headers={"Content-Type": f"application/fhir+{kind}"})
        assert answer.status_code == 201, answer.text
    return client


@pytest.fixture(scope="module")
def resources(make_server: Callable[..., Any], test_data: Path) -> httpx.Client:
    return filled(make_server().client, HELD, test_data)


@pytest.fixture(scope="module")
def two_patients(make_server: Callable[..., Any], test_data: Path) -> httpx.Client:
    return filled(make_server().client, SEARCHED, test_data)


@pytest.mark.parametrize("name", NAMES)
def test_the_official_case_gives_its_answer(
    resources: httpx.Client, two_patients: httpx.Client, test_data: Path, name: str
) -> None:
    client = two_patients if name.startswith("search") else resources
    folder = test_data / "fhir-test-cases-r4" / "graphql"
    manifest = ElementTree.parse(folder / "manifest.xml").getroot()
    case = next(test for test in manifest if test.get("name") == name)
    query = (folder / case.get("source", "")).read_text("utf-8")
    body = {"query": query, "operationName": case.get("operation")}
    if name == "directive-variable":
        body["variables"] = {"var": True}
    answer = client.post(case.get("context") or "$graphql", json=body)
    if case.get("output") == "$error":
        assert answer.json()["errors"][0]["extensions"]["resource"]["resourceType"] == "OperationOutcome"
        return
    assert answer.status_code == 200, answer.text
    found = json.loads(answer.content, parse_float=Decimal)
    assert "errors" not in found
    expected = json.loads((folder / case.get("output", "")).read_bytes(), parse_float=Decimal)
    if name == "search-full":
        # The cursor is the server's own, and the case's numbers are those of a server with fifty patients.
        connection, told = found["data"]["PatientConnection"], expected["PatientConnection"]
        assert connection.keys() <= told.keys() | {"count"}
        assert [e["resource"] for e in connection["edges"]] == [e["resource"] for e in told["edges"]]
        assert (connection["count"], connection["offset"], connection["pagesize"]) == (2, 0, 50)
        return
    assert found["data"] == expected


def test_every_case_of_the_archive_is_among_these(test_data: Path) -> None:
    manifest = ElementTree.parse(test_data / "fhir-test-cases-r4" / "graphql" / "manifest.xml").getroot()
    assert [test.get("name") for test in manifest] == NAMES
