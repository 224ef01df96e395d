"""What holds for every write of a MedicationRequest: its states, that what is signed stays so, and who changes it."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.changes import Json
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import MAINTENANCE, Write
from fhir_server.storage.unit import Unit
from resources.dispensing.codes import OPERATIONS, PEOPLE, SIGNED, is_marked, is_prescription, marked, unmarked
from resources.dispensing.who import is_prescriber
from resources.prescription.signature import canonical
from resources.prescription.states import PRESCRIPTION, RECORD
from resources.prescription.states import SIGNED as SIGNED_STATES

#: In force: what pharmacies dispense.
IN_FORCE = ("active", "on-hold")

#: What may still change of a signed prescription.
MAY_CHANGE = frozenset({"status", "statusReason"})


def prescription_rule(write: Write) -> Json | None:
    """The states of a prescription, and what the signature closes.

    Raises:
        UnprocessableError: 422; a state that does not follow or needs an operation, a change of what is signed, or a
            prescription in force that nobody has signed.
    """
    old, new = write.old, write.new
    signed = is_marked(old, SIGNED)
    if new is None:
        if signed:
            raise UnprocessableError(
                f"{write.reference} was signed; it is taken back by $withdraw (with 'entered-in-error', if it never "
                "should have been), and stays.",
                key="HS-RX-SIGNED",
                expression="MedicationRequest",
            )
        return None
    if signed and old is not None:
        SIGNED_STATES.rule(write)
        _require_same(write, old, new)
        return marked(new, SIGNED)
    prescribed = is_prescription(new) or (old is not None and is_prescription(old))
    (PRESCRIPTION if prescribed else RECORD).rule(write)
    if write.by == "sign":
        return new
    if write.caller.identity.role in PEOPLE and is_prescription(new) and new.get("status") in IN_FORCE:
        was = old is not None and is_prescription(old) and old.get("status") in IN_FORCE
        if not was:
            raise UnprocessableError(
                "A prescription comes into force by its prescriber's signature: write it as a draft, and call $sign.",
                key="HS-RX-UNSIGNED",
                expression="MedicationRequest.status",
            )
    return unmarked(new, (SIGNED,))


def _require_same(write: Write, old: Json, new: Json) -> None:
    """What is signed is the same afterwards.

    Raises:
        UnprocessableError: 422; it is not.
    """
    before = {name: value for name, value in old.items() if name not in MAY_CHANGE}
    after = {name: value for name, value in new.items() if name not in MAY_CHANGE}
    if canonical(before) == canonical(after) and before.get("text") == after.get("text"):
        return
    changed = sorted(
        name
        for name in {*before, *after} - {"id", "meta"}
        if canonical({"x": before.get(name)}) != canonical({"x": after.get(name)})
    )
    raise UnprocessableError(
        f"{write.reference} is signed; its {', '.join(changed)} cannot change. Write a new prescription with "
        "'priorPrescription', and $withdraw this one.",
        key="HS-RX-SIGNED",
        expression=f"MedicationRequest.{changed[0]}",
    )


async def hold_to_prescriber(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of MedicationRequest: people change only what they prescribe themselves.

    Programs and the operator import; what was signed here, programs do not change either.

    Raises:
        ForbiddenError: 403; somebody else's prescription.
    """
    for write in writes:
        if write.by in OPERATIONS | MAINTENANCE:
            continue
        role = write.caller.identity.role
        content = write.old if write.old is not None else write.new
        if content is None or role == "operator" or (role == "system" and not is_marked(write.old, SIGNED)):
            continue
        if write.old is None or ("requester" not in content and content.get("status") == "draft"):
            continue  # drafts may be prepared for somebody, who signs them
        if is_prescription(content) and not await is_prescriber(unit, write.caller, content):
            raise ForbiddenError(
                f"{write.reference} is changed by its prescriber (the requester) alone.",
                key="HS-RX-NOT-PRESCRIBER",
                expression="MedicationRequest.requester",
            )
