"""Which format a patch is in, and the patch that a body holds.

Spec: https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fhir_server.model import codec
from fhir_server.model.errors import UnsupportedMediaTypeError
from fhir_server.patching.document import Json
from fhir_server.patching.fault import malformed
from fhir_server.patching.fhirpath_patch import fhirpath_patch_of
from fhir_server.patching.json_patch import json_patch_of
from fhir_server.patching.merge_patch import merge_patch_of
from fhir_server.patching.xml_patch import xml_form, xml_patch_of
from profiles.registry import Registry

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
XML_PATCH = "application/xml-patch+xml"
FHIR_JSON = "application/fhir+json"
FHIR_XML = "application/fhir+xml"
#: FHIRPath Patches are FHIR resources; one in XML has become JSON before it comes here.
FHIR_TYPES = frozenset({FHIR_JSON, "application/json", "text/json", ""})
#: Clients that send all their JSON so (fhirpy) mean a merge patch by an object that is no Parameters.
PLAIN_JSON = frozenset({"application/json", "text/json"})

#: What a patch can be sent as; a FHIRPath Patch in XML too.
PATCH_FORMATS = (JSON_PATCH, FHIR_JSON, FHIR_XML, XML_PATCH, MERGE_PATCH)

Rewrite = Callable[[Json], bool]


class Patch(Protocol):
    """What every format comes to."""

    def apply(self, resource: Json) -> Json:
        """The resource as the patch makes it; the one that is handed in stays as it is."""

    def linked(self, rewrite: Rewrite) -> Patch:
        """The patch with the links in its values rewritten."""


def patch_of(body: bytes, content_type: str, resource_type: str, registry: Registry) -> Patch:
    """Read the patch of a body, for a resource type.

    Raises:
        UnsupportedMediaTypeError: 415; the body is of a type that is no patch.
        InvalidError: 400; it is, and cannot be read.
        TooLargeError: 413; it has too many operations.
    """
    if content_type == JSON_PATCH:
        return json_patch_of(codec.decode(body))
    if content_type == MERGE_PATCH:
        return merge_patch_of(codec.decode(body))
    if content_type == XML_PATCH:
        return xml_patch_of(body, xml_form(registry))
    if content_type not in FHIR_TYPES:
        raise UnsupportedMediaTypeError(
            f"The patch is {content_type[:80]!r}; expected {JSON_PATCH}, {MERGE_PATCH}, {XML_PATCH}, or Parameters.",
            key="HS-PATCH-MEDIA",
            headers={"Accept-Patch": ", ".join(PATCH_FORMATS)},
        )
    document = codec.decode(body)
    if type(document) is not dict or document.get("resourceType") != "Parameters":
        if type(document) is dict and content_type in PLAIN_JSON:
            return merge_patch_of(document)
        hint = ""
        if type(document) is list:
            hint = f" A JSON Patch is sent as {JSON_PATCH}."
        elif type(document) is dict:
            hint = f" A JSON Merge Patch is sent as {MERGE_PATCH}."
        raise malformed(f"The body is no Parameters resource, which a FHIRPath Patch is.{hint}", "Parameters")
    return fhirpath_patch_of(document, resource_type, registry)
