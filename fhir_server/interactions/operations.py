"""The operations of this server, beside the table of interactions.

`dispatch`, the CapabilityStatement and the documentation read this table.

Spec: https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from fhir_server.interactions.meta import meta, meta_add, meta_delete
from fhir_server.interactions.registration import Operation
from fhir_server.interactions.validate import validate
from fhir_server.interactions.versions import versions

CORE = "http://hl7.org/fhir/OperationDefinition"

OPERATIONS: tuple[Operation, ...] = (
    Operation("validate", f"{CORE}/Resource-validate", validate, type=True, instance=True),
    Operation("meta", f"{CORE}/Resource-meta", meta, instance=True),
    Operation("meta-add", f"{CORE}/Resource-meta-add", meta_add, instance=True, affects_state=True),
    Operation("meta-delete", f"{CORE}/Resource-meta-delete", meta_delete, instance=True, affects_state=True),
    Operation("versions", f"{CORE}/CapabilityStatement-versions", versions, system=True),
)
