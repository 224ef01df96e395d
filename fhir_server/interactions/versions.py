"""`$versions`: which versions of FHIR the server speaks.

Spec: https://hl7.org/fhir/R4/capabilitystatement-operation-versions.html
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import answered, parameters_of
from fhir_server.model.exchange import Answer, Request


async def versions(_: Context, __: Request) -> Answer:
    """$versions: 4.0, which is also the default."""
    return answered(parameters_of({"name": "version", "valueCode": "4.0"}, {"name": "default", "valueCode": "4.0"}))
