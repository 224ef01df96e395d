"""The states of a ticket.

Spec: https://hl7.org/fhir/R4/task.html#statemachine
"""

from __future__ import annotations

from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write
from resources.communication.words import PERSONS
from resources.states import StateMachine
from resources.ticket.words import PAGE, TICKET, is_a

#: `requested` waits in its pool, `in-progress` has an owner.
TICKET_STATES = StateMachine(
    "Task",
    next={
        "requested": ("in-progress", "completed", "cancelled"),
        "in-progress": ("requested", "completed", "cancelled"),
        "completed": ("requested",),
        "cancelled": (),
    },
    by={
        ("requested", "in-progress"): ("claim", "assign"),
        ("in-progress", "requested"): ("reroute",),
        ("requested", "completed"): ("resolve",),
        ("in-progress", "completed"): ("resolve",),
        ("completed", "requested"): ("reopen",),
    },
)

#: A page rings until somebody acknowledges it.
PAGE_STATES = StateMachine(
    "Task",
    next={"requested": ("accepted", "cancelled"), "accepted": (), "cancelled": ()},
    by={("requested", "accepted"): ("acknowledge",)},
)

#: What people change by operations alone, since something goes with it: a clock, an alarm, an answer.
HELD = ("owner", "performerType", "priority", "restriction", "focus", "for", "requester", "output", "code")


def task_rule(write: Write) -> Json | None:
    """Holds tickets and pages to their states; other Tasks are none of ours."""
    old, new = write.old, write.new
    of_ours = [code for code in (TICKET, PAGE) for one in (old, new) if one is not None and is_a(one, code)]
    if not of_ours or new is None:
        return new
    person = write.caller.identity.role in PERSONS
    if old is None:
        if person and not write.by:
            raise UnprocessableError(
                "A ticket is opened by Task/$open-ticket, which looks for what cannot wait.",
                key="HS-TICKET-OPEN",
                expression="Task.code",
            )
        return new
    (TICKET_STATES if of_ours[0] == TICKET else PAGE_STATES).rule(write)
    if person and not write.by:
        for name in HELD:
            if old.get(name) != new.get(name):
                raise UnprocessableError(
                    f"Task.{name} of a ticket is changed by operations alone: $claim, $assign, $reroute, $resolve, "
                    "$reopen, $acknowledge.",
                    key="HS-TICKET-HELD",
                    expression=f"Task.{name}",
                )
    return new
