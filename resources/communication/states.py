"""The states of threads and of messages.

Spec: https://hl7.org/fhir/R4/valueset-event-status.html
"""

from __future__ import annotations

from resources.states import StateMachine

#: `in-progress` is open; a closed thread takes no messages.
THREAD = StateMachine(
    "Communication",
    next={
        "preparation": ("in-progress", "not-done"),
        "in-progress": ("completed", "stopped"),
        "completed": ("in-progress",),
        "stopped": (),
        "not-done": (),
    },
    by={},
)

#: A message is said at once; whoever said it can take it back.
MESSAGE = StateMachine(
    "Communication",
    next={"completed": ("entered-in-error",)},
    by={("completed", "entered-in-error"): ("retract",)},
    mistaken=False,
)
