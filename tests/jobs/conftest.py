"""A store of one's own, in an event loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from fhir_server.search.indexes import IndexSpec
from fhir_server.storage.database import connect
from fhir_server.storage.store import Store

#: The one index that the feed asks for; the others of a type take a second to make.
INDEXES = (IndexSpec("_lastUpdated", (("t", 1), ("_id", 1))),)


@pytest.fixture
def within(mongodb_uri: str, mongodb_database: str) -> Callable[[Callable[[Store], Awaitable[Any]]], Any]:
    """Runs `work(store)` to its end, on a database of the test's own."""

    def run(work: Callable[[Store], Awaitable[Any]]) -> Any:
        async def with_store() -> Any:
            client = connect(mongodb_uri)
            try:
                async with asyncio.timeout(60):
                    return await work(Store(client, mongodb_database, lambda _: INDEXES, max_time_ms=10_000))
            finally:
                await client.close()

        return asyncio.run(with_store())

    return run
