"""read: the current version of a resource.

Spec: https://hl7.org/fhir/R4/http.html#read
"""

from __future__ import annotations

from fhir_server.interactions.answers import about, selected
from fhir_server.interactions.binary import shown
from fhir_server.interactions.context import Context
from fhir_server.interactions.definitions import carried
from fhir_server.interactions.preconditions import not_modified
from fhir_server.model.errors import NotFoundError
from fhir_server.model.exchange import Answer, Request


async def read(context: Context, request: Request) -> Answer:
    """GET [base]/[type]/[id]: 200, 304, 404 or 410."""
    resource_type, resource_id = request.path
    try:
        version = await context.repository.read(resource_type, resource_id)
    except NotFoundError:
        if (definition := carried(resource_type, resource_id, request.base_url)) is None:
            raise
        return Answer(200, selected(request, definition))
    if not_modified(request, version):
        return about(304, None, version)
    if resource_type == "Binary":
        return await shown(context, request, version)
    assert version.body is not None
    return about(200, selected(request, version.body) if request.query else version.body, version)
