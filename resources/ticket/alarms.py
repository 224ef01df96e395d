"""Pages: who is on call is called, again and wider, until somebody says that they look after it.

A page is a Task for the pool's on-call team, with the ticket as its focus. A timer rings it: first who is on call, then
the whole pool, too, then the operator's log.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.access import NOBODY
from fhir_server.model.clock import instant_of, new_id
from fhir_server.repository.repository import Change
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of, resource
from resources.communication.words import reference_of
from resources.notification.outbox import notify
from resources.ticket.words import ON_CALL, PAGE, POOLS, TASKS, coded, is_a, pool_of

Json = dict[str, Any]

TIMER = "page"

#: After so long without an answer it rings again.
AGAIN_US = 300_000_000

#: So often it rings who is on call alone; then the whole pool, too.
NARROW = 2

#: So often it rings in all; whoever runs the server is told long before.
MOST_RINGS = 288

_log = logging.getLogger("healthsphere.tickets")


async def page_within(context: Context, unit: Unit, ticket: Json) -> None:
    """Begin to page for a ticket, if that is not under way already."""
    inner = unit.unguarded
    if await pages_of(inner, ticket["id"]):
        return
    name, pool = new_id(), pool_of(ticket)
    called = on_call_of(await resource(inner, pool) or {}) or pool
    page: Json = {
        "resourceType": "Task",
        "id": name,
        "status": "requested",
        "intent": "order",
        "priority": "stat",
        "code": coded(TASKS, PAGE),
        "focus": {"reference": f"Task/{ticket['id']}"},
        **({"for": ticket["for"]} if "for" in ticket else {}),
        "authoredOn": instant_of(context.timers.now()),
        "performerType": [coded(POOLS, one) for one in dict.fromkeys((called, pool))],
    }
    repository = context.repository.speaking_for(NOBODY)
    await repository.commit_within(inner, [repository.check(Change("POST", "Task", name, page, fresh=True, by="page"))])
    await context.timers.set_within(inner, TIMER, name, context.timers.now(), {})


async def pages_of(unit: Unit, ticket_id: str) -> list[tuple[str, Json]]:
    """The pages for a ticket that nobody has acknowledged, by id."""
    about = {"x.focus": f"Task/{ticket_id}", "d": {"$exists": False}}
    rows = await unit.find("Task", about, sort=[("_id", 1)], limit=100, fields={"r": 1})
    found = [(row["_id"], codec.decode(row["r"])) for row in rows]
    return [(name, page) for name, page in found if is_a(page, PAGE) and page.get("status") == "requested"]


async def ring(context: Context, timer: Timer) -> int | None:
    """Tell those who are called; when to ring again."""
    task = await resource(context.repository.store, f"Task/{timer.key}")
    if task is None or task.get("status") != "requested":
        return None
    rings = round((context.timers.now() - _since_us(task)) / AGAIN_US)
    if rings > MOST_RINGS:
        _log.error("Task/%s was paged %d times, and nobody has answered", timer.key, MOST_RINGS)
        return None
    pools = [row["coding"][0]["code"] for row in task["performerType"]]
    called = pools[:1] if rings < NARROW else pools
    people = await people_of(context.repository.store, called)
    if not people:
        people = await people_of(context.repository.store, pools)
    if not people or rings >= 2 * NARROW:
        _log.error("Task/%s pages, and nobody has answered yet", timer.key)
    for person in people:
        await notify(context, person, "alarm", f"Task/{timer.key}", key=f"{timer.key}/{task['authoredOn']}/{rings}")
    return context.timers.now() + AGAIN_US


def _since_us(task: Json) -> int:
    return int(datetime.fromisoformat(task["authoredOn"]).astimezone(UTC).timestamp() * 1e6)


def on_call_of(pool: Json) -> str:
    """The team that is on call for a pool."""
    for row in pool.get("extension", []):
        if row.get("url") == ON_CALL:
            return reference_of(row.get("valueReference"))
    return ""
