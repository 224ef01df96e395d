"""A database that goes away: whoever waits for it ends soon, and nobody has to be cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from fhir_server.model.errors import UnavailableError
from fhir_server.storage import database
from fhir_server.storage.embedded import EmbeddedMongo
from fhir_server.storage.store import Store

PATIENCE_S = 0.5


def store_on(client: database.Client) -> Store:
    return Store(client, "going_away", lambda _: (), max_time_ms=10_000)


def test_a_database_that_answers_is_not_given_up(mongodb_uri: str) -> None:
    async def work() -> None:
        client = database.connect(mongodb_uri)
        store = store_on(client)
        assert not await store.given_up()
        await store.ping()
        await database.disconnected(client)

    asyncio.run(work())


def test_who_waits_for_a_database_that_is_gone_ends_by_itself_when_it_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", PATIENCE_S)

    async def work(uri: str, process_id: int) -> tuple[list[BaseException | None], float]:
        # Nobody would give up by themselves within the time of a test.
        client: database.Client = AsyncMongoClient(uri, serverSelectionTimeoutMS=600_000)
        store = store_on(client)
        await store.ping()
        os.kill(process_id, signal.SIGKILL)
        waiting = [asyncio.create_task(store.get("Patient", f"p{number}")) for number in range(3)]
        began = time.monotonic()
        assert await store.given_up()
        await asyncio.wait(waiting)
        return [task.exception() for task in waiting], time.monotonic() - began

    with EmbeddedMongo.start(tmp_path, cache_mb=256) as mongo:
        process_id = int((tmp_path / "mongodb.pid").read_text())
        faults, seconds = asyncio.run(work(mongo.uri, process_id))
    assert all(isinstance(fault, UnavailableError) for fault in faults)
    assert seconds < 300
