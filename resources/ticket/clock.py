"""What happens to a ticket as time goes on: nobody has looked, and nobody has answered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.access import NOBODY
from fhir_server.model.clock import instant_of
from fhir_server.repository.repository import Change
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of, resource
from resources.notification.outbox import notify_within
from resources.ticket.alarms import page_within
from resources.ticket.hours import hours_of
from resources.ticket.words import BUSINESS, coded, pool_of

Json = dict[str, Any]

TIMER = "ticket"

#: What a ticket becomes when its time is over.
RAISED = {"routine": "urgent", "urgent": "asap", "asap": "stat", "stat": "stat"}

WAITING = frozenset({"requested", "in-progress"})


async def timed(context: Context, unit: Unit, ticket: Json) -> Json:
    """The ticket with the time by which it is to be answered, which begins now; a timer looks then."""
    now_us = context.timers.now()
    pool = await resource(unit.unguarded, pool_of(ticket)) or {}
    due = hours_of(pool).due(datetime.fromtimestamp(now_us / 1e6, UTC), ticket.get("priority", "routine"))
    due_us = int(due.timestamp() * 1e6)
    await context.timers.set_within(unit, TIMER, ticket["id"], due_us, {})
    period = {"start": instant_of(now_us), "end": instant_of(due_us)}
    return {**ticket, "restriction": {**ticket.get("restriction", {}), "period": period}}


async def look(context: Context, timer: Timer) -> int | None:
    """A ticket whose time is over is raised, its pool is told, and who is on call is paged when it is `stat`."""
    await context.repository.store.ensure("Task")

    async def work(unit: Unit) -> None:
        version = await unit.get("Task", timer.key)
        ticket = None if version is None or version.body is None else codec.decode(version.body)
        if version is None or ticket is None or ticket.get("status") not in WAITING:
            return
        if ticket["restriction"]["period"]["end"] > instant_of(context.timers.now()):
            return  # it was given more time meanwhile
        priority = RAISED[ticket.get("priority", "routine")]
        raised = await timed(context, unit, {**ticket, "priority": priority, "businessStatus": coded(BUSINESS, "late")})
        repository = context.repository.speaking_for(NOBODY)
        change = Change("PUT", "Task", timer.key, raised, if_match=version.version, by="escalate")
        await repository.commit_within(unit, [repository.check(change)])
        for person in await people_of(unit, [pool_of(ticket)]):
            await notify_within(
                context, unit, person, "ticket-late", f"Task/{timer.key}", key=f"{timer.key}/{version.version}"
            )
        if priority == "stat":
            await page_within(context, unit, raised)

    await context.repository.store.transact(work)
    return None
