"""This server's own profiles and their examples, as the tests speak of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.model.codec import decode
from profiles.registry import STRUCTURES, own_definitions

Json = dict[str, Any]

EXAMPLES = Path(__file__).parents[2] / "profiles" / "examples"
PREFIX = "urn:healthsphere:StructureDefinition:"

#: The profiles by their ids, without the extensions.
PROFILES = {one["id"]: one for one in own_definitions(STRUCTURES) if one["kind"] == "resource"}


@cache
def good() -> dict[str, Json]:
    """The good examples by the name of their file: that of the profile, and what is special about it."""
    return {path.stem: decode(path.read_bytes()) for path in sorted((EXAMPLES / "good").glob("*.json"))}


@cache
def bad() -> dict[str, list[Json]]:
    """By profile, faults: what to change of its good example (JSON Merge Patch), and the issue that must come of it."""
    return {path.stem: decode(path.read_bytes()) for path in sorted((EXAMPLES / "bad").glob("*.json"))}


def profile_of(name: str) -> str:
    """The id of the profile that an example is of."""
    return name.partition(".")[0]


def of_ours(resource: Json) -> Json:
    """The resource without the profiles of others that it claims."""
    claims = [claim for claim in resource["meta"]["profile"] if claim.startswith(PREFIX)]
    return {**resource, "meta": {**resource["meta"], "profile": claims}}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
