"""The states of the work on a prescription, of what is handed out, and who brings them about.

Spec: https://hl7.org/fhir/R4/task.html#statemachine, https://hl7.org/fhir/R4/valueset-medicationdispense-status.html
"""

from __future__ import annotations

from typing import Final

from resources.states import StateMachine

OPEN: Final = "open"
ADDRESSED: Final = "addressed"
REFUSED: Final = "refused"
CLAIMED: Final = "claimed"
PARTLY: Final = "partly-dispensed"
DISPENSED: Final = "dispensed"
CLOSED: Final = "closed"
FAILED: Final = "failed"
WITHDRAWN: Final = "withdrawn"

#: Each state of the work: the `Task.status` that it is, and what people read.
MEANS: Final[dict[str, tuple[str, str]]] = {
    OPEN: ("requested", "Any pharmacy that shows the pull token can claim it"),
    ADDRESSED: ("requested", "Waits for the pharmacy that it is addressed to"),
    REFUSED: ("rejected", "Refused by the pharmacy that it was addressed to"),
    CLAIMED: ("accepted", "Claimed by a pharmacy"),
    PARTLY: ("in-progress", "Dispensed in part"),
    DISPENSED: ("in-progress", "Dispensed in full"),
    CLOSED: ("completed", "Done"),
    FAILED: ("failed", "The pharmacy could not do it"),
    WITHDRAWN: ("cancelled", "Taken back by the prescriber"),
}

#: In these a pharmacy has claimed it.
HELD: Final = frozenset({CLAIMED, PARTLY, DISPENSED})
#: In these nobody has, and it can still be dispensed.
FREE: Final = frozenset({OPEN, ADDRESSED, REFUSED})

_BY: dict[tuple[str, str], tuple[str, ...]] = {
    (OPEN, CLAIMED): ("accept",),
    (OPEN, ADDRESSED): ("transfer",),
    (OPEN, WITHDRAWN): ("withdraw",),
    (ADDRESSED, CLAIMED): ("accept",),
    (ADDRESSED, OPEN): ("transfer",),
    (ADDRESSED, REFUSED): ("reject",),
    (ADDRESSED, WITHDRAWN): ("withdraw",),
    (REFUSED, OPEN): ("transfer",),
    (REFUSED, ADDRESSED): ("transfer",),
    (REFUSED, WITHDRAWN): ("withdraw",),
    (CLAIMED, OPEN): ("reject", "transfer"),
    (CLAIMED, ADDRESSED): ("reject", "transfer"),
    (CLAIMED, PARTLY): ("dispense",),
    (CLAIMED, DISPENSED): ("dispense",),
    (CLAIMED, FAILED): ("close",),
    (CLAIMED, WITHDRAWN): ("answer-withdrawal",),
    (PARTLY, DISPENSED): ("dispense",),
    (PARTLY, OPEN): ("transfer",),
    (PARTLY, ADDRESSED): ("transfer",),
    (PARTLY, CLOSED): ("close",),
    (PARTLY, WITHDRAWN): ("answer-withdrawal",),
    (DISPENSED, CLOSED): ("close",),
}

#: The work on a signed prescription: one Task, from the signature to the closing.
FULFILMENT = StateMachine(
    "Task",
    {state: tuple(after for before, after in _BY if before == state) for state in MEANS},
    _BY,
    element="businessStatus",
    mistaken=False,
)

#: The prescriber's wish that the pharmacy stop, which is a Task of its own.
ASKING = StateMachine(
    "Task",
    {"requested": ("completed", "rejected"), "completed": (), "rejected": ()},
    {
        ("requested", "completed"): ("answer-withdrawal",),
        ("requested", "rejected"): ("answer-withdrawal",),
    },
    mistaken=False,
)

#: What a pharmacy hands out.
DISPENSE = StateMachine(
    "MedicationDispense",
    {
        "preparation": ("in-progress", "on-hold", "completed", "cancelled", "stopped", "declined"),
        "in-progress": ("on-hold", "completed", "cancelled", "stopped"),
        "on-hold": ("in-progress", "completed", "cancelled", "stopped"),
        "completed": (),
        "cancelled": (),
        "stopped": (),
        "declined": (),
        "unknown": ("preparation", "in-progress", "on-hold", "completed", "cancelled", "stopped", "declined"),
    },
    {},
)
