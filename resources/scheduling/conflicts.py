"""The answer to who comes too late: 409, and what is still free.

The proposed Appointments are contained in the OperationOutcome; each can be held by its id, as those of `$find`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model.errors import ConflictError, FhirError, Issue
from resources.scheduling import moment
from resources.scheduling.asking import asking_by
from resources.scheduling.bookable import bookable
from resources.scheduling.extensions import STILL_FREE
from resources.scheduling.find import chosen, codes_in, offered
from resources.scheduling.locks import TimeTakenError
from resources.scheduling.offers import appointment_of, named, offer_id
from resources.scheduling.schedules import Timetable

Json = dict[str, Any]

#: How many are named, and how far ahead they are looked for.
MOST = 5
AHEAD = timedelta(days=14)


class TakenError(ConflictError):
    """409: the time is taken; with what is still free."""

    def __init__(self, told: str | Iterable[Issue], alternatives: Sequence[Json]) -> None:
        super().__init__(told, key="HS-SCHED-TAKEN", expression="Appointment.start")
        self.alternatives = alternatives

    def retold(self, issues: Iterable[Issue]) -> TakenError:
        return TakenError(issues, self.alternatives)

    def outcome(self) -> dict[str, Any]:
        outcome = super().outcome()
        if not self.alternatives:
            return outcome
        links = [{"url": STILL_FREE, "valueReference": {"reference": f"#{a['id']}"}} for a in self.alternatives]
        return {
            "resourceType": "OperationOutcome",
            "contained": list(self.alternatives),
            "extension": links,
            "issue": outcome["issue"],
        }


async def alternatives(
    context: Context, tables: Sequence[Timetable], codes: Sequence[str], start: datetime, *, but: str = ""
) -> list[Json]:
    """The next times that the same can be booked at, from a day before on."""
    now = moment.now()
    begin = max(now, start - timedelta(days=1))
    sets = await bookable(context, [tables])
    found: list[Json] = []
    offers = offered(context, sets, codes, begin, begin + AHEAD, now=now, but=(f"Appointment/{but}",) if but else ())
    async for offer in chosen(offers, None, None):
        key = await named(context.repository.store, [c.table.id for c in offer.calendars], codes_in(offer, codes))
        found.append(appointment_of(offer_id(key, offer.free.start), offer.calendars, offer.free, "proposed", ()))
        if len(found) == MOST:
            break
    return found


async def explain(context: Context, taken: TimeTakenError) -> TakenError:
    """What is told to who has lost a time by a plain write, or in a Bundle: the same as by `$book`."""
    everything = context.beyond()
    free: list[Json] = []
    try:
        if taken.wanted is not None:
            asking = await asking_by(everything, dict(taken.wanted))
            name = taken.appointment
            free = await alternatives(everything, asking.tables, asking.wanted.codes, asking.wanted.start, but=name)
    except FhirError:  # nobody there has times to offer any more: the answer is the 409 alone
        free = []
    return TakenError(taken.issues, free)
