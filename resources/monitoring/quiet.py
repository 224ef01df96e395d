"""Quiet hours, in the wall-clock time of a place. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Quiet:
    """From one time of day to another, over midnight where the end is the earlier one."""

    start: time
    end: time
    zone: ZoneInfo

    def ends_us(self, moment_us: int) -> int | None:
        """When the quiet hours are over that a moment is in; None where it is in none."""
        local = datetime.fromtimestamp(moment_us / 1_000_000, UTC).astimezone(self.zone)
        clock, day = local.time(), local.date()
        if self.start <= self.end:
            if not self.start <= clock < self.end:
                return None
        elif clock >= self.start:
            day += timedelta(days=1)
        elif clock >= self.end:
            return None
        # In the hour that a clock is put back to, the later of the two moments would be told twice as late: the first.
        ends = datetime.combine(day, self.end, self.zone)
        ends_us = round(ends.timestamp()) * 1_000_000
        return ends_us if ends_us > moment_us else None
