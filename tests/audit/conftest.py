"""A store of its own for each test, and a trail in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import pytest

from fhir_server.audit.event import Event, Part, Who
from fhir_server.audit.materialize import Materializer
from fhir_server.audit.trail import Trail
from fhir_server.model.clock import now_us
from fhir_server.search.index import Indexer
from fhir_server.search.indexes import indexes_of
from fhir_server.storage.database import connect
from fhir_server.storage.store import Store
from profiles.registry import registry
from profiles.terminology import terminology

BASE = "https://fhir.example.org/fhir"
KEY = b"k" * 32
DOCTOR = Who("account-7", "chart-app", "practitioner", "Practitioner/7", "Organization/1", "TREAT", "", "jti-1", "p1")

Opened = Callable[[], AbstractAsyncContextManager[Store]]


@pytest.fixture
def opened(mongodb_uri: str, mongodb_database: str) -> Opened:
    """Opens the test's database, as one process would; several may be open at once."""

    @asynccontextmanager
    async def open_store() -> AsyncIterator[Store]:
        client = connect(mongodb_uri)
        store = Store(client, mongodb_database, partial(indexes_of, registry=registry()), max_time_ms=60_000)
        try:
            await store.open()
            yield store
        finally:
            await client.close()

    return open_store


def indexer() -> Indexer:
    return Indexer(registry(), terminology(), BASE)


def ledger_of(store: Store, trail: Trail | None = None) -> Materializer:
    return Materializer(store, indexer(), trail or Trail(store.batches, BASE), key=KEY)


def read_of(patient: str, number: int = 0, who: Who = DOCTOR) -> Event:
    """Somebody reads an Observation of a patient."""
    part = Part("read", 200, "GET", f"Observation/{number}", "", (f"Observation/{number}/_history/1",), (patient,))
    return Event(now_us(), part, who, "192.0.2.1", f"request-{number}")
