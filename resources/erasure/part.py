"""What erasure adds to the server."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Handler, Operation
from resources.erasure.carry import KIND, carry_on
from resources.erasure.requests import approve_erasure, legal_hold, refuse_erasure, request_erasure
from resources.erasure.words import APPROVE, HOLD, REFUSE, hold_rule, request_rule
from resources.part import Part


def join(context: Context) -> None:
    context.jobs.register(KIND, partial(carry_on, context))


def operation(code: str, handle: Handler, name: str) -> Operation:
    return Operation(code, f"{OWN}:{code}", handle, types=(name,), instance=True, affects_state=True, elevated=True)


PART = Part(
    "erasure",
    operations=(
        operation("request-erasure", request_erasure, "Patient"),
        operation(APPROVE, approve_erasure, "Task"),
        operation(REFUSE, refuse_erasure, "Task"),
        operation(HOLD, legal_hold, "Patient"),
    ),
    rules=(("Task", request_rule), ("Flag", hold_rule)),
    join=join,
)
