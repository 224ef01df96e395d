"""Bodies and answers: what is sent and received, and in which formats.

Spec: https://spec.openapis.org/oas/v3.1.1.html#response-object, https://hl7.org/fhir/R4/http.html#mime-type
"""

from __future__ import annotations

from typing import Any

from fhir_server.http.negotiate import FHIR_JSON, FHIR_NDJSON, FHIR_XML, FORM
from fhir_server.http.openapi.schemas import ANY, reference_to
from fhir_server.patching.formats import JSON_PATCH, MERGE_PATCH, PATCH_FORMATS, XML_PATCH
from profiles.registry import Registry

Json = dict[str, Any]

#: What is said of the version that an answer is about.
_HEADERS: dict[str, str] = {
    "ETag": 'The version: `W/"1"`.',
    "Last-Modified": "When the version was made.",
    "Location": "Where the version is, after a write.",
    "Content-Location": "Where a job tells how far it is.",
}
_ABOUT_VERSION = {name: {"$ref": f"#/components/headers/{name}"} for name in ("ETag", "Last-Modified", "Location")}

#: What differs from resource to resource is told apart by the status alone.
_PLAIN: dict[str, str] = {
    "NoContent": "Done; there is nothing to show.",
    "NotModified": "The client holds this version already.",
    "Accepted": "A job has begun.",
}


def headers() -> dict[str, Json]:
    return {name: {"description": what, "schema": {"type": "string"}} for name, what in _HEADERS.items()}


def _resource(name: str) -> Json:
    """A resource in the formats of FHIR."""
    return {FHIR_JSON: {"schema": reference_to(name)}, FHIR_XML: {"schema": reference_to("fhir.xml")}}


def format_schemas() -> dict[str, Json]:
    """What is not FHIR's own JSON."""
    return {
        "fhir.xml": {"type": "string", "description": "The same in XML.", "contentMediaType": FHIR_XML},
        "fhir.ndjson": {"type": "string", "description": "One resource in each line.", "contentMediaType": FHIR_NDJSON},
        "patch.json": {
            "type": "array",
            "description": "JSON Patch (RFC 6902).",
            "items": {
                "type": "object",
                "required": ["op", "path"],
                "properties": {"op": {"type": "string"}, "path": {"type": "string"}, "value": {}},
            },
        },
        "patch.merge": {
            "type": "object",
            "description": "JSON Merge Patch (RFC 7396): what is to be there, and null for what is to be gone.",
        },
        "patch.xml": {"type": "string", "description": "XML Patch (RFC 5261).", "contentMediaType": XML_PATCH},
        "form": {"type": "object", "additionalProperties": {"type": "string"}},
    }


def responses_of(registry: Registry) -> dict[str, Json]:
    """An answer for each resource type, those without a resource, and that of an error."""
    found: dict[str, Json] = {
        name: {"description": f"{name}.", "headers": _ABOUT_VERSION, "content": _resource(name)}
        for name in (ANY, *registry.resource_types)
    }
    found["Bundle"] = {"description": "A Bundle.", "content": _resource("Bundle")}
    found["Page"] = {
        "description": "A page of resources.",
        "content": {**_resource("Bundle"), FHIR_NDJSON: {"schema": reference_to("fhir.ndjson")}},
    }
    found["Content"] = {
        "description": "The content as it was sent, or the Binary.",
        "headers": _ABOUT_VERSION,
        "content": {"*/*": {}, **_resource("Binary")},
    }
    found |= {name: {"description": what} for name, what in _PLAIN.items()}
    found["Accepted"]["headers"] = {"Content-Location": {"$ref": "#/components/headers/Content-Location"}}
    found["Problem"] = {"description": "What is wrong, and where.", "content": _resource("OperationOutcome")}
    return found


def bodies_of(registry: Registry) -> dict[str, Json]:
    """A body for each resource type, for patches and for searches by POST."""
    found: dict[str, Json] = {
        name: {"required": True, "content": _resource(name)} for name in (ANY, *registry.resource_types)
    }
    found["Binary"]["content"] = {"*/*": {}, **_resource("Binary")}
    schemas = {
        JSON_PATCH: "patch.json",
        MERGE_PATCH: "patch.merge",
        XML_PATCH: "patch.xml",
        FHIR_JSON: "Parameters",
        FHIR_XML: "fhir.xml",
    }
    found["Patch"] = {
        "required": True,
        "content": {form: {"schema": reference_to(schemas.get(form, "fhir.xml"))} for form in PATCH_FORMATS},
    }
    found["Search"] = {
        "description": "The parameters of the search.",
        "content": {FORM: {"schema": reference_to("form")}},
    }
    return found


def response(name: str) -> Json:
    return {"$ref": f"#/components/responses/{name}"}


def body(name: str) -> Json:
    return {"$ref": f"#/components/requestBodies/{name}"}
