"""The definitions that this server carries: where they are read, and what is read there.

They are no stored resources, so they have no versions, and histories do not find them. A stored one of the same id goes
before. Searches find them among what is stored (`repository.carried`), but for operations. Those have the address at
which they are read as their canonical URL; profiles, extensions and their codes stand in data, and so have one that is
the same on every server.

Spec: https://hl7.org/fhir/R4/operationdefinition.html, https://hl7.org/fhir/R4/structuredefinition.html,
https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from fhir_server.model import codec
from fhir_server.repository.carried import CARRIED
from profiles.operations import OWN, own_definitions
from profiles.registry import own_definitions as own_of_type

TYPE: Final = "OperationDefinition"


def address_of(definition: str, base_url: str) -> str:
    """The canonical URL of a definition; of an operation that this server carries, where it is read."""
    return f"{base_url}/{TYPE}/{definition.removeprefix(OWN)}" if definition.startswith(OWN) else definition


@lru_cache(maxsize=512)
def carried(resource_type: str, resource_id: str, base_url: str) -> bytes | None:
    """The definition that this server carries under an id, as JSON; None where it carries none."""
    if resource_type == TYPE:
        definition = own_definitions().get(resource_id)
        url = address_of(definition["url"], base_url) if definition else ""
        return None if definition is None else codec.encode({**definition, "url": url})
    if resource_type not in CARRIED:
        return None
    found = next((one for one in own_of_type(resource_type) if one["id"] == resource_id), None)
    return None if found is None else codec.encode(found)
