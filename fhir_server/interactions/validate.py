"""`$validate`: what the server would say of a resource, and what profiles say of it, without storing anything.

Spec: https://hl7.org/fhir/R4/resource-operation-validate.html
"""

from __future__ import annotations

from fhir_server.interactions.answers import typed
from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError, InvalidError, Issue, outcome_of
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.unit import Unit
from fhir_server.validation.profile.run import declared_by
from fhir_server.validation.profile.validator import is_readable

MODES = ("create", "update", "delete", "profile")


async def validate(context: Context, request: Request) -> Answer:
    """[type]/$validate, [type]/[id]/$validate: 200 with the outcome, whatever it says.

    Raises:
        InvalidError: 400; the call cannot be understood, or names a profile that is not held or cannot be used.
    """
    resource_type = request.path[0]
    resource_id = request.path[1] if len(request.path) == 3 else None
    inputs = Inputs.of(request)
    mode = inputs.text("mode")
    if mode is not None and mode not in MODES:
        raise InvalidError(
            f"The mode is {mode[:40]!r}; expected one of {', '.join(MODES)}.", code="value", key="HS-OP-PARAMETER"
        )
    asked = [profile for profile in [inputs.text("profile")] if profile is not None]
    if mode == "profile":
        inputs.required("profile", asked[0] if asked else None)
    resource = inputs.resource("resource")
    if mode == "delete":
        return answered(outcome_of(await of_deletion(context, resource_type, resource_id)))
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
    if is_readable(issues):
        support = inputs.flag("mustSupport")
        issues += await context.profiles.issues_of(resource, asked, support=support)
        issues += await context.profiles.contents_of(resource)
        issues = list(dict.fromkeys(issues))
    elif asked or declared_by(resource):
        await context.profiles.require(asked)
        issues.append(fine("Profiles were not looked at, since the structure of the resource is not right."))
    if not any(issue.severity in ("error", "fatal") for issue in issues):
        issues.insert(0, fine("The resource is valid."))
    return answered(outcome_of(issues))


async def of_deletion(context: Context, resource_type: str, resource_id: str | None) -> list[Issue]:
    """Whether a resource could be deleted: it is there, and where references are kept whole, nothing refers to it."""
    if resource_id is None:
        raise InvalidError(
            "The mode `delete` asks about one resource: call it as [type]/[id]/$validate.", key="HS-OP-PARAMETER"
        )
    await context.repository.read(resource_type, resource_id)
    target, integrity = f"{resource_type}/{resource_id}", context.repository.integrity

    async def look(unit: Unit) -> None:
        await integrity.require_unreferred(unit, [target], ())

    if integrity.enforced:
        try:
            await context.repository.store.transact(look)
        except ConflictError as refused:
            return list(refused.issues)
    return [fine(f"{target} can be deleted.")]


def fine(text: str) -> Issue:
    return Issue("informational", text, severity="information")
