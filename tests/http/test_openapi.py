"""The OpenAPI document says what the server does, no more and no less, in the form that OpenAPI asks for.

Spec: https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import schemathesis
from openapi_spec_validator import OpenAPIV31SpecValidator

from fhir_server.http.openapi import describe
from fhir_server.http.openapi.interactions import KINDS
from fhir_server.http.openapi.operations import methods_of
from fhir_server.interactions.capabilities import capability_statement
from fhir_server.interactions.table import TABLE, operation_at, shape_of
from profiles.registry import registry
from resources.parts import OPERATIONS
from tests.minimal_resources import minimal
from tests.official_examples import DEFINITIONAL

Json = dict[str, Any]
BASE = "http://test/fhir"
METHODS = ("get", "post", "put", "patch", "delete")


@cache
def document() -> Json:
    made = describe(registry(), TABLE, OPERATIONS, BASE, needs_token=False)
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def described() -> Iterator[tuple[str, str, Json]]:
    """Method, path and operation object of each call."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def resolved(value: Json) -> Json:
    while "$ref" in value:
        parts = value["$ref"].removeprefix("#/").split("/")
        value = document()
        for part in parts:
            value = value[part]
    return value


# --- what it says -----------------------------------------------------------------------------------------------------


def test_it_is_a_valid_openapi_document() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document()).iter_errors()] == []


def test_every_schema_in_it_is_json_schema() -> None:
    for schema in document()["components"]["schemas"].values():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def test_another_tool_reads_it() -> None:
    read = schemathesis.openapi.from_dict(document())
    assert read["/Patient"]["get"].definition.raw["operationId"] == "Patient-search-type"


def test_every_reference_in_it_leads_somewhere() -> None:
    targets = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document())))
    assert len(targets) > 2000
    for target in targets:
        assert resolved({"$ref": f"#/{target}"}), target


def test_every_call_has_a_name_of_its_own_and_a_summary() -> None:
    names = [call["operationId"] for _, _, call in described()]
    assert len(set(names)) == len(names)
    for _, path, call in described():
        assert call["summary"].strip(), path
        assert "{type}" not in call["summary"]


def test_every_interaction_is_described_for_every_type_and_every_operation_where_it_is() -> None:
    expected: set[tuple[str, str]] = set()
    for row in TABLE:
        if not row.shape.startswith("{type}"):
            expected.add((row.method, f"/{row.shape}"))
            continue
        types = registry().compartments if row.handle.__name__ == "search_compartment" else registry().resource_types
        expected |= {(row.method, f"/{row.shape.replace('{type}', name)}") for name in types}
    for operation in OPERATIONS:
        for name in operation.types or ("{type}",):
            there = {
                "": operation.system,
                f"/{name}": operation.type,
                f"/{name}/{{id}}": operation.instance,
            }
            expected |= {
                (method, f"{place}/${operation.code}")
                for place, is_there in there.items()
                if is_there
                for method in methods_of(operation)
            }
    assert {(method, path) for method, path, _ in described()} == expected


def test_every_call_that_is_described_is_one_that_the_server_routes() -> None:
    rows = {(row.method, row.shape) for row in TABLE}
    samples = {"{type}": "Patient", "{id}": "1", "{vid}": "1", "{member}": "Observation"}
    for method, path, _ in described():
        parts = tuple(samples.get(part, part) for part in path.strip("/").split("/") if part)
        operation = operation_at(parts, OPERATIONS)
        if operation is not None:
            assert method in operation.methods, (method, path)
        else:
            assert (method, shape_of(parts)) in rows, (method, path)


def test_every_kind_of_interaction_is_told_in_words_of_its_own() -> None:
    assert {row.handle.__name__ for row in TABLE} == KINDS.keys()


def test_the_search_parameters_are_those_of_the_capability_statement() -> None:
    statement = capability_statement(registry(), TABLE, OPERATIONS, BASE, "full")
    rows = {row["type"]: row for row in statement["rest"][0]["resource"]}
    for name, row in rows.items():
        parameters = [resolved(p) for p in document()["paths"][f"/{name}"]["get"]["parameters"]]
        told = {
            p["name"]: p["schema"]["$ref"].rpartition(".")[2]
            for p in parameters
            if p["schema"].get("$ref", "").startswith("#/components/schemas/criterion.")
        }
        assert told == {p["name"]: p["type"] for p in row["searchParam"]}


VALUES = {
    "date": ["ge2020", "2020-02-29", "lt2020-01-01T10:00:00.5+01:00,gt2021"],
    "number": ["5.4", "ge-1e3", "lt7,gt9"],
    "quantity": ["5.4", "gt5.4|http://unitsofmeasure.org|mg", "5.4||mg,6||g"],
    "composite": ["8480-6$gt120", "a$b,c$d"],
    "token": ["a|b", "|b", "a,b"],
    "reference": ["Patient/1", "http://x/Patient/1"],
    "string": ["müller", "a b"],
    "uri": ["http://x/y", "urn:oid:1.2"],
    "special": ["48.1|11.5|5|km"],
}
NO_VALUES = {
    "date": ["yesterday", "2020-", "xx2020", ""],
    "number": ["five", "5,", "=5"],
    "quantity": ["mg", "5.4|mg"],
    "composite": ["a", "$b"],
    "token": ["", "\0"],
}


def test_the_patterns_of_criteria_let_values_pass_and_nothing_else() -> None:
    for kind, values in VALUES.items():
        pattern = document()["components"]["schemas"][f"criterion.{kind}"]["items"]["pattern"]
        assert [v for v in values if not re.search(pattern, v)] == [], kind
        assert [v for v in NO_VALUES.get(kind, []) if re.search(pattern, v)] == [], kind


# --- the forms of resources -------------------------------------------------------------------------------------------


@cache
def form_of(resource_type: str) -> jsonschema_rs.Validator:
    schema = {"$ref": f"#/components/schemas/{resource_type}", "components": document()["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


@pytest.mark.parametrize("resource_type", registry().resource_types)
def test_the_smallest_resource_has_the_form_that_is_described(resource_type: str) -> None:
    resource = minimal(resource_type)
    assert [error.message for error in form_of(resource_type).iter_errors(resource)] == []
    assert not form_of(resource_type).is_valid({**resource, "resourceType": "Nothing"})
    assert not form_of(resource_type).is_valid({**resource, "meta": "text"})


def test_the_examples_of_the_specification_have_the_forms_that_are_described(test_data: Path) -> None:
    count = 0
    for path in sorted((test_data / "r4-examples").glob("*.json")):
        resource = json.loads(path.read_bytes())
        name = resource.get("resourceType", "")
        if name in DEFINITIONAL or not registry().is_resource_type(name) or path.stat().st_size > 40_000:
            continue
        # A null stands for a primitive that has extensions alone; JSON Schema has no word for that.
        if "null" in path.read_text("utf-8"):
            continue
        assert [(path.name, e.message) for e in form_of(name).iter_errors(resource)][:1] == []
        count += 1
    assert count > 500


# --- how it is sent ---------------------------------------------------------------------------------------------------


def root_of(server: Any) -> str:
    return str(server.base_url).removesuffix("/fhir")


def test_it_is_sent_packed_and_once_while_it_stays_the_same(server: Any) -> None:
    address = f"{root_of(server)}/openapi.json"
    plain = server.client.get(address, headers={"Accept-Encoding": "identity"})
    assert plain.headers["Content-Type"] == "application/json"
    assert plain.json()["openapi"].startswith("3.1.")
    assert plain.json()["servers"] == [{"url": server.base_url}]
    request = server.client.build_request("GET", address, headers={"Accept-Encoding": "gzip"})
    packed = server.client.send(request, stream=True)
    body = b"".join(packed.iter_raw())
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain.content
    assert len(body) < 200_000
    held = server.client.get(address, headers={"If-None-Match": plain.headers["ETag"]})
    assert (held.status_code, held.content) == (304, b"")
    assert server.client.head(address).status_code == 200


def test_a_search_parameter_of_ones_own_is_in_it_once_it_is_in_force(make_server: Any) -> None:
    server = make_server()
    address = f"{root_of(server)}/openapi.json"
    before = server.client.get(address)
    own = {
        **minimal("SearchParameter"),
        "id": "own",
        "url": "http://example.org/SearchParameter/own",
        "status": "active",
        "code": "own-birth",
        "base": ["Patient"],
        "type": "date",
        "expression": "Patient.birthDate",
    }
    assert server.client.put("SearchParameter/own", json=own).status_code == 201
    after = server.client.get(address, headers={"If-None-Match": before.headers["ETag"]})
    assert after.status_code == 200
    added = after.json()["components"]["parameters"].keys() - before.json()["components"]["parameters"].keys()
    (key,) = added
    assert {"$ref": f"#/components/parameters/{key}"} in after.json()["paths"]["/Patient"]["get"]["parameters"]


@pytest.fixture(scope="module")
def closed(make_server: Any) -> Any:
    """A server with access control."""
    return make_server(auth="on")


@pytest.mark.parametrize("path", ["openapi.json", "docs", "docs/page.js", "docs/page.css", ""])
def test_descriptions_are_open_to_everybody_and_tell_that_the_rest_is_not(closed: Any, path: str) -> None:
    answer = httpx.Client(transport=closed.client._transport).get(f"{root_of(closed)}/{path}")
    assert answer.status_code == 200
    if path == "openapi.json":
        assert answer.json()["security"] == [{"token": []}]
        assert answer.json()["paths"]["/metadata"]["get"]["security"] == []
    assert closed.client.get("Patient").status_code == 401
