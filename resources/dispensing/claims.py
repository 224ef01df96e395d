"""`$accept`, `$reject` and `$transfer`: which pharmacy has a prescription.

One pharmacy at a time. Who claims it gets the signed prescription and a secret that each later call must show; a
pharmacy that has lost the secret claims again and gets a new one.
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import ConflictError, ForbiddenError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.dispensing.desk import ORDER, Desk, at_desk, require_concerned, told
from resources.dispensing.papers import to_see_to
from resources.dispensing.rows import Supply, keep
from resources.dispensing.states import ADDRESSED, CLAIMED, FREE, HELD, OPEN, REFUSED
from resources.dispensing.tokens import digest_of, is_it, new_token
from resources.dispensing.who import is_prescriber, organization_in, pharmacy_of
from resources.dispensing.wording import reason_in

Json = dict[str, Any]


async def accept(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$accept: claim a prescription.

    Raises:
        NotFoundError: 404; it is not addressed to this pharmacy, and the pull token is missing or wrong.
        ConflictError: 409; another pharmacy has it, or it can no longer be dispensed.
    """
    inputs = Inputs.of(request)
    inputs.only("token", "pharmacy")
    pharmacy, token, order_id = pharmacy_of(context, inputs), inputs.text("token"), request.path[1]

    async def work(desk: Desk) -> tuple[Json, Desk]:
        supply = desk.supply
        shown = is_it(token, supply.token)
        if not shown:
            await require_concerned(context, desk, pharmacy)
        if supply.state in HELD and supply.owner != pharmacy:
            raise _taken(desk)
        if supply.state not in HELD | FREE:
            raise ended(desk)
        if not shown and supply.owner != pharmacy:
            raise ForbiddenError(
                f"{desk.reference} is not addressed to your pharmacy; show the pull token that the patient has.",
                key="HS-RX-TOKEN",
            )
        if supply.state == REFUSED:
            raise ConflictError(
                f"{desk.reference} was refused; the patient or the prescriber sends it on by $transfer.",
                key="HS-RX-STATE",
            )
        require_dispensable(desk)
        secret = new_token()
        if supply.state in HELD:  # the same pharmacy, which has lost the secret
            await _rekeyed(desk, secret)
        else:
            await desk.move(CLAIMED, owner=pharmacy, secret=digest_of(secret))
        return await _handed(desk, secret), desk

    body, desk = await at_desk(context, order_id, "accept", work)
    return told(body, desk.made)


async def _rekeyed(desk: Desk, secret: str) -> None:
    desk.supply = desk.supply.but(secret=digest_of(secret))
    await keep(desk.unit, desk.supply)


async def _handed(desk: Desk, secret: str) -> Json:
    """What the pharmacy gets: the version that was signed, its signature, the work, and the secret."""
    signed = await desk.repository.vread(ORDER, desk.id, str(desk.supply.version))
    proof = await desk.repository.read("Provenance", desk.supply.provenance)
    rows: list[Json] = [
        {"name": "prescription", "resource": codec.decode(signed.body or b"")},
        {"name": "provenance", "resource": codec.decode(proof.body or b"")},
        {"name": "task", "resource": await desk.task()},
        {"name": "secret", "valueString": secret},
    ]
    return parameters_of(*rows)


async def reject(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$reject: refuse what is addressed to the pharmacy, or give back what it has claimed.

    Raises:
        ConflictError: 409; something was dispensed already, or it is not this pharmacy's.
        ForbiddenError: 403; the secret is wrong.
    """
    inputs = Inputs.of(request)
    inputs.only("secret", "reason", "pharmacy")
    pharmacy, secret, reason = pharmacy_of(context, inputs), inputs.text("secret"), reason_in(inputs)

    async def work(desk: Desk) -> Desk:
        await require_concerned(context, desk, pharmacy)
        supply = desk.supply
        if supply.state == ADDRESSED and supply.owner == pharmacy:
            await desk.move(REFUSED, reason=reason)
            matter = "refused"
        else:
            require_holder(desk, pharmacy, secret)
            if supply.state != CLAIMED:
                raise ConflictError(
                    f"Something of {desk.reference} was dispensed: $close it, or send the rest on by $transfer.",
                    key="HS-RX-STATE",
                )
            require_no_withdrawal(desk)
            await desk.move(OPEN, owner=None, secret=None, reason=reason)
            matter = "given-back"
        await desk.write(to_see_to(matter, desk.order, desk.id, reason))
        await desk.tell(matter, sender=pharmacy)
        return desk

    desk = await at_desk(context, request.path[1], "reject", work)
    return told(codec.decode(desk.made[0].body or b""), desk.made)


async def transfer(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$transfer: send a prescription to another pharmacy, or let any pharmacy have it.

    The pharmacy that has claimed it does so with its secret; while nobody has, the prescriber or the patient.

    Raises:
        ConflictError: 409; a pharmacy has claimed it, or it can no longer be dispensed.
        ForbiddenError: 403; neither the pharmacy that has it, nor the prescriber or the patient.
    """
    inputs = Inputs.of(request)
    inputs.only("to", "secret", "pharmacy", "reason")
    given, secret, order_id = inputs.one("to"), inputs.text("secret"), request.path[1]
    target = None if given is None else organization_in(given, "to")
    reason = None if inputs.one("reason") is None else reason_in(inputs)
    caller = context.caller.identity

    async def work(desk: Desk) -> Desk:
        await require_concerned(context, desk, caller.organization or "" if caller.role == "pharmacy" else "")
        supply = desk.supply
        if supply.state not in HELD | FREE:
            raise ended(desk)
        if supply.state in HELD:
            if caller.role in ("pharmacy", "operator"):
                require_holder(desk, pharmacy_of(context, inputs), secret)
            else:
                raise _taken(desk)
            require_no_withdrawal(desk)
            if supply.state not in (CLAIMED, "partly-dispensed"):
                raise ConflictError(f"Nothing of {desk.reference} is left to send on.", key="HS-RX-STATE")
        else:
            await require_sender(desk, context)
        if target is not None and await desk.unit.get("Organization", target.partition("/")[2]) is None:
            raise UnprocessableError(f"There is no {target} on this server.", key="HS-RX-NO-PHARMACY")
        await desk.move(OPEN if target is None else ADDRESSED, owner=target, secret=None, reason=reason)
        await desk.tell("transferred")
        return desk

    desk = await at_desk(context, order_id, "transfer", work)
    return told(codec.decode(desk.made[0].body or b""), desk.made)


async def require_sender(desk: Desk, context: Context) -> None:
    """Who may send on what no pharmacy has claimed: the patient, the prescriber, the pharmacy that it is addressed to.

    Raises:
        ForbiddenError: 403; the caller is none of them.
    """
    identity = context.caller.identity
    if identity.role in ("operator", "patient", "proxy"):  # what patients and proxies see are their own records
        return
    if identity.role == "pharmacy" and identity.organization == desk.supply.owner:
        return
    if not await is_prescriber(desk.unit, context.caller, desk.order):
        raise ForbiddenError(
            "The patient, the prescriber or the pharmacy that has the prescription sends it to another one.",
            key="HS-RX-SENDER",
        )


# --- what must hold -------------------------------------------------------------------------------------------------


def require_holder(desk: Desk, pharmacy: str, secret: str | None) -> None:
    """The pharmacy has claimed it, and shows the secret.

    Raises:
        ConflictError: 409; nobody has, or another pharmacy.
        ForbiddenError: 403; the secret is missing or wrong.
    """
    supply: Supply = desk.supply
    if supply.state not in HELD:
        raise (
            ended(desk)
            if supply.state not in FREE
            else ConflictError(f"Nobody has claimed {desk.reference}; $accept it first.", key="HS-RX-STATE")
        )
    if supply.owner != pharmacy:
        raise _taken(desk)
    if not is_it(secret, supply.secret):
        raise ForbiddenError(
            "The secret is missing or wrong. $accept of the same pharmacy gives a new one.", key="HS-RX-SECRET"
        )


def require_no_withdrawal(desk: Desk) -> None:
    """The prescriber does not wait for an answer.

    Raises:
        ConflictError: 409; the prescriber has asked to stop.
    """
    if desk.supply.withdrawal is not None:
        raise ConflictError(
            f"The prescriber wants {desk.reference} back: answer Task/{desk.supply.withdrawal} by $answer-withdrawal.",
            key="HS-RX-WITHDRAWAL",
        )


def require_dispensable(desk: Desk) -> None:
    """The prescription is in force.

    Raises:
        ConflictError: 409; it is on hold, was ended, or its time has passed.
    """
    status = desk.order.get("status")
    if status != "active":
        raise ConflictError(
            f"{desk.reference} is {status!r}; only what is 'active' is dispensed.",
            key="HS-RX-STATE",
            expression="MedicationRequest.status",
        )
    end = desk.order.get("dispenseRequest", {}).get("validityPeriod", {}).get("end")
    if end is not None and interval_of(end).end_us < now_us():
        raise ConflictError(
            f"{desk.reference} was to be dispensed until {end}.",
            key="HS-RX-EXPIRED",
            expression="MedicationRequest.dispenseRequest.validityPeriod",
        )


def ended(desk: Desk) -> ConflictError:
    return ConflictError(f"The work on {desk.reference} is {desk.supply.state!r}; nothing follows.", key="HS-RX-STATE")


def _taken(desk: Desk) -> ConflictError:
    return ConflictError(f"Another pharmacy has claimed {desk.reference}.", key="HS-RX-CLAIMED")
