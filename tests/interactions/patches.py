"""Patches in each format, and Patients to be patched."""

from __future__ import annotations

import json
import uuid
from base64 import b64encode
from typing import Any

import httpx

JSON_PATCH = {"Content-Type": "application/json-patch+json"}
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
XML_PATCH = {"Content-Type": "application/xml-patch+xml"}
FHIR_JSON = {"Content-Type": "application/fhir+json"}


def created(client: httpx.Client, **more: Any) -> str:
    """The address of a new Patient."""
    answer = client.post("Patient", json={"resourceType": "Patient", "active": True, **more})
    assert answer.status_code == 201, answer.text
    return f"Patient/{answer.json()['id']}"


def identified() -> tuple[str, dict[str, Any]]:
    """Criteria, and the member of a Patient that they select."""
    value = str(uuid.uuid4())
    return f"identifier=http://t.example|{value}", {"identifier": [{"system": "http://t.example", "value": value}]}


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    """An operation of a FHIRPath Patch; a part is given as `(name of its value[x], value)`."""
    rows = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    rows += [{"name": name, member: value} for name, (member, value) in parts.items()]
    return {"name": "operation", "part": rows}


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(operations)}


def set_gender(code: str) -> dict[str, Any]:
    return parameters(operation("add", "Patient", name=("valueString", "gender"), value=("valueCode", code)))


def json_patch(client: httpx.Client, url: str, *operations: dict[str, Any], **headers: str) -> httpx.Response:
    return client.patch(url, content=json.dumps(operations), headers={**JSON_PATCH, **headers})


def binary(content_type: str, data: str) -> dict[str, Any]:
    return {"resourceType": "Binary", "contentType": content_type, "data": b64encode(data.encode()).decode()}


def entry(url: str, resource: dict[str, Any], method: str = "PATCH", **more: str) -> dict[str, Any]:
    row: dict[str, Any] = {"resource": resource, "request": {"method": method, "url": url}}
    if "fullUrl" in more:
        row["fullUrl"] = more.pop("fullUrl")
    row["request"] |= more
    return row


def bundle(kind: str, *entries: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def diagnostics(answer: httpx.Response) -> str:
    return str(answer.json()["issue"][0]["diagnostics"])
