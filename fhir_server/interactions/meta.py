"""`$meta`, `$meta-add`, `$meta-delete`: profiles, tags and security labels in use, and changing those of one resource.

Labels of a stored resource change with a new version, so that history shows who was labelled when.

Spec: https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.interactions.answers import touched_by
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.preconditions import if_match
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, PreconditionFailedError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change
from fhir_server.storage.writes import VersionConflictError

Json = dict[str, Any]
LABELS = ("profile", "security", "tag")
ATTEMPTS = 20


async def meta(context: Context, request: Request) -> Answer:
    """$meta of one resource."""
    resource_type, resource_id = request.path[0], request.path[1]
    version = await context.repository.read(resource_type, resource_id)
    return returned(codec.decode(version.body or b"").get("meta", {}))


async def meta_add(context: Context, request: Request) -> Answer:
    """$meta-add: the resource has the labels afterwards, each once."""
    return await changed(context, request, added)


async def meta_delete(context: Context, request: Request) -> Answer:
    """$meta-delete: the resource has none of the labels afterwards."""
    return await changed(context, request, removed)


def returned(found: Json) -> Answer:
    return answered(parameters_of({"name": "return", "valueMeta": found}))


async def changed(context: Context, request: Request, change: Callable[[list[Any], list[Any]], list[Any]]) -> Answer:
    resource_type, resource_id = request.path[0], request.path[1]
    inputs = Inputs.of(request)
    given = inputs.required("meta", inputs.resource("meta"))
    if unknown := sorted(given.keys() - set(LABELS)):
        raise InvalidError(
            f"The labels of a resource are {', '.join(LABELS)}; found {', '.join(unknown)}.",
            expression="Parameters.parameter.where(name='meta')",
            key="HS-OP-PARAMETER",
        )
    expected = if_match(request)
    for attempt in range(ATTEMPTS):
        version = await context.repository.read(resource_type, resource_id)
        resource = codec.decode(version.body or b"")
        before = resource.get("meta", {})
        after = {k: v for k, v in before.items() if k not in LABELS}
        for label in LABELS:
            if rows := change(before.get(label, []), given.get(label, [])):
                after[label] = rows
        if after == before:
            return returned(before)
        wanted = Change(
            "PUT",
            resource_type,
            resource_id,
            {**resource, "meta": after},
            if_match=expected or version.version,
            blob=version.blob,
        )
        try:
            committed = await context.repository.commit(wanted)
        except (PreconditionFailedError, VersionConflictError):
            if expected is not None or attempt == ATTEMPTS - 1:
                raise
            continue
        answer = returned(codec.decode(committed.version.body or b"")["meta"])
        answer.touched = touched_by([committed])
        return answer
    raise AssertionError("unreachable")


def same(one: Any, other: Any) -> bool:
    """Codings are the same by system and code, whatever their display says."""
    if type(one) is dict and type(other) is dict:
        return (one.get("system"), one.get("code")) == (other.get("system"), other.get("code"))
    return bool(one == other)


def added(here: list[Any], given: list[Any]) -> list[Any]:
    result = list(here)
    for row in given:
        if not any(same(row, other) for other in result):
            result.append(row)
    return result


def removed(here: list[Any], given: list[Any]) -> list[Any]:
    return [row for row in here if not any(same(row, other) for other in given)]
