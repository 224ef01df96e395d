"""The states of a prescription.

Spec: https://hl7.org/fhir/R4/medicationrequest.html#9.1.2.1, https://hl7.org/fhir/R4/valueset-medicationrequest-status.html
"""

from __future__ import annotations

from typing import Final

from resources.states import StateMachine

#: What is prescribed here, from the draft on, and what was prescribed elsewhere and imported.
PRESCRIPTION: Final = StateMachine(
    "MedicationRequest",
    {
        "draft": ("active", "cancelled"),
        "active": ("on-hold", "completed", "stopped", "cancelled"),
        "on-hold": ("active", "completed", "stopped", "cancelled"),
        "completed": (),
        "stopped": (),
        "cancelled": (),
        "unknown": ("draft", "active", "on-hold", "completed", "stopped", "cancelled"),
    },
    {("draft", "active"): ("sign",)},
)

#: What was signed here: how it ends, the work of the pharmacy decides.
SIGNED: Final = StateMachine(
    "MedicationRequest",
    {
        "active": ("on-hold", "completed", "stopped", "cancelled", "entered-in-error"),
        "on-hold": ("active", "completed", "stopped", "cancelled", "entered-in-error"),
        "completed": (),
        "stopped": (),
        "cancelled": (),
    },
    {
        (before, after): ("close",) if after == "completed" else ("withdraw", "answer-withdrawal")
        for before in ("active", "on-hold")
        for after in ("completed", "stopped", "cancelled", "entered-in-error")
    },
    mistaken=False,
)

#: Plans, proposals, and what somebody reports: nobody signs them.
RECORD: Final = StateMachine("MedicationRequest", PRESCRIPTION.next, {})
