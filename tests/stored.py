"""What tests have stored, among what searches find: they find the definitions that the server carries, too."""

from __future__ import annotations

from typing import Any

from fhir_server.repository.carried import CARRIED
from profiles.registry import own_definitions

Json = dict[str, Any]

_CARRIED = {(kind, one["id"]) for kind in CARRIED for one in own_definitions(kind)}


def stored(bundle: Json) -> list[Json]:
    """The entries of a searchset whose resources are not the server's own definitions."""
    found = bundle.get("entry", [])
    return [e for e in found if (e["resource"]["resourceType"], e["resource"]["id"]) not in _CARRIED]
