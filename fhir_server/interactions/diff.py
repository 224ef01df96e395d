"""`$diff`: what changed from one version of a resource to another, or what makes two resources differ.

The answer is a FHIRPath Patch: sent to the first by PATCH, it makes the second of it.

Definition: `profiles/definitions/OperationDefinition-diff.json`; spec of the form: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.difference import patch_between
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.document import Version


async def diff(context: Context, request: Request) -> Answer:
    """[type]/[id]/$diff: 200 with the patch; without `from` and `to`, from the version before to the current one."""
    inputs = Inputs.of(request)
    inputs.only("from", "to")
    here = (request.path[0], request.path[1])
    current = await context.repository.read(*here)
    given = inputs.text("to")
    after = current if given is None else await named(context, request, here, "to", given)
    given = inputs.text("from")
    if given is None:
        if (after.type, after.id) != here or after.version == 1:
            raise InvalidError(
                f"{after.type}/{after.id} has no version before {after.version} to compare with; `from` names another.",
                code="required",
                expression="Parameters.parameter.where(name='from')",
                key="HS-OP-PARAMETER",
            )
        given = str(after.version - 1)
    before = await named(context, request, here, "from", given)
    return answered(patch_between(codec.decode(before.body or b""), codec.decode(after.body or b""), context.registry))


async def named(context: Context, request: Request, here: tuple[str, str], name: str, text: str) -> Version:
    """The version that a parameter names.

    Raises:
        InvalidError: 400; it names none, or a resource of another type.
        NotFoundError: 404; it is not there.
        GoneError: 410; it is a deletion.
    """
    if text.isascii() and text.isdigit():
        return await context.repository.vread(*here, text)
    match text.removeprefix(f"{request.base_url}/").split("/"):
        case [kind, resource_id] if kind == here[0] and resource_id:
            return await context.repository.read(kind, resource_id)
        case [kind, resource_id, "_history", version] if kind == here[0] and resource_id:
            return await context.repository.vread(kind, resource_id, version)
    raise InvalidError(
        f"The parameter {name!r} is {text[:100]!r}; a version number or a reference to a {here[0]} was expected.",
        code="value",
        expression=f"Parameters.parameter.where(name='{name}')",
        key="HS-OP-PARAMETER",
    )
