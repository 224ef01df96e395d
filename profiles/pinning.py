"""Canonicals with their versions: what a definition of a package names means what that package was made with.

Several versions of a guide stand side by side, and each names its own profiles and value sets without a version.

Spec: https://hl7.org/fhir/R4/references.html#canonical
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]

#: The version that a URL without one means; None where that is left open.
VersionOf = Callable[[str], str | None]


def pinned(content: Json, version_of: VersionOf) -> Json:
    """A definition with a version at each canonical that it has none at; the one that is given is not changed."""
    match content.get("resourceType"):
        case "StructureDefinition":
            return _structure(content, version_of)
        case "ValueSet":
            return _value_set(content, version_of)
    return content


def _structure(content: Json, version_of: VersionOf) -> Json:
    found = dict(content)
    if "baseDefinition" in found:
        found["baseDefinition"] = _one(found["baseDefinition"], version_of)
    for view in ("snapshot", "differential"):
        if view in found:
            rows = [_element(row, version_of) for row in found[view].get("element", ())]
            found[view] = {**found[view], "element": rows}
    return found


def _element(row: Json, version_of: VersionOf) -> Json:
    found = dict(row)
    if "type" in found:
        found["type"] = [_type(entry, version_of) for entry in found["type"]]
    binding = found.get("binding")
    if binding and "valueSet" in binding:
        found["binding"] = {**binding, "valueSet": _one(binding["valueSet"], version_of)}
    return found


def _type(entry: Json, version_of: VersionOf) -> Json:
    found = dict(entry)
    for key in ("profile", "targetProfile"):
        if key in found:
            found[key] = _all(found[key], version_of)
    return found


def _value_set(content: Json, version_of: VersionOf) -> Json:
    compose = content.get("compose")
    if not compose:
        return content
    parts = {
        side: [
            {**part, "valueSet": _all(part["valueSet"], version_of)} if "valueSet" in part else part
            for part in compose[side]
        ]
        for side in ("include", "exclude")
        if side in compose
    }
    return {**content, "compose": {**compose, **parts}}


def _all(canonicals: Sequence[str], version_of: VersionOf) -> list[str]:
    return [_one(canonical, version_of) for canonical in canonicals]


def _one(canonical: str, version_of: VersionOf) -> str:
    if "|" in canonical or not isinstance(canonical, str):
        return canonical
    url, hash_sign, fragment = canonical.partition("#")
    version = version_of(url)
    return f"{url}|{version}{hash_sign}{fragment}" if version else canonical
