"""Working on tickets: `$claim`, `$assign`, `$reroute`, `$resolve`, `$reopen` and `$acknowledge`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, new_id
from fhir_server.model.errors import ConflictError, ForbiddenError, NotFoundError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of, selves_of
from resources.communication.speaking import MACHINES, committed, reference_in, shown, speaker_of, written
from resources.communication.threads import message_of, require_reachable
from resources.communication.words import participants_of, pointing
from resources.notification.outbox import notify_within
from resources.states import listed
from resources.ticket.alarms import TIMER as PAGES
from resources.ticket.alarms import pages_of
from resources.ticket.clock import TIMER, timed
from resources.ticket.words import (
    ANSWERED,
    BUSINESS,
    CLAIMED,
    OUTPUT,
    PAGE,
    POOLS,
    TICKET,
    coded,
    instant_in,
    is_a,
    owner_of,
    pool_of,
    with_extension,
)

Json = dict[str, Any]

#: Gives the new content of a ticket, and what else is written.
Alter = Callable[[Unit, Json], Awaitable[tuple[Json, list[Change]]]]


async def claim(context: Context, request: Request) -> Answer:
    """Task/[ticket]/$claim: the caller answers it; of several at once, one does.

    Raises:
        ConflictError: 409; somebody has claimed it before.
    """
    inputs = Inputs.of(request)
    inputs.only("sender")
    me = speaker_of(context, inputs)

    async def alter(unit: Unit, ticket: Json) -> tuple[Json, list[Change]]:
        owner = owner_of(ticket)
        if owner and owner != me:
            raise ConflictError(f"Task/{ticket['id']} was claimed by {owner}.", key="HS-TICKET-CLAIMED")
        _require(ticket, ("requested", "in-progress"))
        return await _owned(unit, context, ticket, me)

    return await _changed(context, request, "claim", alter)


async def assign(context: Context, request: Request) -> Answer:
    """Task/[ticket]/$assign: somebody of its pool answers it.

    Raises:
        UnprocessableError: 422; who is named is not of the pool.
    """
    inputs = Inputs.of(request)
    inputs.only("owner", "note")
    owner = str(inputs.required("owner", reference_in(inputs, "owner")))
    note = inputs.text("note")

    async def alter(unit: Unit, ticket: Json) -> tuple[Json, list[Change]]:
        _require(ticket, ("requested", "in-progress"))
        if owner not in await people_of(unit, [pool_of(ticket)]):
            raise UnprocessableError(f"{owner} is not of {pool_of(ticket)}.", key="HS-TICKET-POOL")
        await notify_within(
            context,
            unit,
            owner,
            "ticket",
            f"Task/{ticket['id']}",
            key=f"{ticket['id']}/assigned/{context.timers.now()}",
        )
        return await _owned(unit, context, _noted(context, ticket, note), owner)

    return await _changed(context, request, "assign", alter)


async def reroute(context: Context, request: Request) -> Answer:
    """Task/[ticket]/$reroute: another pool answers it, and takes part in its thread in place of the first."""
    inputs = Inputs.of(request)
    inputs.only("pool", "note")
    pool = str(inputs.required("pool", reference_in(inputs, "pool")))
    note = str(inputs.required("note", inputs.text("note")))
    if not pool.startswith("CareTeam/"):
        raise UnprocessableError("A pool is a CareTeam.", key="HS-TICKET-POOL")
    await require_reachable(context, [pool])

    async def alter(unit: Unit, ticket: Json) -> tuple[Json, list[Change]]:
        _require(ticket, ("requested", "in-progress"))
        before, owner = pool_of(ticket), owner_of(ticket)
        name, header = await _thread(unit, ticket)
        people = (participants_of(header) - {before, owner}) | {pool}
        rest = {key: value for key, value in ticket.items() if key != "owner"}
        moved = _noted(context, {**rest, "status": "requested", "performerType": [coded(POOLS, pool)]}, note)
        for person in await people_of(unit, [pool]):
            await notify_within(
                context, unit, person, "ticket", f"Task/{ticket['id']}", key=f"{ticket['id']}/{context.timers.now()}"
            )
        changed = Change(
            "PUT", "Communication", name, {**header, "recipient": pointing(sorted(people))}, by="participants"
        )
        return await timed(context, unit, moved), [changed]

    return await _changed(context, request, "reroute", alter)


async def resolve(context: Context, request: Request) -> Answer:
    """Task/[ticket]/$resolve: the `answer` is sent as a message, and stands as the ticket's output."""
    inputs = Inputs.of(request)
    inputs.only("answer", "sender")
    text = str(inputs.required("answer", inputs.text("answer")))
    me = speaker_of(context, inputs)

    async def alter(unit: Unit, ticket: Json) -> tuple[Json, list[Change]]:
        _require(ticket, ("requested", "in-progress"))
        _, header = await _thread(unit, ticket)
        said = Change("POST", "Communication", new_id(), message_of(header, me, text, []), fresh=True, by="send")
        output = {"type": coded(OUTPUT, "answer"), "valueReference": {"reference": f"Communication/{said.id}"}}
        now = instant_of(context.timers.now())
        done = {
            **ticket,
            "status": "completed",
            "owner": {"reference": owner_of(ticket) or me},
            "output": [*ticket.get("output", []), output],
        }
        if not instant_in(done, ANSWERED):
            done = with_extension(done, ANSWERED, valueInstant=now)
        if not instant_in(done, CLAIMED):
            done = with_extension(done, CLAIMED, valueInstant=now)
        await context.timers.cancel_within(unit, TIMER, ticket["id"])
        return done, [said, *await _acknowledged(context, unit, ticket["id"], me)]

    return await _changed(context, request, "resolve", alter)


async def reopen(context: Context, request: Request) -> Answer:
    """Task/[ticket]/$reopen: the answer was none; who asked may say so, too."""
    inputs = Inputs.of(request)
    inputs.only("note")
    note = str(inputs.required("note", inputs.text("note")))

    async def alter(unit: Unit, ticket: Json) -> tuple[Json, list[Change]]:
        _require(ticket, ("completed",))
        rest = {name: value for name, value in ticket.items() if name not in ("owner", "businessStatus")}
        again = _noted(context, {**rest, "status": "requested", "businessStatus": coded(BUSINESS, "reopened")}, note)
        for person in await people_of(unit, [pool_of(ticket)]):
            await notify_within(
                context, unit, person, "ticket", f"Task/{ticket['id']}", key=f"{ticket['id']}/{context.timers.now()}"
            )
        return await timed(context, unit, again), []

    return await _changed(context, request, "reopen", alter)


async def acknowledge(context: Context, request: Request) -> Answer:
    """Task/[page or ticket]/$acknowledge: the caller looks after it; it rings no more."""
    inputs = Inputs.of(request)
    inputs.only("sender")
    me = speaker_of(context, inputs)
    task = codec.decode((await context.seen.repository.read("Task", request.path[1])).body or b"")
    ticket_id = task["focus"]["reference"].partition("/")[2] if is_a(task, PAGE) else request.path[1]

    async def work(unit: Unit) -> list[Committed]:
        changes = await _acknowledged(context, unit, ticket_id, me)
        if not changes:
            raise ConflictError("Nothing rings: somebody looks after it already.", key="HS-TICKET-QUIET")
        return await committed(context, unit, changes)

    return shown(await written(context, work, "Task"))


async def _changed(context: Context, request: Request, by: str, alter: Alter) -> Answer:
    """A ticket changed by its pool; who comes in between is seen.

    Raises:
        NotFoundError: 404; there is no such ticket for the caller.
        ForbiddenError: 403; the caller is not of its pool.
    """
    seen = codec.decode((await context.seen.repository.read("Task", request.path[1])).body or b"")
    if not is_a(seen, TICKET):
        raise NotFoundError(f"Task/{request.path[1]} is no ticket.", key="HS-TICKET-NONE")
    await _require_pool(context, seen, by)

    async def work(unit: Unit) -> list[Committed]:
        version = await context.within(unit).repository.read("Task", request.path[1])
        ticket, others = await alter(unit, codec.decode(version.body or b""))
        change = Change("PUT", "Task", request.path[1], ticket, if_match=version.version, by=by)
        made = await committed(context, unit, [change])
        for other in others:
            made += await committed(context, unit, [other])
        return made

    return shown(await written(context, work, "Task"))


async def _require_pool(context: Context, ticket: Json, by: str) -> None:
    identity = context.caller.identity
    if identity.role in MACHINES:
        return
    mine = await selves_of(context.repository.store.unguarded, identity.fhir_user or "")
    asked = by == "reopen" and ticket.get("requester", {}).get("reference") == identity.fhir_user
    if not asked and pool_of(ticket) not in mine and owner_of(ticket) not in mine:
        raise ForbiddenError(f"Task/{ticket['id']} is for {pool_of(ticket)}.", key="HS-TICKET-POOL")


async def _owned(unit: Unit, context: Context, ticket: Json, owner: str) -> tuple[Json, list[Change]]:
    """The ticket as somebody's, who is named in its thread."""
    owned = {**ticket, "status": "in-progress", "owner": {"reference": owner}}
    if not instant_in(owned, CLAIMED):
        owned = with_extension(owned, CLAIMED, valueInstant=instant_of(context.timers.now()))
    return owned, await _acknowledged(context, unit, ticket["id"], owner)


async def _thread(unit: Unit, ticket: Json) -> tuple[str, Json]:
    name = ticket["focus"]["reference"].partition("/")[2]
    version = await unit.get("Communication", name)
    if version is None or version.body is None:
        raise NotFoundError(f"The thread of Task/{ticket['id']} is gone.", key="HS-CHAT-NO-THREAD")
    return name, codec.decode(version.body)


async def _acknowledged(context: Context, unit: Unit, ticket_id: str, who: str) -> list[Change]:
    """The pages for a ticket, as heard; they ring no more."""
    changes = []
    for name, page in await pages_of(unit, ticket_id):
        heard = {**page, "status": "accepted", "owner": {"reference": who}}
        changes.append(Change("PUT", "Task", name, heard, by="acknowledge"))
        await context.timers.cancel_within(unit, PAGES, name)
    return changes


def _noted(context: Context, ticket: Json, note: str | None) -> Json:
    if not note:
        return ticket
    row = {"time": instant_of(context.timers.now()), "text": note}
    return {**ticket, "note": [*ticket.get("note", []), row]}


def _require(ticket: Json, states: tuple[str, ...]) -> None:
    """Raises ConflictError: 409; the ticket is in another state."""
    if ticket.get("status") not in states:
        raise ConflictError(
            f"Task/{ticket['id']} is {ticket.get('status')!r}; that is for what is {listed(states)}.",
            key="HS-TICKET-STATE",
            expression="Task.status",
        )
