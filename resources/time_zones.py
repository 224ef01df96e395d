"""Time zones by their names in the IANA database.

Spec: https://www.iana.org/time-zones, https://hl7.org/fhir/R4/valueset-timezones.html
"""

from __future__ import annotations

from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones


@lru_cache(maxsize=512)
def zone_named(name: str) -> ZoneInfo | None:
    """The zone of a name; None where there is none."""
    return ZoneInfo(name) if name in _names() else None


@lru_cache(maxsize=1)
def _names() -> frozenset[str]:
    return frozenset(available_timezones())
