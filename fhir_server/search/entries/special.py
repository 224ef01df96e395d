"""Index entries of the special parameter `near`: the position of a Location as a GeoJSON point.

Spec: https://hl7.org/fhir/R4/location.html#positional
"""

from __future__ import annotations

from typing import Any

from fhir_server.search.entries import Further, Make


def maker_of(code: str) -> Make | None:
    """The maker for a special parameter by its code; `_filter` leaves nothing."""
    return _position if code == "near" else None


def _position(value: Any, main: list[Any], further: Further) -> None:
    """A place on no globe is passed over: a database refuses to index it."""
    longitude, latitude = value.get("longitude"), value.get("latitude")
    if longitude is None or latitude is None or abs(longitude) > 180 or abs(latitude) > 90:
        return
    # GeoJSON distances are floats by nature; the resource itself keeps its decimals.
    main.append({"type": "Point", "coordinates": [float(longitude), float(latitude)]})
