"""Quiet hours, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from resources.monitoring.quiet import Quiet

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Quiet(time(22), time(7), BERLIN)


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("quiet", "moment", "ends"),
    [
        (NIGHT, "2026-11-25T20:59", None),
        (NIGHT, "2026-11-25T21:00", "2026-11-26T06:00"),
        (NIGHT, "2026-11-26T05:59", "2026-11-26T06:00"),
        (NIGHT, "2026-11-26T06:00", None),
        (NIGHT, "2026-03-28T23:00", "2026-03-29T05:00"),  # an hour is left out
        (NIGHT, "2026-10-24T23:00", "2026-10-25T06:00"),  # an hour is there twice
        (Quiet(time(12), time(14), BERLIN), "2026-11-25T12:30", "2026-11-25T13:00"),
        (Quiet(time(12), time(14), BERLIN), "2026-11-25T10:59", None),
    ],
)
def test_quiet_hours_end_by_the_clock_of_the_place(quiet: Quiet, moment: str, ends: str | None) -> None:
    assert quiet.ends_us(us(moment)) == (us(ends) if ends else None)
