"""From what the clocks on a wall show to moments, also on the days when these clocks are changed.

A time that is shown twice has an earlier and a later moment. A time that is never shown stands for the moment at which
the clocks are changed, so that what begins or ends there keeps its length on the clock that everybody reads.

>>> zone = zone_of("Europe/Bucharest")
>>> moment_of(datetime(2027, 3, 28, 3, 30), zone).isoformat()
'2027-03-28T01:00:00+00:00'
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from fhir_server.model.errors import UnprocessableError
from resources.time_zones import zone_named

DAY_MINUTES = 24 * 60


def zone_of(name: str) -> ZoneInfo:
    """A zone of the IANA database.

    Raises:
        UnprocessableError: 422; there is none of that name.
    """
    zone = zone_named(name)
    if zone is None:
        raise UnprocessableError(
            f"{name[:60]!r} is no time zone of the IANA database; something like Europe/Bucharest was expected.",
            key="HS-SCHED-ZONE",
        )
    return zone


def moment_of(local: datetime, zone: ZoneInfo, *, later: bool = False) -> datetime:
    """The moment in UTC at which the clocks show a time; the later one of two where `later` is asked for."""
    first = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first <= second:
        return second if later else first
    # Never shown: the clocks are changed between the two.
    before = second.astimezone(zone).utcoffset()
    low, high = second, first
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def span_of(day: date, start: int, end: int, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The moments from one minute of a local day to another; an end behind midnight is one of the day after."""
    midnight = datetime(day.year, day.month, day.day)
    return (
        moment_of(midnight + timedelta(minutes=start), zone),
        moment_of(midnight + timedelta(minutes=end), zone, later=True),
    )
