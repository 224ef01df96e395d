"""One entry of a log for each moment: what a device or an app sends again is told so.

An entry claims its moment by a row whose id is a hash of whose it is, what was measured, when, and by which device;
without a device, of the value as well. The claim holds while the Observation that made it stands as it is. That is
looked at in the same transaction, so nothing has to be tidied up when an entry is taken back, deleted or purged.

Spec: US Core, Writing Vital Signs: "Servers SHALL document their policy on duplicates".
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_server.model import codec
from fhir_server.model.errors import ConflictError
from fhir_server.repository.changes import Json
from fhir_server.repository.repository import Repository
from fhir_server.repository.rules import Write
from fhir_server.search.ucum import canonical
from fhir_server.storage.unit import Unit
from resources.healthlog.entry import MISTAKE, is_entry, moment_of

#: The collection of claims.
CLAIMS = "_log_claims"

#: What is no measurement, or none any more, claims nothing.
_VOID = frozenset({MISTAKE, "cancelled"})


async def claim(unit: Unit, repository: Repository, writes: Sequence[Write]) -> None:
    """A companion of Observations: claims the moments of entries.

    Raises:
        ConflictError: 409 `duplicate`; another entry has that moment. Its address is in `Location`.
    """
    rows = unit.rows(CLAIMS)
    for write in writes:
        if write.new is None or not is_entry(write.new, write.caller) or (key := key_of(write.new)) is None:
            continue
        if write.old is not None and key_of(write.old) == key:
            continue
        held = await rows.get(key)
        if held is None:
            await rows.add([{"_id": key, "o": write.id}])
        elif held["o"] != write.id:
            first = await _standing(unit, held["o"], key)
            if first is not None:
                raise duplicate(first, held["o"], write.new)
            await rows.put(key, {"o": write.id})


async def _standing(unit: Unit, resource_id: str, key: str) -> Json | None:
    """The Observation that made a claim, while it still does."""
    version = await unit.get("Observation", resource_id)
    if version is None or version.body is None:
        return None
    resource: Json = codec.decode(version.body)
    return resource if key_of(resource) == key else None


def duplicate(first: Json, first_id: str, second: Json) -> ConflictError:
    same = values_of(first) == values_of(second)
    words = (
        "with the same value; nothing was written, and nothing is left to do."
        if same
        else "with another value; nothing was written. Set that entry to 'entered-in-error' first if it is wrong."
    )
    return ConflictError(
        f"This moment is logged already, as Observation/{first_id}, {words}",
        code="duplicate",
        key="HS-LOG-DUPLICATE",
        expression="Observation.effective",
        headers={"Location": f"Observation/{first_id}"},
    )


def key_of(resource: Mapping[str, Any]) -> str | None:
    """What an entry claims; None where it claims nothing."""
    moment_us = moment_of(resource)
    if moment_us is None or resource.get("status") in _VOID:
        return None
    device = _named(resource.get("device"))
    period = resource.get("effectivePeriod") or {}
    parts = [
        _named(resource.get("subject")),
        device or [_named(reference) for reference in resource.get("performer", ())],
        _codes(resource),
        [moment_us, period.get("end")],
        None if device else values_of(resource),
    ]
    return hashlib.sha256(codec.encode(parts)).hexdigest()


def _named(reference: Mapping[str, Any] | None) -> str:
    """Whom a reference names: the same by its address here, with or without the base, and by an identifier."""
    if not reference:
        return ""
    if text := reference.get("reference"):
        return "/".join(str(text).split("/")[-2:])
    identifier = reference.get("identifier") or {}
    return f"{identifier.get('system', '')}|{identifier.get('value', '')}" if identifier else ""


def _codes(node: Mapping[str, Any]) -> list[str]:
    code = node.get("code", {})
    return sorted(f"{c.get('system', '')}|{c.get('code', '')}" for c in code.get("coding", ())) or [
        code.get("text", "")
    ]


def values_of(resource: Mapping[str, Any]) -> list[Any]:
    """The values of an entry and its components, whatever unit they are written in."""
    found: list[Any] = []
    for node in (resource, *resource.get("component", ())):
        codes = _codes(node)
        found += [[codes, name, _plain(value)] for name, value in sorted(node.items()) if name.startswith("value")]
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict) and "value" in value:
        number = canonical(Decimal(value["value"]), str(value.get("code") or "1"))
        told = [str(number[0].normalize()), number[1]] if number else [str(value["value"]), value.get("unit")]
        return [value.get("comparator"), *told]
    return codec.encode(value).decode() if isinstance(value, dict | list) else str(value)
