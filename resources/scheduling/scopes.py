"""What a token must be granted for an operation: an app that may only read books and cancels nothing.

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


def scoped(handle: Handler, verb: Verb) -> Handler:
    """The same operation, for tokens that may create (`c`) or update (`u`) Appointments."""

    @wraps(handle)
    async def guarded(context: Context, request: Request) -> Answer:
        identity = context.caller.identity
        covered = any(one.type in (ANY_TYPE, "Appointment") and verb in one.verbs for one in identity.scopes)
        if identity.role != "operator" and not covered:
            raise ForbiddenError(
                f"{request.path[-1]} needs a scope for Appointment.{verb}, which the token has not.",
                key="HS-SCHED-SCOPE",
                expression="Appointment",
            )
        return await handle(context, request)

    return guarded
