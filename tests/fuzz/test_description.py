"""The server as its description says: an OpenAPI document made from its CapabilityStatement, driven by schemathesis.

The requests are those that schemathesis thinks of, valid and invalid by the description; what is asked of the answers
is asked here.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

from fhir_server.interactions.capabilities import capability_statement
from fhir_server.interactions.operations import OPERATIONS
from fhir_server.interactions.table import TABLE
from profiles.registry import registry

pytestmark = pytest.mark.xdist_group("fuzz")
TYPES = ("Patient", "Observation")
EXAMPLES = 25

Json = dict[str, Any]


def parameter(place: str, name: str, schema: Json) -> Json:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


SCHEMAS: dict[str, Json] = {
    "token": {"type": "string"},
    "string": {"type": "string", "minLength": 1},
    "uri": {"type": "string", "format": "uri"},
    "reference": {"type": "string", "pattern": r"^[A-Za-z]{1,20}/[A-Za-z0-9\-.]{1,64}$"},
    "date": {"type": "string", "pattern": r"^(eq|ne|gt|lt|ge|le|sa|eb|ap)?[0-9]{4}(-[01][0-9](-[0-3][0-9])?)?$"},
    "number": {"type": "number"},
    "quantity": {"type": "string", "pattern": r"^(gt|le)?[0-9]{1,4}(\.[0-9]{1,3})?(\|\|[a-z]{1,3})?$"},
    "composite": {"type": "string", "pattern": r"^[a-z0-9]{1,5}\$[a-z0-9]{1,5}$"},
}
COUNT = parameter("query", "_count", {"type": "integer", "minimum": 0, "maximum": 100})
BODY = {
    "required": True,
    "content": {
        "application/fhir+json": {
            "schema": {
                "type": "object",
                "required": ["resourceType"],
                "properties": {
                    "resourceType": {"enum": list(TYPES)},
                    "id": {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"},
                    "birthDate": {"type": "string", "format": "date"},
                    "status": {"enum": ["final", "amended"]},
                    "code": {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}},
                    "active": {"type": "boolean"},
                },
            }
        }
    },
}
ID = parameter("path", "id", {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"})
VERSION = parameter("path", "vid", {"type": "string", "pattern": "^[1-9][0-9]{0,3}$"})
IF_MATCH = parameter("header", "If-Match", {"type": "string", "pattern": '^W/"[0-9]{1,4}"$'})
PREFER = parameter("header", "Prefer", {"enum": ["return=minimal", "return=representation", "handling=strict"]})


@cache
def description() -> Any:
    """What the CapabilityStatement says of a few types, as OpenAPI."""
    statement = capability_statement(registry(), TABLE, OPERATIONS, "http://test/fhir", "full")
    answers = {"default": {"description": "any"}}

    def operation(*parameters: Json, body: bool = False) -> Json:
        return {"parameters": [*parameters, PREFER], "responses": answers, **({"requestBody": BODY} if body else {})}

    paths: Json = {"/metadata": {"get": operation()}, "/_history": {"get": operation(COUNT)}}
    for row in statement["rest"][0]["resource"]:
        name, codes = row["type"], {interaction["code"] for interaction in row["interaction"]}
        if name not in TYPES:
            continue
        criteria = [
            parameter("query", p["name"], SCHEMAS[p["type"]]) for p in row["searchParam"] if p["type"] in SCHEMAS
        ]
        of_type, of_instance = paths.setdefault(f"/{name}", {}), paths.setdefault(f"/{name}/{{id}}", {})
        if "search-type" in codes:
            of_type["get"] = operation(*criteria, COUNT)
        if "create" in codes:
            of_type["post"] = operation(body=True)
        if "read" in codes:
            of_instance["get"] = operation(ID)
        if "update" in codes:
            of_instance["put"] = operation(ID, IF_MATCH, body=True)
        if "delete" in codes:
            of_instance["delete"] = operation(ID, IF_MATCH)
        if "vread" in codes:
            paths[f"/{name}/{{id}}/_history/{{vid}}"] = {"get": operation(ID, VERSION)}
        if "history-instance" in codes:
            paths[f"/{name}/{{id}}/_history"] = {"get": operation(ID, COUNT)}
    document = {"openapi": "3.0.3", "info": {"title": "FHIR", "version": "1"}, "paths": paths}
    return schemathesis.openapi.from_dict(document)


def operations() -> list[tuple[str, str]]:
    return [(path, method) for path in description() for method in description()[path]]


def test_the_statement_describes_every_interaction() -> None:
    assert len(operations()) == 2 + 7 * len(TYPES)


@pytest.mark.parametrize(("path", "method"), operations(), ids=str)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_a_described_interaction_is_answered(
    wire: Any, check: Any, path: str, method: str, mode: GenerationMode
) -> None:
    operation = description()[path][method]
    if mode is GenerationMode.NEGATIVE and not list(operation.iter_parameters()) and not operation.body:
        pytest.skip("nothing can be invalid in it")

    @settings(settings.get_profile("fuzz"), max_examples=EXAMPLES)
    @given(operation.as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        filled = case.path
        for name, value in (case.path_parameters or {}).items():
            filled = filled.replace(f"{{{name}}}", quote(str(value), safe=""))
        query = urlencode(dict(case.query or {}), doseq=True, errors="surrogatepass").encode()
        headers = {
            name.lower(): str(value).encode("latin-1", "replace") for name, value in (case.headers or {}).items()
        }
        body = b""
        if operation.body:
            body = case.body if isinstance(case.body, bytes) else written(case.body)
            headers["content-type"] = b"application/fhir+json"
        answer = wire(method.upper(), filled.lstrip("/").encode(), query, headers, body)
        check(answer)
        if answer.status < 300 and answer.body:
            assert json.loads(answer.body)["resourceType"]

    answered()


def written(value: Any) -> bytes:
    return b"" if type(value).__name__ == "NotSet" else json.dumps(value).encode()


def test_strategies_are_what_schemathesis_makes() -> None:
    assert isinstance(description()["/Patient"]["get"].as_strategy(), st.SearchStrategy)
