"""Which prescriptions are meant: one, or all drafts of a group, which are written, checked and signed together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Request
from fhir_server.storage.document import Version
from resources.dispensing.codes import is_prescription, reference_in
from resources.prescription.gathering import medicine_of
from resources.prescription.medicines import medicines

Json = dict[str, Any]

ORDER = "MedicationRequest"

#: Medicines that are signed at once.
MOST = 50


@dataclass(frozen=True, slots=True)
class Draft:
    """A prescription that is to be signed, as it was read."""

    version: Version
    order: Json

    @property
    def id(self) -> str:
        return self.version.id

    @property
    def reference(self) -> str:
        return f"{ORDER}/{self.id}"


async def drafts_of(context: Context, request: Request, inputs: Inputs) -> list[Draft]:
    """The prescriptions that a call names, as the caller sees them.

    Raises:
        NotFoundError: 404; there is none.
        UnprocessableError: 422; they are of several patients.
    """
    if len(request.path) == 3:
        versions = [await context.repository.read(ORDER, request.path[1])]
    else:
        group = group_in(inputs)
        criteria = f"group-identifier={group}&status=draft"
        versions = await context.searcher.matches(ORDER, criteria, limit=MOST + 1)
        if not versions:
            raise NotFoundError("There are no drafts of that group.", key="HS-RX-GROUP")
        if len(versions) > MOST:
            raise UnprocessableError(f"The group has more than {MOST} drafts.", key="HS-RX-GROUP")
    drafts = [Draft(version, codec.decode(version.body or b"")) for version in versions]
    if len({reference_in(draft.order.get("subject")) for draft in drafts}) > 1:
        raise UnprocessableError("The prescriptions of the group are of several patients.", key="HS-RX-GROUP")
    return drafts


def group_in(inputs: Inputs) -> str:
    """A group's identifier, as a search has it.

    Raises:
        InvalidError: 400; there is none.
    """
    given = inputs.required("group", inputs.one("group"))
    if isinstance(given, dict):
        given = f"{given.get('system', '')}|{given.get('value', '')}"
    if not isinstance(given, str) or not given.strip("|"):
        raise InvalidError(
            "'group' is an Identifier, or its text 'system|value'.",
            code="value",
            expression="Parameters.parameter.where(name='group')",
            key="HS-OP-PARAMETER",
        )
    return given.replace("&", "%26").replace("#", "%23").replace("+", "%2B").replace(" ", "%20")


async def require_signable(context: Context, draft: Draft) -> None:
    """It is a draft of an order that says enough, and of nothing that needs more than this server has.

    Raises:
        UnprocessableError: 422; it is not.
    """
    order = draft.order
    if order.get("status") != "draft":
        raise UnprocessableError(
            f"{draft.reference} is {order.get('status')!r}; only a 'draft' is signed.",
            key="HS-RX-NO-DRAFT",
            expression="MedicationRequest.status",
        )
    if not is_prescription(order):
        raise UnprocessableError(
            f"{draft.reference} is a {order.get('intent')!r} or a report; only an order is signed.",
            key="HS-RX-NO-DRAFT",
            expression="MedicationRequest.intent",
        )
    if order.get("doNotPerform") is True:
        raise UnprocessableError(
            f"{draft.reference} says not to give the medicine; that is nothing to dispense.",
            key="HS-RX-NO-DRAFT",
            expression="MedicationRequest.doNotPerform",
        )
    missing = [name for name in ("requester", "dosageInstruction") if not order.get(name)]
    if not (reference_in(order.get("subject")) or "").startswith("Patient/"):
        missing.append("subject (a Patient)")
    concepts, _ = await medicine_of(context, order)
    meant = medicines().meant_by(concepts)
    if not meant.label:
        missing.append("medication (with a name or a code)")
    if missing:
        raise UnprocessableError(
            f"{draft.reference} lacks {', '.join(missing)}.",
            key="HS-RX-INCOMPLETE",
            expression=f"MedicationRequest.{missing[0].partition(' ')[0]}",
        )
    if (schedule := medicines().schedule_of(meant)) is not None:
        raise UnprocessableError(
            f"{meant.label} is a controlled substance ({schedule}). Prescribing these electronically needs a certified "
            "procedure (in the USA 21 CFR 1311), which this server does not have: use one that does, or paper.",
            key="HS-RX-CONTROLLED",
            expression="MedicationRequest.medication",
        )
