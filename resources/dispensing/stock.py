"""`$stock`: a pharmacy says whether it has the medicine, before anybody claims it."""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import ConflictError
from fhir_server.model.exchange import Answer, Request
from resources.dispensing.claims import ended
from resources.dispensing.codes import concept
from resources.dispensing.desk import Desk, at_desk, require_concerned, told
from resources.dispensing.states import FREE, HELD
from resources.dispensing.tokens import is_it
from resources.dispensing.who import pharmacy_of

STOCK = "urn:healthsphere:stock"
ANSWERS = {
    "available": "The pharmacy has it",
    "partly": "The pharmacy has a part of it",
    "none": "The pharmacy does not have it",
    "later": "The pharmacy will have it",
}


async def stock(context: Context, request: Request) -> Answer:
    """MedicationRequest/[id]/$stock: the patient and the prescriber read the answer as a Communication.

    Raises:
        NotFoundError: 404; it is not addressed to this pharmacy, and the pull token is missing or wrong.
        ConflictError: 409; a pharmacy has claimed it, or it is over.
    """
    inputs = Inputs.of(request)
    inputs.only("answer", "when", "quantity", "token", "pharmacy")
    pharmacy, token, order_id = pharmacy_of(context, inputs), inputs.text("token"), request.path[1]
    answer = str(inputs.required("answer", inputs.choice("answer", ANSWERS)))
    when, quantity = inputs.text("when"), inputs.resource("quantity")

    async def work(desk: Desk) -> Desk:
        if not is_it(token, desk.supply.token):
            await require_concerned(context, desk, pharmacy)
        if desk.supply.state in HELD:
            raise ConflictError(f"A pharmacy has claimed {desk.reference} already.", key="HS-RX-CLAIMED")
        if desk.supply.state not in FREE:
            raise ended(desk)
        words = ANSWERS[answer]
        if quantity is not None:
            words += f"; {quantity.get('value')} {quantity.get('unit') or quantity.get('code') or ''}".rstrip()
        if when is not None:
            words += f"; {when}"
        code = concept(STOCK, answer, ANSWERS[answer])
        await desk.tell("stock", sender=pharmacy, code=code, text=words)
        return desk

    desk = await at_desk(context, order_id, "stock", work)
    return told(codec.decode(desk.made[0].body or b""), desk.made, 201)
