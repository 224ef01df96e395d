"""delete, and conditional delete of the one match.

A deletion is a version of its own: the resource answers 410 from then on, and its history stays.

Spec: https://hl7.org/fhir/R4/http.html#delete, https://hl7.org/fhir/R4/http.html#3.1.0.7.1
"""

from __future__ import annotations

from fhir_server.interactions.answers import informational, preferred_return
from fhir_server.interactions.conditional import conditional_delete
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import if_match
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import ABSENT, Change
from fhir_server.storage.document import Version


async def delete(context: Context, request: Request) -> Answer:
    """DELETE [base]/[type]/[id]: 204, also where it is deleted already or never was."""
    resource_type, resource_id = request.path
    committed = await context.repository.commit(
        Change("DELETE", resource_type, resource_id, if_match=if_match(request))
    )
    return deleted(request, committed.version)


async def delete_conditional(context: Context, request: Request) -> Answer:
    """DELETE [base]/[type]?[criteria]: 204 where one or no resource matches, 412 where several do."""
    (resource_type,) = request.path
    version = await conditional_delete(context, resource_type, request.query, if_match(request))
    return deleted(request, version)


def deleted(request: Request, version: Version | None) -> Answer:
    number = None if version is None or version.version == ABSENT else version.version
    if preferred_return(request, "minimal") == "OperationOutcome":
        text = (
            "Nothing matched; nothing was deleted."
            if version is None or number is None
            else f"{version.type}/{version.id} is deleted (version {version.version})."
        )
        return Answer(200, informational(text), version=number)
    return Answer(204, version=number)
