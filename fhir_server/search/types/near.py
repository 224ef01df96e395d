"""`near` of a Location: within a distance of a position, by the great circle.

A value is `latitude|longitude[|distance[|unit]]`. The distance is one of any UCUM unit of length, of kilometres when it
is not said; without a distance it is 50 km. The earth is a sphere of its mean radius here: true distances differ from
that by half a percent at most.

Spec: https://hl7.org/fhir/R4/location.html#positional
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from fhir_server.search.escape import split, unescape
from fhir_server.search.query import NearValue, Value
from fhir_server.search.types.conditions import Filter, either, malformed
from fhir_server.search.ucum import canonical

SHAPE = "latitude|longitude|distance|unit, such as 48.137|11.575|5|km; distance and unit can be left out"

EARTH_RADIUS_M = 6_371_008.8
DEFAULT_RADIUS_M = 50_000.0

_NUMBER = re.compile(r"[+-]?(?:\d{1,20}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?", re.ASCII)

#: What people write where UCUM has another code.
_ALIASES = {"mi": "[mi_i]", "ft": "[ft_i]", "yd": "[yd_i]", "nmi": "[nmi_i]", "miles": "[mi_i]"}


def parse_value(name: str, text: str) -> NearValue:
    """Read a position with a distance.

    Raises:
        InvalidError: 400; another shape, a position on no globe, a distance below 0, or a unit of something else.
    """
    parts = [unescape(part).strip() for part in split(text, "|")]
    if not 2 <= len(parts) <= 4:
        raise malformed(name, text, SHAPE, "HS-SEARCH-NEAR")
    latitude, longitude = (float(_number(name, text, part)) for part in parts[:2])
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise malformed(name, text, "a latitude from -90 to 90 and a longitude from -180 to 180", "HS-SEARCH-NEAR")
    distance, unit = (*parts[2:], "", "")[:2]
    if not distance:
        return NearValue(latitude, longitude, DEFAULT_RADIUS_M)
    metres = canonical(_number(name, text, distance), _ALIASES.get(unit, unit) or "km")
    if metres is None or metres[1] != "m":
        raise malformed(name, text, "a UCUM unit of length, such as km, m or [mi_us]", "HS-SEARCH-NEAR")
    if metres[0] < 0:
        raise malformed(name, text, "a distance of 0 or more", "HS-SEARCH-NEAR")
    return NearValue(latitude, longitude, min(float(metres[0]), math.pi * EARTH_RADIUS_M))


def _number(name: str, text: str, part: str) -> Decimal:
    if _NUMBER.fullmatch(part) is None:
        raise malformed(name, text, SHAPE, "HS-SEARCH-NEAR")
    return Decimal(part)


def condition(field: str, values: Sequence[Value]) -> Filter:
    """The point in a field lies within the distance of one of the positions."""
    return either([{field: {"$geoWithin": {"$centerSphere": _circle(v)}}} for v in values if isinstance(v, NearValue)])


def _circle(value: NearValue) -> list[Any]:
    # A circle without a width holds nothing, not even its centre: a millimetre is below what a position says.
    return [[value.longitude, value.latitude], max(value.radius_m, 0.001) / EARTH_RADIUS_M]


def distance_m(field: str, positions: Sequence[NearValue]) -> dict[str, Any]:
    """The expression for the distance of the point in a field from the nearest of some positions, in metres."""
    return {"$min": [_distance_m(field, position) for position in positions]}


def _distance_m(field: str, position: NearValue) -> dict[str, Any]:
    """The haversine formula, which is exact for small distances too."""
    longitude, latitude = ({"$arrayElemAt": [f"${field}.coordinates", i]} for i in (0, 1))
    across = {"$pow": [{"$sin": _half_angle(longitude, position.longitude)}, 2]}
    along = {"$pow": [{"$sin": _half_angle(latitude, position.latitude)}, 2]}
    shrunk = [{"$cos": {"$degreesToRadians": latitude}}, math.cos(math.radians(position.latitude)), across]
    chord = {"$sqrt": {"$min": [1, {"$add": [along, {"$multiply": shrunk}]}]}}
    return {"$multiply": [2 * EARTH_RADIUS_M, {"$asin": chord}]}


def _half_angle(degrees: dict[str, Any], origin: float) -> dict[str, Any]:
    return {"$divide": [{"$degreesToRadians": {"$subtract": [degrees, origin]}}, 2]}
