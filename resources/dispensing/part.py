"""Dispensing, as the server joins it."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from fhir_server.model.access import Verb
from resources.dispensing.changes import changes
from resources.dispensing.claims import accept, reject, transfer
from resources.dispensing.following import hold_dispenses, tell_of_orders
from resources.dispensing.handing import close, dispense
from resources.dispensing.later import join
from resources.dispensing.rules import dispense_rule, task_rule
from resources.dispensing.scopes import scoped
from resources.dispensing.stock import stock
from resources.dispensing.withdrawals import answer_withdrawal, withdraw
from resources.part import Part

#: What an operation needs that changes the work, and one that shows prescriptions.
WORK: tuple[str, Verb] = ("Task", "u")
READ: tuple[str, Verb] = ("MedicationRequest", "r")

_on_order = partial(Operation, types=("MedicationRequest",), instance=True, affects_state=True, elevated=True)

PART = Part(
    "dispensing",
    operations=(
        _on_order("accept", f"{OWN}:prescription-accept", scoped(accept, WORK, READ)),
        _on_order("reject", f"{OWN}:prescription-reject", scoped(reject, WORK)),
        _on_order("transfer", f"{OWN}:prescription-transfer", scoped(transfer, WORK)),
        _on_order("dispense", f"{OWN}:prescription-dispense", scoped(dispense, ("MedicationDispense", "c"))),
        _on_order("close", f"{OWN}:prescription-close", scoped(close, WORK)),
        _on_order("withdraw", f"{OWN}:prescription-withdraw", scoped(withdraw, ("MedicationRequest", "u"))),
        _on_order("answer-withdrawal", f"{OWN}:prescription-answer-withdrawal", scoped(answer_withdrawal, WORK)),
        _on_order("stock", f"{OWN}:prescription-stock", scoped(stock, ("Communication", "c"))),
        Operation(
            "changes",
            f"{OWN}:prescription-changes",
            scoped(changes, READ, ("MedicationRequest", "s")),
            types=("MedicationRequest",),
            type=True,
            elevated=True,
        ),
    ),
    rules=(("Task", task_rule), ("MedicationDispense", dispense_rule)),
    join=join,
    companions=(("MedicationRequest", tell_of_orders), ("MedicationDispense", hold_dispenses)),
)
