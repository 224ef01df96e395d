"""`$dispense` and `$close`: what is handed out of a prescription, and the end of the work on it."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id, now_us
from fhir_server.model.errors import ConflictError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.changes import Change
from fhir_server.storage.document import Version
from resources.dispensing.claims import require_dispensable, require_holder, require_no_withdrawal
from resources.dispensing.codes import concept, ref, reference_in
from resources.dispensing.desk import ORDER, Desk, at_desk, require_concerned, told
from resources.dispensing.papers import alarm, to_see_to, work_on
from resources.dispensing.rows import keep
from resources.dispensing.states import ADDRESSED, CLAIMED, CLOSED, DISPENSED, FAILED, PARTLY, WITHDRAWN
from resources.dispensing.who import pharmacy_of
from resources.dispensing.wording import in_unit_of, number_of, reason_in

Json = dict[str, Any]

SUPPLY_TYPE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


async def dispense(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$dispense: hand out a part or all of what is due.

    Raises:
        ConflictError: 409; nothing is left, the prescriber has taken it back, or another pharmacy has it.
        ForbiddenError: 403; the secret is wrong.
        UnprocessableError: 422; more than is prescribed, or another medicine where that is not allowed.
    """
    inputs = Inputs.of(request)
    inputs.only("secret", "quantity", "medication", "substitution-reason", "when", "pharmacy")
    pharmacy, secret = pharmacy_of(context, inputs), inputs.text("secret")
    quantity, medication, moment = inputs.resource("quantity"), inputs.resource("medication"), inputs.text("when")
    reason = None if inputs.one("substitution-reason") is None else reason_in(inputs, "substitution-reason")
    user = context.caller.identity.fhir_user

    async def work(desk: Desk) -> Version | None:
        if desk.supply.state == WITHDRAWN and desk.supply.owner == pharmacy:
            await raise_alarm(desk, pharmacy)
            return None
        await require_concerned(context, desk, pharmacy)
        require_holder(desk, pharmacy, secret)
        require_no_withdrawal(desk)
        require_dispensable(desk)
        handed = counted(desk, quantity)
        state = handed.pop("state")
        dispensed: Json = {
            "resourceType": "MedicationDispense",
            "status": "completed",
            **medicine_of(desk.order, medication, reason, user or pharmacy),
            "subject": desk.order["subject"],
            "performer": [{"actor": ref(one)} for one in dict.fromkeys((pharmacy, user)) if one is not None],
            "authorizingPrescription": [ref(desk.reference)],
            **handed.pop("said"),
            "whenHandedOver": moment or instant_of(now_us()),
            **{name: desk.order[name] for name in ("dosageInstruction",) if name in desk.order},
        }
        (version,) = await desk.write(dispensed)
        await desk.move(state, **handed)
        return version

    desk_made: list[Version] = []

    async def noted(desk: Desk) -> Version | None:
        version = await work(desk)
        desk_made[:] = desk.made
        return version

    version = await at_desk(context, request.path[1], "dispense", noted)
    if version is None:
        raise ConflictError(
            f"{ORDER}/{request.path[1]} was taken back and your pharmacy has agreed; it must not be dispensed. The "
            "prescriber was told of this.",
            key="HS-RX-WITHDRAWN",
        )
    return told(codec.decode(version.body or b""), desk_made, 201)


async def raise_alarm(desk: Desk, pharmacy: str) -> None:
    """Once for each prescription: a DetectedIssue, and a Task for the prescriber."""
    if desk.supply.alarmed:
        return
    desk.supply = desk.supply.but(alarmed=True)
    await keep(desk.unit, desk.supply)
    await desk.write(
        alarm(desk.order, desk.id, pharmacy), to_see_to("dispensed-after-withdrawal", desk.order, desk.id, pharmacy)
    )
    prescriber = reference_in(desk.order.get("requester"))
    await desk.notify([prescriber], "alarm", f"{desk.reference}/dispensed-after-withdrawal")


def counted(desk: Desk, quantity: Json | None) -> Json:
    """What the row of the prescription says after this one is handed out, `state`, and the elements that say it.

    Raises:
        ConflictError: 409; nothing is left.
        UnprocessableError: 422; more than is due now.
    """
    asked = desk.order.get("dispenseRequest", {})
    prescribed, supplies = asked.get("quantity"), 1 + int(asked.get("numberOfRepeatsAllowed", 0))
    supply = desk.supply
    if prescribed is None or "value" not in prescribed:
        if supply.fills >= supplies:
            raise _nothing_left(desk)
        fills = supply.fills + 1
        said: Json = {"type": kind_of(fills, complete=True)} | ({"quantity": quantity} if quantity else {})
        return {"state": DISPENSED if fills == supplies else PARTLY, "said": said, "fills": fills}
    each = number_of(prescribed)
    due = each * supplies - supply.amount
    if due <= 0:
        raise _nothing_left(desk)
    open_now = min(due, each - supply.amount % each)
    given = open_now if quantity is None else in_unit_of(quantity, prescribed)
    if not 0 < given <= open_now:
        raise UnprocessableError(
            f"{given} was asked for; {open_now} of the {each} of this supply can be dispensed, and {due} in all.",
            key="HS-RX-QUANTITY",
            expression="Parameters.parameter.where(name='quantity')",
        )
    amount = supply.amount + given
    said = {
        "type": kind_of(int(supply.amount // each) + 1, complete=given == each),
        "quantity": {**prescribed, "value": given},
    }
    state = DISPENSED if given == due else PARTLY
    return {"state": state, "said": said, "given": str(amount), "fills": supply.fills + 1}


def kind_of(supply: int, *, complete: bool) -> Json:
    """Whether it is the first supply or a repeat, and all of it or a part."""
    code = ("FF" if supply == 1 else "RF") + ("C" if complete else "P")
    words = ("First Fill" if supply == 1 else "Refill") + (" - Complete" if complete else " - Part Fill")
    return concept(SUPPLY_TYPE, code, words)


def medicine_of(order: Json, other: Json | None, reason: str | None, by: str) -> Json:
    """The medicine that is handed out: what is prescribed, or another one with the reason.

    Raises:
        UnprocessableError: 422; the prescriber does not allow another one, or there is no reason.
    """
    name = next(key for key in order if key.startswith("medication"))
    if other is None or other == order[name]:
        return {name: order[name]}
    allowed = order.get("substitution", {})
    codes = {coding.get("code") for coding in allowed.get("allowedCodeableConcept", {}).get("coding", ())}
    if allowed.get("allowedBoolean") is False or "N" in codes:
        raise UnprocessableError(
            "The prescriber allows no other medicine.",
            key="HS-RX-SUBSTITUTION",
            expression="MedicationRequest.substitution",
        )
    if reason is None:
        raise UnprocessableError(
            "Another medicine than the prescribed one needs a reason: 'substitution-reason'.",
            key="HS-RX-SUBSTITUTION",
            expression="Parameters.parameter.where(name='substitution-reason')",
        )
    return {
        "medicationCodeableConcept": other,
        "substitution": {"wasSubstituted": True, "reason": [{"text": reason}], "responsibleParty": [ref(by)]},
    }


def _nothing_left(desk: Desk) -> ConflictError:
    return ConflictError(f"All of {desk.reference} was dispensed; $close it.", key="HS-RX-STATE")


async def close(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$close: the pharmacy is done.

    What is left of it (repeats, the rest of a part) waits for the next time, addressed to the same pharmacy, unless
    `final` says that this was all.

    Raises:
        ConflictError: 409; nothing was dispensed, so that it is to be rejected, or it is not this pharmacy's.
        ForbiddenError: 403; the secret is wrong.
    """
    inputs = Inputs.of(request)
    inputs.only("secret", "final", "failed", "reason", "pharmacy")
    pharmacy, secret, order_id = pharmacy_of(context, inputs), inputs.text("secret"), request.path[1]
    final, failed = inputs.flag("final"), inputs.flag("failed")
    reason = reason_in(inputs) if failed or inputs.one("reason") is not None else None

    async def work(desk: Desk) -> Desk:
        await require_concerned(context, desk, pharmacy)
        require_holder(desk, pharmacy, secret)
        require_no_withdrawal(desk)
        supply = desk.supply
        if supply.state == CLAIMED:
            if not failed:
                raise ConflictError(
                    f"Nothing of {desk.reference} was dispensed: $reject it, or $close it as 'failed'.",
                    key="HS-RX-STATE",
                )
            await desk.move(FAILED, reason=reason, secret=None)
            await desk.write(to_see_to("failed", desk.order, desk.id, reason))
            await desk.tell("failed", sender=pharmacy)
            return desk
        await desk.move(CLOSED, reason=reason, secret=None)
        if supply.state == PARTLY and not final:
            await _next(desk, pharmacy)
        elif desk.order.get("status") in ("active", "on-hold"):
            await desk.become("completed", reason)
        return desk

    desk = await at_desk(context, order_id, "close", work)
    return told(parameters_of({"name": "task", "resource": codec.decode(desk.made[0].body or b"")}), desk.made)


async def _next(desk: Desk, pharmacy: str) -> None:
    """The work on what is left."""
    task = work_on(desk.order, desk.id, ADDRESSED, pharmacy)
    change = Change("POST", "Task", new_id(), task, fresh=True, by=desk.by)
    version = (await desk.repository.commit_within(desk.unit, [desk.repository.check(change)]))[0].version
    desk.made.append(version)
    desk.supply = desk.supply.but(task=version.id, state=ADDRESSED)
    await keep(desk.unit, desk.supply)
    await desk.tell_pharmacies(version)
