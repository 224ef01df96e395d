"""`$validate`: what the server would say of a resource, without storing anything.

Spec: https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from fhir_server.interactions.answers import typed
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, Issue, outcome_of
from fhir_server.model.exchange import Answer, Request

MODES = ("create", "update", "delete", "profile")


async def validate(context: Context, request: Request) -> Answer:
    """[type]/$validate, [type]/[id]/$validate: 200 with the outcome, whatever it says."""
    resource_type = request.path[0]
    resource_id = request.path[1] if len(request.path) == 3 else None
    inputs = Inputs.of(request)
    mode = inputs.text("mode")
    if mode is not None and mode not in MODES:
        raise InvalidError(
            f"The mode is {mode[:40]!r}; expected one of {', '.join(MODES)}.", code="value", key="HS-OP-PARAMETER"
        )
    if (profile := inputs.text("profile")) is not None:
        base = f"http://hl7.org/fhir/StructureDefinition/{resource_type}"
        if profile.partition("|")[0] != base:
            raise InvalidError(
                f"The profile {profile[:200]!r} is not held here; {base} is.", code="not-supported", key="HS-OP-PROFILE"
            )
    resource = inputs.resource("resource")
    if mode == "delete":
        if resource_id is None:
            raise InvalidError(
                "The mode `delete` asks about one resource: call it as [type]/[id]/$validate.", key="HS-OP-PARAMETER"
            )
        await context.repository.read(resource_type, resource_id)
        return answered(outcome_of([fine(f"{resource_type}/{resource_id} can be deleted.")]))
    if resource is None:
        if resource_id is None:
            inputs.required("resource", None)
        assert resource_id is not None
        version = await context.repository.read(resource_type, resource_id)
        resource = codec.decode(version.body or b"")
    issues = context.repository.issues_of(typed(resource, resource_type), advice=True)
    if mode == "update" and resource_id is not None and resource.get("id") != resource_id:
        issues.insert(
            0,
            Issue(
                "invalid",
                f"The resource has the id {resource.get('id')!r}; an update of this address carries {resource_id!r}.",
                f"{resource_type}.id",
                "HS-UPDATE-ID",
            ),
        )
    if not any(issue.severity in ("error", "fatal") for issue in issues):
        issues.insert(0, fine("The resource is valid."))
    return answered(outcome_of(issues))


def fine(text: str) -> Issue:
    return Issue("informational", text, severity="information")
