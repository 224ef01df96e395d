"""What `entry.search` says of a match beside its mode: how far away it is, how well it matches.

Spec: https://hl7.org/fhir/R4/bundle-definitions.html#Bundle.entry.search, https://hl7.org/fhir/R4/location.html#positional
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from fhir_server.model import codec

DISTANCE = "http://hl7.org/fhir/StructureDefinition/location-distance"
UCUM = "http://unitsofmeasure.org"


def marks_of(rows: Sequence[Mapping[str, Any]], prefix: str) -> dict[str, bytes]:
    """By full URL (`prefix` and the id), the members of `entry.search` that a row of a page asks for, as JSON."""
    return {f"{prefix}{row['_id']}": mark for row in rows if (mark := _mark(row))}


def _mark(row: Mapping[str, Any]) -> bytes:
    members: dict[str, Any] = {}
    if row.get("distance_m") is not None:
        kilometres = (Decimal(row["distance_m"]) / 1000).quantize(Decimal("0.001"))
        distance = {"value": kilometres, "unit": "km", "system": UCUM, "code": "km"}
        members["extension"] = [{"url": DISTANCE, "valueDistance": distance}]
    if row.get("score") is not None:
        members["score"] = Decimal(row["score"]).quantize(Decimal("0.0001"))
    return codec.encode(members)[1:-1] if members else b""
