"""What the driver alone does: the commands of a scenario without HTTP, FHIR or server, at the same concurrency.

Writes are as durable as the server's (majority, journal) and go to collections with the same indexes; an operation that
the server does with two commands is two commands here. They run one by one, as a program would use the driver: what the
server gains by gathering the commands of concurrent requests shows as a ratio above 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import uvloop
from bson import ObjectId
from pymongo import AsyncMongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from benchmarks.generator import Measured

Document = dict[str, Any]
Kind = Literal["find", "insert", "replace", "command", "transaction"]
Operation = Callable[[int], Awaitable[None]]

DURABLE = WriteConcern(w="majority", j=True)
ORDERED = WriteConcern(w=1, j=False)


@dataclass(frozen=True)
class DriverPlan:
    """Which operation to repeat over which items.

    `find`: ids of `collection`. `insert`: documents, each with a new id. `replace`: pairs of a history document and the
    new current one. `command`: lists of commands that the server was seen to send. `transaction`: lists of pairs
    (collection, documents).
    """

    uri: str
    database: str
    kind: Kind
    collection: str
    items: list[Any]
    seconds: float
    concurrency: int
    warm_up_s: float = 0.5


def measure_driver(plan: DriverPlan) -> Measured:
    """Run a plan to its end; call it in a process of its own."""
    return uvloop.run(_run(plan))


async def _run(plan: DriverPlan) -> Measured:
    async with AsyncMongoClient[Document](plan.uri, w="majority", journal=True) as client:
        operation = _operation(client, plan)
        measured = Measured()
        begin = time.perf_counter() + plan.warm_up_s
        end = begin + plan.seconds
        turn = iter(range(1 << 60))

        async def work() -> None:
            while (started := time.perf_counter()) < end:
                await operation(next(turn))
                now = time.perf_counter()
                if started >= begin and now <= end:
                    measured.operations += 1
                    measured.latencies_s.append(now - started)

        await asyncio.gather(*(work() for _ in range(plan.concurrency)))
        measured.seconds = plan.seconds
        return measured


def _operation(client: AsyncMongoClient[Document], plan: DriverPlan) -> Operation:
    database = client.get_database(plan.database, write_concern=DURABLE, read_concern=ReadConcern("majority"))
    collection, items = database[plan.collection], plan.items
    history = database.get_collection("_history", write_concern=ORDERED)

    async def find(turn: int) -> None:
        document = await collection.find_one({"_id": items[turn % len(items)]}, {"x": 0})
        if document is None:
            raise LookupError(f"{plan.collection} lacks {items[turn % len(items)]}")

    async def insert(turn: int) -> None:
        await collection.insert_one({**items[turn % len(items)], "_id": str(ObjectId())})

    async def replace(turn: int) -> None:
        past, current = items[turn % len(items)]
        await history.insert_one({**past, "_id": str(ObjectId())})
        await collection.replace_one({"_id": current["_id"]}, current)

    async def command(turn: int) -> None:
        for one in items[turn % len(items)]:
            await database.command(one)

    async def transaction(turn: int) -> None:
        async with client.start_session() as session, await session.start_transaction(write_concern=DURABLE):
            for name, documents in items[turn % len(items)]:
                fresh = [{**document, "_id": str(ObjectId())} for document in documents]
                await database[name].insert_many(fresh, ordered=False, session=session)

    operations: dict[Kind, Operation] = {
        "find": find,
        "insert": insert,
        "replace": replace,
        "command": command,
        "transaction": transaction,
    }
    return operations[plan.kind]
