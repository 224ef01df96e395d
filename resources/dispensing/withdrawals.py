"""`$withdraw` and `$answer-withdrawal`: the prescriber takes a prescription back.

While no pharmacy has claimed it, it is gone at once. Afterwards the pharmacy is asked, and the prescription stays in
force until it agrees: it may have been handed out a moment ago.

Spec: the shape is that of HL7's Clinical Order Workflows: a cancellation request is a Task (`abort`) about the Task
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ConflictError
from fhir_server.model.exchange import Answer, Request
from resources.dispensing.claims import ended, require_holder
from resources.dispensing.codes import reference_in
from resources.dispensing.desk import Desk, at_desk, require_concerned, require_seen, told
from resources.dispensing.papers import to_see_to, withdrawal_of
from resources.dispensing.states import DISPENSED, FAILED, FREE, HELD, WITHDRAWN
from resources.dispensing.who import pharmacy_of, require_prescriber
from resources.dispensing.wording import reason_in

Json = dict[str, Any]

#: What a prescription that is taken back can become.
BECOMES = ("cancelled", "stopped", "entered-in-error")


async def withdraw(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$withdraw: take it back, or ask the pharmacy that has it to stop (202).

    Raises:
        ForbiddenError: 403; the caller is not its prescriber.
        ConflictError: 409; it was done or taken back before, or the pharmacy was asked already.
    """
    inputs = Inputs.of(request)
    inputs.only("reason", "status")
    reason, wanted, order_id = reason_in(inputs), inputs.choice("status", BECOMES) or BECOMES[0], request.path[1]
    await require_seen(context, order_id)

    async def work(desk: Desk) -> tuple[Desk, bool]:
        await require_prescriber(desk.unit, context.caller, desk.order)
        supply = desk.supply
        if supply.state in HELD and supply.owner is not None:
            if supply.withdrawal is not None:
                raise ConflictError(
                    f"The pharmacy was asked already (Task/{supply.withdrawal}).", key="HS-RX-WITHDRAWAL"
                )
            asking = withdrawal_of(desk.order, desk.id, f"Task/{supply.task}", supply.owner, wanted, reason)
            (version,) = await desk.write(asking)
            desk.supply = supply.but(withdrawal=version.id)
            await desk.keep()
            await desk.tell_pharmacies(version)
            return desk, False
        if supply.state in FREE:
            await desk.move(WITHDRAWN, reason=reason, withdrawn_us=now_us())
        elif supply.state != FAILED or desk.order.get("status") not in ("active", "on-hold"):
            raise ended(desk)
        await desk.become(wanted, reason)
        await desk.tell("withdrawn")
        return desk, True

    desk, gone = await at_desk(context, order_id, "withdraw", work)
    rows: list[Json] = [{"name": "prescription", "resource": desk.order}]
    if not gone:
        rows.append({"name": "task", "resource": codec.decode(desk.made[0].body or b"")})
    return told(parameters_of(*rows), desk.made, 200 if gone else 202)


async def answer_withdrawal(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$answer-withdrawal: the pharmacy stops, or says why it does not.

    Raises:
        ConflictError: 409; nobody has asked, or all was handed out.
        ForbiddenError: 403; the secret is wrong.
    """
    inputs = Inputs.of(request)
    inputs.only("answer", "reason", "secret", "pharmacy")
    pharmacy, secret, order_id = pharmacy_of(context, inputs), inputs.text("secret"), request.path[1]
    answer = inputs.required("answer", inputs.choice("answer", ("accept", "reject")))
    reason = reason_in(inputs) if answer == "reject" or inputs.one("reason") is not None else None

    async def work(desk: Desk) -> Desk:
        await require_concerned(context, desk, pharmacy)
        require_holder(desk, pharmacy, secret)
        asked = desk.supply.withdrawal
        if asked is None:
            raise ConflictError(f"The prescriber does not want {desk.reference} back.", key="HS-RX-WITHDRAWAL")
        if answer == "accept" and desk.supply.state == DISPENSED:
            raise ConflictError(f"All of {desk.reference} was handed out: reject, and say so.", key="HS-RX-STATE")
        task = codec.decode((await desk.repository.read("Task", asked)).body or b"")
        task |= {"status": "completed" if answer == "accept" else "rejected", "lastModified": instant_of(now_us())}
        if reason is not None:
            task["statusReason"] = {"text": reason}
        (version,) = await desk.write(task)
        desk.supply = desk.supply.but(withdrawal=None)
        await desk.keep()
        await desk.tell_pharmacies(version)
        if answer == "accept":
            wanted = next(row["valueCode"] for row in task["input"] if row["type"]["text"] == "status")
            await desk.move(WITHDRAWN, secret=None, reason=reason, withdrawn_us=now_us())
            await desk.become(wanted, task["reasonCode"]["text"])
            await desk.tell("withdrawn", sender=pharmacy)
        else:
            await desk.write(to_see_to("withdrawal-refused", desk.order, desk.id, reason))
            prescriber = reference_in(desk.order.get("requester"))
            await desk.notify([prescriber], "prescription-withdrawal-refused", f"Task/{asked}")
        return desk

    desk = await at_desk(context, order_id, "answer-withdrawal", work)
    return told(codec.decode(desk.made[0].body or b""), desk.made)
