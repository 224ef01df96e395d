"""`$convert`: a resource in another form. What comes in is judged as a write would judge it, and goes out unchanged.

Which formats are read and written is a matter of `Content-Type` and `Accept`, as for every request.

Spec: https://hl7.org/fhir/R4/resource-operation-convert.html
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request


async def convert(context: Context, request: Request) -> Answer:
    """$convert: 200 with the resource.

    Raises:
        InvalidError: 400; it is missing, or not valid.
    """
    resource = input_of(request)
    name = resource.get("resourceType")
    if type(name) is not str or not context.registry.is_resource_type(name):
        raise InvalidError(
            f"`resourceType` is {name!r}; a resource type of FHIR R4 was expected.",
            expression="Parameters.parameter.where(name='input')",
            key="HS-BODY-TYPE",
        )
    issues = context.repository.issues_of(resource)
    if any(issue.severity in ("error", "fatal") for issue in issues):
        raise InvalidError(issues)
    return answered(resource)


def input_of(request: Request) -> dict[str, Any]:
    """The resource sent by itself, or as the parameter `input`; Parameters without that are themselves converted."""
    inputs = Inputs.of(request, bare="input")
    if inputs.one("input") is None and request.method == "POST" and request.body.strip():
        whole: dict[str, Any] = codec.decode(request.body)
        return whole
    inputs.only("input")
    found: dict[str, Any] = inputs.required("input", inputs.resource("input"))
    return found
