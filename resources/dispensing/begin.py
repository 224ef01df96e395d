"""How the work on a prescription begins: with its signature."""

from __future__ import annotations

from typing import Any

from fhir_server.model.clock import new_id
from fhir_server.repository.changes import Change
from fhir_server.repository.repository import Repository
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit
from resources.dispensing import feed
from resources.dispensing.codes import pharmacy_in
from resources.dispensing.papers import work_on
from resources.dispensing.rows import Supply, keep
from resources.dispensing.states import ADDRESSED, OPEN

Json = dict[str, Any]


async def begin(
    unit: Unit, repository: Repository, order: Json, signed: Version, token: str, provenance: str
) -> Version:
    """Make the Task that asks for it, of the pharmacy that the prescription names or of any that shows the token.

    Args:
        order: the MedicationRequest as it was signed
        signed: that version
        token: digest of the pull token
        provenance: the id of the Provenance that holds the signature
    """
    owner = pharmacy_in(order)
    state = OPEN if owner is None else ADDRESSED
    change = Change("POST", "Task", new_id(), work_on(order, signed.id, state, owner), fresh=True, by="sign")
    version = (await repository.commit_within(unit, [repository.check(change)]))[0].version
    await keep(unit, Supply(signed.id, signed.version, state, version.id, token, provenance, owner))
    if owner is not None:
        await feed.add(unit, [(owner, version)])
    return version
