"""Who may be offered: the one place where others say that somebody must not be (not verified, no valid licence)."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.interactions.context import Context
from resources.scheduling.schedules import Timetable
from resources.verification.standing import hidden_people


async def bookable(context: Context, sets: Sequence[Sequence[Timetable]]) -> list[Sequence[Timetable]]:
    """The sets of Schedules without those of Practitioners who are not active any more, or have no valid licence."""
    hidden = await hidden_people(context, {actor for one in sets for table in one for actor in table.actors})
    return [one for one in sets if not any(table.actors & hidden for table in one)]
