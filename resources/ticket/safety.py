"""Follows conversations for what cannot wait: a later message of a ticket, or one of a thread without any.

A ticket becomes `stat` and its on-call team is paged; in a thread without a ticket everybody but the patient is told at
once. A notice stands in the thread for the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.jobs.follower import Changed
from fhir_server.model import codec
from fhir_server.model.access import NOBODY
from fhir_server.model.errors import PreconditionFailedError
from fhir_server.repository.repository import Change
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of
from resources.communication.words import (
    TAGS,
    has_tag,
    pointing,
    reference_of,
    references,
    text_of,
    thread_of,
)
from resources.notification.outbox import notify
from resources.ticket.alarms import page_within
from resources.ticket.clock import timed
from resources.ticket.red_flags import notice_of, red_flags
from resources.ticket.words import TICKET, is_a

Json = dict[str, Any]

PATIENT_SIDE = ("Patient/", "RelatedPerson/")


async def look_after(context: Context, changes: Sequence[Changed]) -> None:
    """Told again, it does the same once more: pages are under way already, notices are there."""
    for changed in changes:
        if changed.body is None:
            continue
        message = codec.decode(changed.body)
        thread, sender = thread_of(message), reference_of(message.get("sender"))
        if thread is None or not sender.startswith(PATIENT_SIDE) or has_tag(message, "notice"):
            continue
        flags = red_flags().found(text_of(message))
        if flags and message.get("status") == "completed":
            await _raise(context, changed, message, thread, notice_of(flags))


async def _raise(context: Context, changed: Changed, message: Json, thread: str, notice: str) -> None:
    store = context.repository.store
    await store.ensure("Task")

    async def work(unit: Unit) -> bool:
        about = {"x.focus": thread, "d": {"$exists": False}}
        rows = await unit.find("Task", about, sort=[("_id", 1)], limit=100, fields={"v": 1, "r": 1})
        tickets = [(row, task) for row in rows if is_a(task := codec.decode(row["r"]), TICKET)]
        for row, task in tickets:
            if task.get("priority") != "stat" and task.get("status") in ("requested", "in-progress"):
                raised = await timed(context, unit, {**task, "priority": "stat"})
                repository = context.repository.speaking_for(NOBODY)
                change = Change("PUT", "Task", row["_id"], raised, if_match=row["v"], by="escalate")
                await repository.commit_within(unit, [repository.check(change)])
                await page_within(context, unit, raised)
            elif changed.version > 1 or task.get("authoredOn", "") < str(message.get("sent", ""))[:19]:
                await page_within(context, unit, task)  # later than the question, which was looked at before
        return bool(tickets)

    ticketed = await store.transact(work)
    key = f"Communication/{changed.id}/{changed.version}"
    if not ticketed:
        for person in await people_of(store, references(message.get("recipient"))):
            await notify(context, person, "alarm", f"Communication/{changed.id}", key=key)
    await _note(context, changed, message, thread, notice)


async def _note(context: Context, changed: Changed, message: Json, thread: str, notice: str) -> None:
    """A notice in the thread, by the server."""
    name = f"notice-{changed.id}"[:64]
    sender = reference_of(message.get("sender"))
    people = {*references(message.get("recipient")), sender} - {""}
    stored: Json = {
        "resourceType": "Communication",
        "id": name,
        "meta": {"tag": [{"system": TAGS, "code": "notice"}]},
        "partOf": [{"reference": thread}],
        "inResponseTo": [{"reference": f"Communication/{changed.id}"}],
        "status": "completed",
        "priority": "stat",
        **({"subject": message["subject"]} if "subject" in message else {}),
        "sent": message.get("sent"),
        "recipient": pointing(sorted(people)),
        "payload": [{"contentString": notice}],
    }
    try:
        change = Change("PUT", "Communication", name, stored, if_absent=True, by="notice")
        await context.repository.commit(change)
    except PreconditionFailedError:
        return  # it stands there already
