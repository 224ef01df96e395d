"""update, update as create, and conditional update.

Spec: https://hl7.org/fhir/R4/http.html#update, https://hl7.org/fhir/R4/http.html#upsert, https://hl7.org/fhir/R4/http.html#cond-update
"""

from __future__ import annotations

import re
from typing import Any

from fhir_server.interactions.answers import resource_in, written
from fhir_server.interactions.binary import completed, update_content
from fhir_server.interactions.conditional import conditional_update
from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import if_match, lacks_version, require_version
from fhir_server.interactions.provenance import commit, source_in
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


async def update(context: Context, request: Request) -> Answer:
    """PUT [base]/[type]/[id]: 200, or 201 where nothing was; 412 where `If-Match` names another version, or
    where `If-None-Match: *` finds one."""
    resource_type, resource_id = request.path
    if request.content is not None:
        if not ID.fullmatch(resource_id):
            raise malformed_id(resource_type, resource_id)
        return await update_content(context, request)
    resource = resource_in(request, resource_type)
    require_id(resource, resource_type, resource_id)
    creates = await require_version(context, request, resource_type, resource_id)
    change = Change(
        "PUT",
        resource_type,
        resource_id,
        resource,
        if_match=if_match(request),
        if_absent=creates or request.headers.get("if-none-match", "").strip() == "*",
    )
    committed = await commit(context, request, change)
    answer = written(request, committed, "was created" if committed.created else "was updated")
    return await completed(context, request, answer, committed)


async def update_conditional(context: Context, request: Request) -> Answer:
    """PUT [base]/[type]?[criteria]: the one match is updated, none is a create, several are 412."""
    (resource_type,) = request.path
    resource = resource_in(request, resource_type)
    source = await source_in(context, request)
    blind = lacks_version(context, request, resource_type)
    committed = await conditional_update(
        context, resource_type, resource, request.query, if_match(request), source, blind=blind
    )
    answer = written(request, committed, "was created" if committed.created else "was updated")
    return await completed(context, request, answer, committed)


def require_id(resource: dict[str, Any], resource_type: str, resource_id: str) -> None:
    """The body of an update carries the id that its address names.

    Raises:
        InvalidError: 400; the id is missing, differs or is malformed.
    """
    if not ID.fullmatch(resource_id):
        raise malformed_id(resource_type, resource_id)
    found = resource.get("id")
    if found != resource_id:
        what = "has no id" if found is None else f"has the id {found!r}"
        raise InvalidError(
            f"The resource {what}; an update to this address carries the id {resource_id!r}.",
            expression=f"{resource_type}.id",
            key="HS-UPDATE-ID",
        )


def malformed_id(resource_type: str, resource_id: str) -> InvalidError:
    return InvalidError(
        f"{resource_id[:80]!r} is no FHIR id: 1 to 64 of A-Z a-z 0-9 - . were expected.",
        expression=f"{resource_type}.id",
        code="value",
        key="HS-ID",
    )
