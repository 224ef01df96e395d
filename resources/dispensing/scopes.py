"""What a token must be granted for an operation: an app that may only read signs and dispenses nothing.

The role decides who may call an operation at all; the scopes of the app's token limit it as they limit plain writes.

Spec: https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

from functools import wraps

from fhir_server.interactions.context import Context
from fhir_server.interactions.registration import Handler
from fhir_server.model.access import ANY_TYPE, Verb
from fhir_server.model.errors import ForbiddenError
from fhir_server.model.exchange import Answer, Request


def scoped(handle: Handler, *needs: tuple[str, Verb]) -> Handler:
    """The same operation, for tokens whose scopes cover all that it needs, each a type and a verb."""

    @wraps(handle)
    async def guarded(context: Context, request: Request) -> Answer:
        identity = context.caller.identity
        for resource_type, verb in needs:
            covered = any(one.type in (ANY_TYPE, resource_type) and verb in one.verbs for one in identity.scopes)
            if identity.role != "operator" and not covered:
                raise ForbiddenError(
                    f"{request.path[-1]} needs a scope for {resource_type}.{verb}, which the token has not.",
                    key="HS-RX-SCOPE",
                    expression=resource_type,
                )
        return await handle(context, request)

    return guarded
