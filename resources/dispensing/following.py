"""What is written along with prescriptions: pharmacies are told of each version that concerns them."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.storage.unit import Unit
from resources.dispensing import feed
from resources.dispensing.codes import pharmacy_in, reference_in
from resources.dispensing.rows import supplies_of


async def tell_of_orders(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of MedicationRequest: tells the pharmacy that it names or named, and the one that has it."""
    written = [one for one in writes if not is_draft(one)]
    if not written:
        return
    supplies = await supplies_of(unit, [one.id for one in written])
    concerned: dict[str, set[str]] = {}
    for one in written:
        named = {pharmacy_in(content) for content in (one.old, one.new) if content is not None}
        if one.id in supplies:
            named.add(supplies[one.id].owner)
        if pharmacies := {name for name in named if name is not None and name.startswith("Organization/")}:
            concerned[one.id] = pharmacies
    if not concerned:
        return
    versions = await unit.get_many("MedicationRequest", list(concerned))
    await feed.add(
        unit,
        [(pharmacy, versions[order]) for order, pharmacies in concerned.items() for pharmacy in sorted(pharmacies)],
    )


def is_draft(write: Write) -> bool:
    """Whether a write is the prescriber's own matter: a draft stays one, or goes."""
    before = None if write.old is None else write.old.get("status")
    after = None if write.new is None else write.new.get("status")
    return {before, after} <= {None, "draft"}


async def hold_dispenses(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """The companion of MedicationDispense: what was signed here is handed out by `$dispense` alone.

    Programs and the operator import what was handed out elsewhere.

    Raises:
        UnprocessableError: 422; a pharmacy writes one by itself.
    """
    plain = [
        one
        for one in writes
        if one.by == "" and one.old is None and one.new is not None and one.caller.identity.role == "pharmacy"
    ]
    named = {
        reference.partition("/")[2]
        for one in plain
        for prescription in (one.new or {}).get("authorizingPrescription", ())
        if (reference := reference_in(prescription)) is not None
    }
    if named and (known := await supplies_of(unit, sorted(named))):
        raise UnprocessableError(
            f"MedicationRequest/{next(iter(known))} was signed here; hand it out by its $dispense, which counts.",
            key="HS-RX-DISPENSE",
            expression="MedicationDispense.authorizingPrescription",
        )
