"""Who may be offered: the one place where others say that somebody must not be (not verified, no valid licence)."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.interactions.context import Context
from resources.scheduling.schedules import NOT_ACTIVE, Timetable


async def bookable(context: Context, sets: Sequence[Sequence[Timetable]]) -> list[Sequence[Timetable]]:
    """The sets of Schedules without those of Practitioners who are not active any more."""
    people = {a.partition("/")[2] for one in sets for t in one for a in t.actors if a.startswith("Practitioner/")}
    if not people:
        return list(sets)
    rows = await context.repository.store.unguarded.find(
        "Practitioner",
        {"_id": {"$in": sorted(people)}, "$or": [{"x.active": NOT_ACTIVE}, {"d": True}]},
        sort=[("_id", 1)],
        limit=len(people),
        fields={"_id": 1},
    )
    gone = {f"Practitioner/{row['_id']}" for row in rows}
    return [one for one in sets if not any(t.actors & gone for t in one)]
