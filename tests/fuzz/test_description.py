"""The server as its own OpenAPI document describes it, driven by schemathesis.

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

from fhir_server.http.openapi import describe
from fhir_server.interactions.table import TABLE
from profiles.registry import registry
from resources.parts import OPERATIONS

pytestmark = pytest.mark.xdist_group("fuzz")
TYPES = ("Patient", "Observation")
EXAMPLES = 15
BASE = "http://test/fhir"
JSON = "application/fhir+json"
FORM = "application/x-www-form-urlencoded"

Json = dict[str, Any]

#: Resources and data types refer to each other without end; these are as deep as bodies get here.
BODY = {
    "type": "object",
    "required": ["resourceType"],
    "properties": {
        "resourceType": {"enum": [*TYPES, "Bundle", "Parameters"]},
        "id": {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"},
        "type": {"enum": ["batch", "transaction"]},
        "entry": {"type": "array", "items": {"type": "object"}, "maxItems": 2},
        "parameter": {
            "type": "array",
            "maxItems": 2,
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "valueString": {"type": "string"}}},
        },
        "birthDate": {"type": "string", "format": "date"},
        "status": {"enum": ["final", "amended"]},
        "code": {"type": "object", "properties": {"text": {"type": "string", "minLength": 1}}},
        "active": {"type": "boolean"},
    },
}


@cache
def description() -> Any:
    """What the server's own OpenAPI document says of a few types, and of the system."""
    document = json.loads(json.dumps(describe(registry(), TABLE, OPERATIONS, BASE, needs_token=False, types=TYPES)))
    components = document["components"]
    components["requestBodies"] = {
        name: {"required": True, "content": {"application/fhir+json": {"schema": BODY}}}
        if name != "Search"
        else {"content": {FORM: body["content"][FORM]}}
        for name, body in components["requestBodies"].items()
    }
    for item in document["paths"].values():
        for call in item.values():
            if isinstance(call, dict) and "content" in call.get("requestBody", {}):
                call["requestBody"] = components["requestBodies"]["Resource"]
    return schemathesis.openapi.from_dict(document)


def operations() -> list[tuple[str, str]]:
    """Paths and methods, but for GraphQL, whose errors have a form of their own (`tests/graphql`)."""
    return [
        (path, method)
        for path in description()
        for method in description()[path]
        if method != "parameters" and not path.endswith("$graphql")
    ]


def test_the_document_describes_every_interaction_and_operation() -> None:
    described = [one for one in OPERATIONS if not one.types or set(one.types) & set(TYPES)]
    assert len(operations()) > len(TABLE) + len(described)


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
            body = case.body if isinstance(case.body, bytes) else written(case.body, case.media_type)
            headers["content-type"] = (case.media_type or JSON).encode()
        answer = wire(method.upper(), filled.lstrip("/").encode(), query, headers, body)
        check(answer)
        if answer.status < 300 and answer.headers.get("content-type", "").startswith(JSON):
            assert json.loads(answer.body)["resourceType"]

    answered()


def written(value: Any, media_type: str | None) -> bytes:
    if type(value).__name__ == "NotSet":
        return b""
    if media_type == FORM and isinstance(value, dict):
        return urlencode(value, doseq=True, errors="surrogatepass").encode()
    return json.dumps(value).encode()


def test_strategies_are_what_schemathesis_makes() -> None:
    assert isinstance(description()["/Patient"]["get"].as_strategy(), st.SearchStrategy)
