"""Who may write AuditEvents over FHIR: other systems may add theirs; nobody changes or removes any.

Spec: https://hl7.org/fhir/R4/auditevent.html#bnr
"""

from __future__ import annotations

from fhir_server.audit.resource import PREFIX, TYPE
from fhir_server.model.access import Identity, Verb


def may_write(resource_type: str, resource_id: str | None, verb: Verb, identity: Identity) -> bool:
    """Whether a rule of the trail stands against a change, for the guard to ask before its own.

    Args:
        resource_id: of a create under an id that the client has chosen; None where the server makes one
        verb: `c`, `u` or `d`; whatever else is asked of AuditEvents is no change
        identity: of a system client; a scope of the level `system` must have granted it to create AuditEvents
    """
    if resource_type != TYPE or verb not in "cud":
        return True
    if verb != "c" or (resource_id is not None and resource_id.startswith(PREFIX)):
        return False
    if identity.role == "operator":
        return True
    return identity.role == "system" and any(
        scope.level == "system" and "c" in scope.verbs and scope.type in ("*", TYPE) for scope in identity.scopes
    )
