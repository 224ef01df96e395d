"""The OperationDefinitions that this server carries: where they are read, and what is read there.

They are no stored resources, so they have no versions, and searches and histories do not find them. A stored one of the
same id goes before.

Spec: https://hl7.org/fhir/R4/operationdefinition.html, https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from functools import lru_cache

from fhir_server.model import codec
from profiles.operations import OWN, own_definitions

TYPE = "OperationDefinition"


def address_of(definition: str, base_url: str) -> str:
    """The canonical URL of a definition; of one that this server carries, where it is read."""
    return f"{base_url}/{TYPE}/{definition.removeprefix(OWN)}" if definition.startswith(OWN) else definition


@lru_cache(maxsize=64)
def carried(resource_type: str, resource_id: str, base_url: str) -> bytes | None:
    """The definition that this server carries under an id, as JSON; None where it carries none."""
    definition = own_definitions().get(resource_id) if resource_type == TYPE else None
    return None if definition is None else codec.encode({**definition, "url": address_of(definition["url"], base_url)})
