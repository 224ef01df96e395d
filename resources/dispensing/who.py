"""Who acts: the pharmacy for which somebody calls, and whether somebody is the prescriber."""

from __future__ import annotations

from typing import Any, Protocol

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.access import Caller, Verb
from fhir_server.model.errors import ForbiddenError, InvalidError
from fhir_server.storage.document import Version
from resources.dispensing.codes import reference_in

Json = dict[str, Any]


class Reads(Protocol):
    async def get(self, resource_type: str, resource_id: str, verb: Verb = "r") -> Version | None: ...


def pharmacy_of(context: Context, inputs: Inputs) -> str:
    """The pharmacy for which somebody calls: that of their token; the operator names one by `pharmacy`.

    Raises:
        ForbiddenError: 403; the caller works for no pharmacy.
        InvalidError: 400; the operator names none.
    """
    identity = context.caller.identity
    if identity.role == "pharmacy":
        if identity.organization is None:
            raise ForbiddenError(
                "Your account names no organization, so no pharmacy for which you could act.", key="HS-RX-NO-PHARMACY"
            )
        return identity.organization
    if identity.role != "operator":
        raise ForbiddenError("This is for pharmacies.", key="HS-RX-NO-PHARMACY")
    return organization_in(inputs.required("pharmacy", inputs.one("pharmacy")), "pharmacy")


def organization_in(given: Any, name: str) -> str:
    """An Organization, from a Reference or its text.

    Raises:
        InvalidError: 400; it is none.
    """
    text = given.get("reference") if isinstance(given, dict) else given
    if not isinstance(text, str) or not text.startswith("Organization/") or text.count("/") != 1:
        raise InvalidError(
            f"{name!r} is {str(text)[:80]!r}; a reference to an Organization of this server was expected.",
            code="value",
            expression=f"Parameters.parameter.where(name='{name}')",
            key="HS-OP-PARAMETER",
        )
    return text


async def is_prescriber(reads: Reads, caller: Caller, order: Json) -> bool:
    """Whether somebody is the requester of a MedicationRequest, in person or by one of their roles."""
    user, requester = caller.identity.fhir_user, reference_in(order.get("requester"))
    if caller.identity.role != "practitioner" or user is None or requester is None:
        return False
    return user == requester or await _person(reads, user) == await _person(reads, requester)


async def _person(reads: Reads, reference: str) -> str | None:
    """The Practitioner of a PractitionerRole; a Practitioner is one."""
    kind, _, resource_id = reference.partition("/")
    if kind != "PractitionerRole":
        return reference
    role = await reads.get(kind, resource_id)
    if role is None or role.body is None:
        return reference  # itself, which is no other person
    found = codec.decode(role.body)
    return (reference_in(found.get("practitioner")) or reference) if found.get("active") is not False else reference


async def require_prescriber(reads: Reads, caller: Caller, order: Json) -> None:
    """Only who prescribed it goes on; the operator may stand in.

    Raises:
        ForbiddenError: 403; the caller is somebody else.
    """
    if caller.identity.role == "operator" or await is_prescriber(reads, caller, order):
        return
    raise ForbiddenError(
        "Only the prescriber (the requester of the MedicationRequest) may do that.",
        key="HS-RX-NOT-PRESCRIBER",
        expression="MedicationRequest.requester",
    )
