"""What a caller's access adds to the resources that they write: whose staff made it, and whose a Binary is.

Spec: https://hl7.org/fhir/R4/resource.html#tag, https://hl7.org/fhir/R4/binary.html#security
"""

from __future__ import annotations

from dataclasses import replace

from fhir_server.model import codec
from fhir_server.model.access import Caller
from fhir_server.repository.changes import Change, Json

#: Tags of this system name the organization whose staff made a resource (`AccessPolicy.stamp`).
ORGANIZATION_SYSTEM = "urn:healthsphere:organization"

_SYSTEM_BYTES = ORGANIZATION_SYSTEM.encode()


def marked(change: Change, caller: Caller) -> Change:
    """The same change of a resource, marked as its caller's: a new one with the organization, a Binary without a
    security context with the patient in context."""
    stamp, patient = caller.policy.stamp, caller.identity.patient
    if stamp is None and patient is None:
        return change
    assert change.resource is not None
    resource = change.resource
    if stamp is not None and (change.fresh or change.method == "POST"):
        resource = with_tag(resource, *stamp)
    if patient is not None and change.type == "Binary" and "securityContext" not in resource:
        resource = {**resource, "securityContext": {"reference": patient}}
    return change if resource is change.resource else replace(change, resource=resource)


def still_marked(resource: Json, before: bytes | None) -> Json:
    """The resource with the organizations that its version before was marked with; itself where it has them.

    An update that leaves the mark out would show it to the staff of others.
    """
    if before is None or _SYSTEM_BYTES not in before:
        return resource
    for tag in codec.decode(before).get("meta", {}).get("tag", ()):
        if tag.get("system") == ORGANIZATION_SYSTEM and "code" in tag:
            resource = with_tag(resource, tag["system"], tag["code"])
    return resource


def with_tag(resource: Json, system: str, code: str) -> Json:
    """The resource with a tag; itself where it has that tag."""
    meta = resource.get("meta", {})
    tags = meta.get("tag", [])
    if any(tag.get("system") == system and tag.get("code") == code for tag in tags):
        return resource
    return {**resource, "meta": {**meta, "tag": [*tags, {"system": system, "code": code}]}}
