"""Dispensing, as the server joins it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from fhir_server.model.access import Verb
from resources.dispensing import pruning
from resources.dispensing.changes import changes
from resources.dispensing.claims import accept, reject, transfer
from resources.dispensing.following import hold_dispenses, tell_of_orders
from resources.dispensing.handing import close, dispense
from resources.dispensing.later import join
from resources.dispensing.rules import dispense_rule, task_rule
from resources.dispensing.stock import stock
from resources.dispensing.withdrawals import answer_withdrawal, withdraw
from resources.part import Part

#: What an operation needs that changes the work.
WORK: tuple[str, Verb] = ("Task", "u")


@asynccontextmanager
async def during(context: Context) -> AsyncIterator[None]:
    """The feeds of pharmacies are pruned each day."""
    await pruning.begin(context)
    yield


_on_order = partial(Operation, types=("MedicationRequest",), instance=True, affects_state=True, elevated=True)

PART = Part(
    "dispensing",
    operations=(
        _on_order("accept", f"{OWN}:prescription-accept", accept, needs=(WORK, ("MedicationRequest", "r"))),
        _on_order("reject", f"{OWN}:prescription-reject", reject, needs=(WORK,)),
        _on_order("transfer", f"{OWN}:prescription-transfer", transfer, needs=(WORK,)),
        _on_order("dispense", f"{OWN}:prescription-dispense", dispense, needs=(("MedicationDispense", "c"),)),
        _on_order("close", f"{OWN}:prescription-close", close, needs=(WORK,)),
        _on_order("withdraw", f"{OWN}:prescription-withdraw", withdraw, needs=(("MedicationRequest", "u"),)),
        _on_order("answer-withdrawal", f"{OWN}:prescription-answer-withdrawal", answer_withdrawal, needs=(WORK,)),
        _on_order("stock", f"{OWN}:prescription-stock", stock, needs=(("Communication", "c"),)),
        Operation(
            "changes",
            f"{OWN}:prescription-changes",
            changes,
            types=("MedicationRequest",),
            type=True,
            elevated=True,
        ),
    ),
    rules=(("Task", task_rule), ("MedicationDispense", dispense_rule)),
    join=join,
    during=during,
    companions=(("MedicationRequest", tell_of_orders), ("MedicationDispense", hold_dispenses)),
)
