"""A clock that goes during business hours: by when something is to be answered.

The hours of a pool are those of the wall clock in its zone: a day has them whether it has 23 hours or 25.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from resources.ticket.words import HOURS
from resources.time_zones import zone_named

Json = dict[str, Any]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: Days that are looked through; a pool that is never open has a due time all the same.
MOST_DAYS = 366


@dataclass(frozen=True, slots=True)
class Hours:
    """When a pool works, and how soon it answers.

    Attributes:
        open: for each day of the week, Monday first, from when to when
        holidays: days on which it does not work
        minutes: how many minutes of its hours it has for an answer, by priority
    """

    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    open: tuple[tuple[tuple[time, time], ...], ...] = (((time(9), time(17)),),) * 5 + ((), ())
    holidays: frozenset[date] = frozenset()
    minutes: tuple[tuple[str, int], ...] = (("routine", 960), ("urgent", 240), ("asap", 60), ("stat", 15))

    def due(self, start: datetime, priority: str) -> datetime:
        """When the time for an answer is over; `stat` does not wait for anybody's hours."""
        left = timedelta(minutes=dict(self.minutes).get(priority, dict(self.minutes)["routine"]))
        if priority == "stat":
            return start + left
        for opens, end in self._stretches(start):
            begin = max(opens, start)
            if end <= begin:
                continue
            if end - begin >= left:
                return begin + left
            left -= end - begin
        return start + timedelta(days=MOST_DAYS)

    def _stretches(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Open times, in the order of time, as moments."""
        day = start.astimezone(self.zone).date()
        for _ in range(MOST_DAYS):
            if day not in self.holidays:
                for opens, closes in self.open[day.weekday()]:
                    yield self._moment(day, opens), self._moment(day, closes)
            day += timedelta(days=1)

    def _moment(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, self.zone).astimezone(UTC)


def hours_of(pool: Json) -> Hours:
    """The hours that a CareTeam says; what it does not say, or says wrongly, is as by default."""
    row = next((row for row in pool.get("extension", []) if row.get("url") == HOURS), None)
    if row is None:
        return Hours()
    zone, holidays = ZoneInfo("UTC"), set()
    minutes = dict(Hours().minutes)
    open_: dict[int, list[tuple[time, time]]] = {}
    for part in row.get("extension", []):
        match part.get("url"):
            case "zone":
                zone = zone_named(str(part.get("valueCode") or part.get("valueString"))) or ZoneInfo("UTC")
            case "holiday":
                holidays.add(date.fromisoformat(part["valueDate"]))
            case "open":
                inner = [(one.get("url"), one.get("valueCode") or one.get("valueTime")) for one in part["extension"]]
                times = dict(inner)
                stretch = (time.fromisoformat(times["start"]), time.fromisoformat(times["end"]))
                for day in (value for name, value in inner if name == "day" and value in DAYS):
                    open_.setdefault(DAYS.index(day), []).append(stretch)
            case "minutes":
                inner_ = {one.get("url"): one for one in part["extension"]}
                minutes[inner_["priority"]["valueCode"]] = inner_["value"]["valueInteger"]
    week = tuple(tuple(sorted(open_.get(n, []))) for n in range(7)) if open_ else Hours().open
    return Hours(zone, week, frozenset(holidays), tuple(minutes.items()))
