"""vread: one version of a resource.

Spec: https://hl7.org/fhir/R4/http.html#vread
"""

from __future__ import annotations

from fhir_server.interactions.answers import about, selected
from fhir_server.interactions.binary import shown
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import not_modified
from fhir_server.model.exchange import Answer, Request


async def vread(context: Context, request: Request) -> Answer:
    """GET [base]/[type]/[id]/_history/[vid]: 200, 304, 404, or 410 where that version is a deletion."""
    resource_type, resource_id, _, version_id = request.path
    version = await context.repository.vread(resource_type, resource_id, version_id)
    if not_modified(request, version):
        return about(304, None, version)
    if resource_type == "Binary":
        return await shown(context, request, version)
    assert version.body is not None
    return about(200, selected(request, version.body) if request.query else version.body, version)
