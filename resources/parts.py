"""All that this server does beyond FHIR's own interactions, in one place."""

from __future__ import annotations

from fhir_server.interactions.operations import OPERATIONS as INTERACTIONS
from fhir_server.interactions.registration import Operation
from fhir_server.repository.rules import Rules
from resources.dispensing import part as dispensing
from resources.part import Part
from resources.prescription import part as prescription

PARTS: tuple[Part, ...] = (prescription.PART, dispensing.PART)

#: Every operation of this server.
OPERATIONS: tuple[Operation, ...] = (*INTERACTIONS, *(operation for part in PARTS for operation in part.operations))

#: Every rule.
RULES = Rules.of(
    (row for part in PARTS for row in part.rules),
    (row for part in PARTS for row in part.companions),
)
