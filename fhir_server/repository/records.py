"""The types that tell about the past: what was done to a record, not the record itself.

They do not hold back a deletion of what they tell about, do not go with it, and are not rewritten when it moves. The
trail of who saw what is moreover left out where all types are meant and none is named: one read more would be one row
more in every feed of changes.

Spec: https://hl7.org/fhir/R4/auditevent.html, https://hl7.org/fhir/R4/provenance.html
"""

from __future__ import annotations

from fhir_server.model.errors import MethodNotAllowedError

TRAIL = "AuditEvent"
RECORDS = frozenset({"Provenance", TRAIL})

#: Begins the ids of the AuditEvents that the trail makes; nobody else writes under such an id, nor removes one.
MADE_BY_TRAIL = "audit-"


def is_of_trail(resource_type: str, resource_id: str) -> bool:
    """Whether a resource is, or would be, one that the trail makes."""
    return resource_type == TRAIL and resource_id.startswith(MADE_BY_TRAIL)


def require_not_of_trail(resource_type: str, resource_id: str) -> None:
    """Leave alone what the trail makes.

    Raises:
        MethodNotAllowedError: 405; it is such a resource, whoever asks.
    """
    if is_of_trail(resource_type, resource_id):
        raise MethodNotAllowedError(
            f"{resource_type}/{resource_id} belongs to the audit trail: nobody makes, changes or deletes it.",
            key="HS-AUDIT-KEPT",
            headers={"Allow": "GET"},
        )
