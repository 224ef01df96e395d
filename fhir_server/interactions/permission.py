"""Whether a caller may do such a thing at all, asked before anything is looked at.

This tells of types and verbs alone, so it betrays nothing about what is stored; which resources a caller reaches is
held to by the store (see `access`).

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html#scopes-for-requesting-fhir-resources
"""

from __future__ import annotations

from fhir_server.audit.rules import may_write
from fhir_server.interactions.context import Context
from fhir_server.interactions.registration import Interaction, Operation
from fhir_server.model.access import ANY_TYPE, Scope, Verb
from fhir_server.model.errors import ForbiddenError
from fhir_server.model.exchange import Request
from fhir_server.policies.reach import WRITING

#: What a change asks for, any of these: an update may turn out to be a create.
CHANGES: dict[str, tuple[Verb, ...]] = {"POST": ("c",), "PUT": ("u", "c"), "PATCH": ("u",), "DELETE": ("d",)}

#: What is asked for most, by method and shape of the address.
PLAIN: dict[tuple[str, str], Verb] = {
    ("GET", "{type}/{id}"): "r",
    ("GET", "{type}"): "s",
    ("POST", "{type}/_search"): "s",
}

_WORDS: dict[Verb, str] = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}


def require(context: Context, resource_type: str, *verbs: Verb) -> None:
    """One of the verbs is possible for this caller, for some resources of the type at least.

    Raises:
        ForbiddenError: 403; none is.
    """
    policy = context.caller.policy
    if any(policy.may(resource_type, verb) for verb in verbs):
        return
    scope = context.caller.identity.scope
    granted = f" Granted are the scopes {scope!r}." if scope else ""
    raise ForbiddenError(
        f"Your access does not allow to {_WORDS[verbs[0]]} {resource_type} resources.{granted}",
        key="HS-ACCESS-TYPE",
        expression=resource_type,
        headers={"WWW-Authenticate": 'Bearer realm="FHIR", error="insufficient_scope"'},
    )


def require_change(context: Context, resource_type: str, method: str, *, conditional: bool) -> None:
    """A change is possible; one with criteria searches, too, and tells by its answer what it has found.

    Raises:
        ForbiddenError: 403; it is not.
    """
    require(context, resource_type, *CHANGES[method])
    if not may_write(resource_type, None, CHANGES[method][0], context.caller.identity):
        raise ForbiddenError(
            "AuditEvents are added by systems with a scope of the level `system`, and never changed or removed.",
            key="HS-ACCESS-AUDIT",
            expression=resource_type,
        )
    if conditional:
        require(context, resource_type, "s")


def require_interaction(context: Context, row: Interaction, request: Request) -> None:
    """What a row of the table asks for.

    Raises:
        ForbiddenError: 403; the caller may not do that.
    """
    if not row.shape.startswith("{type}"):
        return
    resource_type = request.path[0]
    if (plain := PLAIN.get((row.method, row.shape))) is not None:
        if not context.caller.policy.may(resource_type, plain):
            require(context, resource_type, plain)
    elif row.shape.startswith("{type}/{id}/{member}"):
        if request.path[2] != "*":
            require(context, request.path[2], "s")
    elif row.method == "GET" or row.shape.endswith("_search"):
        verb: Verb = "r" if row.shape.startswith("{type}/{id}/_history") or row.shape == "{type}/{id}" else "s"
        if row.shape != "{type}/{id}/_search":
            require(context, resource_type, verb)
    else:
        conditional = row.shape == "{type}" and (row.method != "POST" or "if-none-exist" in request.headers)
        require_change(context, resource_type, row.method, conditional=conditional)


def require_operation(context: Context, operation: Operation, request: Request) -> None:
    """What an operation asks for: its own permission where it reaches beyond what the caller may see.

    Raises:
        ForbiddenError: 403; the caller may not call it.
    """
    if operation.elevated:
        if not context.caller.policy.may_operate(operation.code, request.path[0]):
            raise ForbiddenError(
                f"Your role does not allow ${operation.code}: it reaches beyond single resources.",
                key="HS-ACCESS-OPERATION",
            )
        require_scope(context, operation, request)
    elif operation.touches and len(request.path) > 1:
        verbs: tuple[Verb, ...] = ("u",) if operation.affects_state else ("r", "s")
        require(context, request.path[0], *verbs)


def require_scope(context: Context, operation: Operation, request: Request) -> None:
    """An operation that reaches beyond its caller's own view is still limited by what the app's token was granted.

    The role decides who may call it at all; an app that may only read changes nothing by an operation either. What an
    operation needs it says (`Operation.needs`); of one that says nothing, any scope to change, or to read, the type in
    the address will do. A scope for some resources of a type alone (`?status=booked`) lets nothing be changed: an
    operation could not be held to it (decision 65).

    Raises:
        ForbiddenError: 403; no scope covers the type that is operated on, or something else that is needed.
    """
    identity = context.caller.identity
    if identity.role == "operator" or len(request.path) == 1:
        return
    wanted = operation.needs or ((request.path[0], "cu" if operation.affects_state else "rs"),)
    for resource_type, verbs in wanted:
        if not any(suffices(scope, resource_type, verbs) for scope in identity.scopes):
            raise ForbiddenError(
                f"${operation.code} needs a scope such as {resource_type}.{verbs}; granted is {identity.scope!r}.",
                key="HS-ACCESS-SCOPE",
                expression=resource_type,
                headers={"WWW-Authenticate": 'Bearer realm="FHIR", error="insufficient_scope"'},
            )


def suffices(scope: Scope, resource_type: str, verbs: str) -> bool:
    """Whether a scope lets an operation do one of some things with resources of a type."""
    wanted = set(verbs) - WRITING if scope.criteria else set(verbs)
    return scope.type in (ANY_TYPE, resource_type) and bool(set(scope.verbs) & wanted)
