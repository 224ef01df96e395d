"""`$mark-read`, `$unread` and `$read-state`: up to where each has read a thread.

A Task for each person and thread says it, and can be searched: `Task?code=urn:healthsphere:task|read&owner=…`. It
holds a moment, not a list of messages: with a thousand messages it is still one Task.
"""

from __future__ import annotations

import hashlib
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.exchange import Answer, Request
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.unit import Unit
from resources.communication.members import people_of, selves_of
from resources.communication.speaking import committed, header_seen, message_seen, shown, speaker_of, written
from resources.communication.words import is_header, participants_of, reference_of, thread_of

Json = dict[str, Any]

TASKS = "urn:healthsphere:task"

MOST_THREADS = 200


def receipt_id(thread: str, person: str) -> str:
    return f"read-{hashlib.sha256(f'{thread} {person}'.encode()).hexdigest()[:40]}"


async def mark_read(context: Context, request: Request) -> Answer:
    """Communication/[id]/$mark-read: of a message: all up to it; of a thread: all that there is. It never goes back.

    Raises:
        NotFoundError: 404; the caller takes part in no such thread.
    """
    inputs = Inputs.of(request)
    inputs.only("sender")
    person = speaker_of(context, inputs)
    found = codec.decode((await context.seen.repository.read("Communication", request.path[1])).body or b"")
    if is_header(found):
        thread, until = f"Communication/{request.path[1]}", instant_of(now_us())
        await header_seen(context, request.path[1])
    else:
        _, message = await message_seen(context, request.path[1])
        thread, until = str(thread_of(message)), str(message.get("sent") or instant_of(now_us()))
        await header_seen(context, thread.partition("/")[2])
    name = receipt_id(thread, person)

    async def work(unit: Unit) -> list[Committed]:
        await unit.lock([f"read:{name}"])
        version = await unit.get("Task", name)
        old = None if version is None or version.body is None else codec.decode(version.body)
        reached = max(until, _until(old)) if old is not None else until
        task: Json = {
            "resourceType": "Task",
            "id": name,
            "status": "completed",
            "intent": "order",
            "code": {"coding": [{"system": TASKS, "code": "read"}]},
            "focus": {"reference": thread},
            "executionPeriod": {"end": reached},
            "owner": {"reference": person},
        }
        return await committed(context, unit, [Change("PUT", "Task", name, task, by="mark-read")])

    return shown(await written(context, work, "Task"))


def _until(task: Json | None) -> str:
    return str((task or {}).get("executionPeriod", {}).get("end", ""))


async def unread(context: Context, request: Request) -> Answer:
    """Communication/$unread: for each thread with something new for the caller how much that is, and the latest."""
    inputs = Inputs.of(request)
    inputs.only("sender")
    person = speaker_of(context, inputs)
    store = context.repository.store
    mine = await selves_of(store.unguarded, person)
    addressed = {"x.recipient": {"$in": sorted(mine)}, "x.status": {"$in": ["=in-progress"]}, "d": {"$exists": False}}
    rows = await store.find("Communication", addressed, sort=[("_id", -1)], limit=MOST_THREADS, fields={"r": 1})
    threads = [(f"Communication/{row['_id']}", codec.decode(row["r"])) for row in rows]
    told: list[Json] = []
    for thread, header in threads:
        if not is_header(header):
            continue
        receipt = await store.get("Task", receipt_id(thread, person))
        since = _until(codec.decode(receipt.body)) if receipt is not None and receipt.body else ""
        inside = {"x.part-of": thread, "d": {"$exists": False}}
        latest = await store.find("Communication", inside, sort=[("_id", -1)], limit=1000, fields={"r": 1})
        news = [
            (row["_id"], message)
            for row in latest
            if str((message := codec.decode(row["r"])).get("sent", "")) > since
            and reference_of(message.get("sender")) != person
        ]
        if news:
            told.append(
                {
                    "name": "thread",
                    "part": [
                        {"name": "thread", "valueReference": {"reference": thread}},
                        {"name": "unread", "valueInteger": len(news)},
                        {"name": "latest", "valueReference": {"reference": f"Communication/{news[0][0]}"}},
                    ],
                }
            )
    total = sum(row["part"][1]["valueInteger"] for row in told)
    return answered(parameters_of({"name": "unread", "valueInteger": total}, *told))


async def read_state(context: Context, request: Request) -> Answer:
    """Communication/[thread]/$read-state: up to when each who takes part has read it."""
    Inputs.of(request).only()
    _, header = await header_seen(context, request.path[1])
    thread = f"Communication/{request.path[1]}"
    store = context.repository.store.unguarded
    rows = []
    for person in await people_of(store, participants_of(header)):
        receipt = await store.get("Task", receipt_id(thread, person))
        until = _until(codec.decode(receipt.body)) if receipt is not None and receipt.body else ""
        part: list[Json] = [{"name": "participant", "valueReference": {"reference": person}}]
        part += [{"name": "until", "valueInstant": until}] if until else []
        rows.append({"name": "reader", "part": part})
    return answered(parameters_of(*rows))
