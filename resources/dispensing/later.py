"""What happens without a request: nobody collects a medicine, or one is handed out after it was taken back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.errors import GoneError, NotFoundError, UnprocessableError
from fhir_server.storage.unit import Unit
from resources.dispensing import pruning
from resources.dispensing.codes import reference_in
from resources.dispensing.desk import Desk, at_desk
from resources.dispensing.handing import raise_alarm
from resources.dispensing.papers import to_see_to
from resources.dispensing.states import CLAIMED, FREE, WITHDRAWN

#: The timer of each signed prescription.
NOT_COLLECTED: Final = "prescription-not-collected"

DAY_US: Final = 86_400_000_000

#: What was handed out, as far as it counts for the alarm.
HANDED_OUT: Final = frozenset({"in-progress", "completed"})


def join(context: Context) -> None:
    """Say what timers and changes bring about."""
    context.timers.register(NOT_COLLECTED, partial(not_collected, context))
    pruning.join(context)
    context.feed.register(
        Follower("dispensed-after-withdrawal", frozenset({"MedicationDispense"}), partial(dispensed_elsewhere, context))
    )


async def watch(context: Context, unit: Unit, order_id: str, moment_us: int) -> None:
    """Have it told, some days after the signature, when nothing was collected."""
    due = moment_us + context.limits.collect_days * DAY_US
    await context.timers.set_within(unit, NOT_COLLECTED, order_id, due)


async def not_collected(context: Context, timer: Timer) -> int | None:
    """Tell the patient and the prescriber, once, when nothing of a prescription was handed out."""

    async def work(desk: Desk) -> None:
        waiting = desk.supply.state in {CLAIMED, *FREE} and desk.supply.fills == 0
        if waiting and not desk.supply.missed and desk.order.get("status") == "active":
            desk.supply = desk.supply.but(missed=True)  # a process may die before its timer is done, which comes again
            await desk.keep()
            await desk.write(to_see_to("not-collected", desk.order, desk.id))
            await desk.tell("not-collected", key=f"{desk.reference}/not-collected")

    await _if_there(context, timer.key, "not-collected", work)
    return None


async def dispensed_elsewhere(context: Context, changes: Sequence[Changed]) -> None:
    """Raise the alarm for what a program reports as handed out after the pharmacy had agreed not to."""
    for changed in changes:
        if changed.body is None:
            continue
        dispense = codec.decode(changed.body)
        if dispense.get("status") not in HANDED_OUT:
            continue
        performers = [reference_in(row.get("actor")) for row in dispense.get("performer", ())]
        for prescription in dispense.get("authorizingPrescription", ()):
            kind, _, order_id = (reference_in(prescription) or "").partition("/")
            if kind == "MedicationRequest":
                await _if_there(context, order_id, "dispense", partial(_alarm, performers, changed.at_us))


async def _alarm(performers: Sequence[str | None], at_us: int, desk: Desk) -> None:
    since = desk.supply.withdrawn_us
    if desk.supply.state == WITHDRAWN and since is not None and at_us > since:
        pharmacy = next((one for one in performers if one is not None), None)
        await raise_alarm(desk, pharmacy or desk.supply.owner or desk.reference)


async def _if_there(context: Context, order_id: str, by: str, work: Callable[[Desk], Awaitable[None]]) -> None:
    """Do something with a prescription that was signed here; nothing where there is none (any longer)."""
    try:
        await at_desk(context, order_id, by, work)
    except (NotFoundError, GoneError):
        return
    except UnprocessableError as refused:
        if refused.issues[0].key != "HS-RX-NOT-SIGNED":
            raise
