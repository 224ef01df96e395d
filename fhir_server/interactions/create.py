"""create, and conditional create by `If-None-Exist`.

Spec: https://hl7.org/fhir/R4/http.html#create, https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

from fhir_server.interactions.answers import resource_in, written
from fhir_server.interactions.binary import completed, create_content
from fhir_server.interactions.conditional import conditional_create
from fhir_server.interactions.context import Context
from fhir_server.interactions.provenance import commit, source_in
from fhir_server.model.clock import new_id
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change


async def create(context: Context, request: Request) -> Answer:
    """POST [base]/[type]: 201; with `If-None-Exist` 200 where one match exists and 412 where several do."""
    (resource_type,) = request.path
    if request.content is not None:
        return await create_content(context, request)
    resource = resource_in(request, resource_type)
    if (own_way := context.creating.get(resource_type)) and (answer := await own_way(context, request, resource)):
        return answer
    change = Change("POST", resource_type, new_id(), resource, fresh=True)
    criteria = request.headers.get("if-none-exist")
    if criteria is None:
        committed = await commit(context, request, change)
    else:
        source = await source_in(context, request)
        committed = await conditional_create(context, change, criteria, source)
    done = "was created" if committed.created else "exists already; nothing was created, it stands"
    return await completed(context, request, written(request, committed, done), committed)
