"""Tampering, of every kind somebody with the database can do, is found; and the right batch is named."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pymongo import MongoClient

from fhir_server.audit.chain import link_of, linked, row_of
from fhir_server.audit.event import Batch, pack, unpack
from fhir_server.audit.trail import Trail
from fhir_server.audit.verify import Report, verify
from fhir_server.storage.store import Store
from tests.audit.conftest import BASE, KEY, Opened, ledger_of, read_of

BATCHES = 6
Database = Any
Row = dict[str, Any]


async def walked(store: Store, *, keys: tuple[bytes, ...] = (KEY,), witness: tuple[int, bytes] | None = None) -> Report:
    ledger = ledger_of(store)
    return await verify(store, keys, witness, lambda link: list(ledger.versions_of(link)))


async def write(store: Store) -> tuple[int, bytes]:
    """Six batches of two events, and their AuditEvents; the head of the chain."""
    trail = Trail(store.batches, BASE, key=KEY)
    await trail.start()
    for number in range(BATCHES):
        trail.note(read_of(f"p{number}", number))
        await trail.record(read_of("p", 100 + number))
    await trail.close()
    await ledger_of(store).caught_up()
    last = await store.batches.last()
    assert last is not None
    return last["_id"], last["h"]


@pytest.fixture
def tampered(opened: Opened, mongodb_uri: str, mongodb_database: str) -> Callable[[Callable[[Database], Any]], Report]:
    """Writes a trail, lets somebody at its database, and verifies it."""

    def tamper(crime: Callable[[Database], Any]) -> Report:
        async def work(then: Callable[[Store], Awaitable[Any]]) -> Any:
            async with opened() as store:
                return await then(store)

        witness = asyncio.run(work(write))
        with MongoClient[Row](mongodb_uri) as client:
            crime(client[mongodb_database])
        report: Report = asyncio.run(work(lambda store: walked(store, witness=witness)))
        return report

    return tamper


def with_events(row: Row, change: Callable[[list[Any]], list[Any]]) -> bytes:
    """The bytes of a batch whose events were changed, as a forger would write them."""
    batch = unpack(row["z"])
    return pack(Batch(batch.base_url, change(batch.events)))


def replaced(database: Database, number: int, change: Callable[[list[Any]], list[Any]]) -> None:
    row = database["_audit"].find_one({"_id": number})
    events = with_events(row, change)
    database["_audit"].update_one({"_id": number}, {"$set": {"z": events, "c": len(unpack(events).events)}})


def test_a_trail_that_nobody_touched_is_whole(tampered: Callable[..., Report]) -> None:
    report = tampered(lambda database: None)
    assert report.whole, (report.fault, report.differing)
    assert (report.first, report.last, report.events) == (1, BATCHES, 2 * BATCHES)
    assert report.resources == 2 * BATCHES


@pytest.mark.parametrize(
    "change",
    [
        lambda events: [read_of("other", 3), *events[1:]],
        lambda events: events[1:],
        lambda events: events[::-1],
        lambda events: [*events, read_of("p", 9)],
        lambda events: [],
    ],
    ids=["change", "remove", "reorder", "insert", "empty"],
)
def test_an_event_changed_removed_moved_or_added_is_found_in_its_batch(
    tampered: Callable[..., Report], change: Callable[[list[Any]], list[Any]]
) -> None:
    report = tampered(lambda database: replaced(database, 3, change))
    assert report.broken_at == 3
    assert report.last == 2
    assert "contents" in report.fault


def remove_batch(database: Database) -> None:
    database["_audit"].delete_one({"_id": 3})


def remove_the_first(database: Database) -> None:
    database["_audit"].delete_one({"_id": 1})


def swap_batches(database: Database) -> None:
    rows = {n: database["_audit"].find_one({"_id": n}) for n in (3, 4)}
    database["_audit"].delete_many({"_id": {"$in": [3, 4]}})
    database["_audit"].insert_many([rows[3] | {"_id": 4}, rows[4] | {"_id": 3}])


def insert_batch(database: Database) -> None:
    """All later batches move up by one; the new one links correctly behind the second."""
    rows = list(database["_audit"].find({"_id": {"$gte": 3}}))
    database["_audit"].delete_many({"_id": {"$gte": 3}})
    second = link_of(database["_audit"].find_one({"_id": 2}))
    forged = linked(3, second.digest, second.moment_us, 1, pack(Batch(BASE, [read_of("x")])))
    database["_audit"].insert_many([row_of(forged), *(row | {"_id": row["_id"] + 1} for row in rows)])


def make_anew_from_the_third(database: Database) -> None:
    """A forger without the key: every hash fits, only the seals do not."""
    previous = link_of(database["_audit"].find_one({"_id": 2}))
    for number in range(3, BATCHES + 1):
        row = database["_audit"].find_one({"_id": number})
        packed = with_events(row, lambda events: events[:1]) if number == 3 else row["z"]
        previous = linked(number, previous.digest, row["t"], len(unpack(packed).events), packed, b"guess" * 8)
        database["_audit"].replace_one({"_id": number}, row_of(previous))


@pytest.mark.parametrize(
    ("crime", "batch"),
    [
        (remove_batch, 3),
        (remove_the_first, 1),
        (swap_batches, 3),
        (insert_batch, 3),
        (make_anew_from_the_third, 3),
        (lambda database: database["_audit"].update_one({"_id": 4}, {"$set": {"t": 1}}), 4),
        (lambda database: database["_audit"].update_one({"_id": 4}, {"$set": {"z": b"rubbish"}}), 4),
    ],
)
def test_a_batch_changed_removed_moved_or_added_is_named(
    tampered: Callable[..., Report], crime: Callable[[Database], Any], batch: int
) -> None:
    report = tampered(crime)
    assert report.broken_at == batch
    assert report.last == batch - 1


def test_a_chain_cut_short_is_found_by_the_witness_and_by_the_audit_events(
    opened: Opened, tampered: Callable[..., Report]
) -> None:
    report = tampered(lambda database: database["_audit"].delete_many({"_id": {"$gte": 5}}))
    assert (report.broken_at, report.last) == (5, 4)
    assert "the witness knows batch 6" in report.fault

    async def without_witness() -> Report:
        async with opened() as store:
            return await walked(store)

    assert "AuditEvents were made up to batch 6" in asyncio.run(without_witness()).fault


def test_a_trail_removed_altogether_with_its_audit_events_is_missed(tampered: Callable[..., Report]) -> None:
    def everything(database: Database) -> None:
        for name in ("_audit", "_audit_state", "AuditEvent"):
            database[name].drop()

    report = tampered(everything)
    assert not report.whole
    assert "the chain ends at batch 0" in report.fault


def change_resource(database: Database) -> None:
    row = database["AuditEvent"].find_one({}, sort=[("_id", 1)])
    database["AuditEvent"].update_one({"_id": row["_id"]}, {"$set": {"r": row["r"].replace(b"p0", b"p9")}})


def remove_resource(database: Database) -> None:
    database["AuditEvent"].delete_one({"_id": "audit-0000000002-0000-00000"})


def add_resource(name: str) -> Callable[[Database], None]:
    def add(database: Database) -> None:
        row = database["AuditEvent"].find_one()
        database["AuditEvent"].insert_one(row | {"_id": name})

    return add


@pytest.mark.parametrize(
    ("crime", "told"),
    [
        (change_resource, "audit-0000000001-0000-00000 was changed"),
        (remove_resource, "audit-0000000002-0000-00000 is missing"),
        (add_resource("audit-0000000002-0007-00000"), "audit-0000000002-0007-00000 was added"),
        (add_resource("audit-0000000999-0000-00000"), "audit-0000000999-0000-00000 was added"),
        (add_resource("audit-0000000000-0000-00000"), "audit-0000000000-0000-00000 was added"),
    ],
)
def test_audit_events_that_are_not_those_of_the_chain_are_named(
    tampered: Callable[..., Report], crime: Callable[[Database], Any], told: str
) -> None:
    report = tampered(crime)
    assert not report.fault
    assert report.differences == 1
    assert told in report.differing[0]


def test_audit_events_that_other_systems_have_sent_are_no_fault(tampered: Callable[..., Report]) -> None:
    assert tampered(add_resource("0197f4c3-sent-by-another")).whole


def test_a_key_that_was_replaced_still_proves_what_it_has_sealed(opened: Opened) -> None:
    async def work() -> tuple[Report, Report]:
        async with opened() as store:
            await write(store)
            newer = Trail(store.batches, BASE, key=b"n" * 32)
            await newer.start()
            await newer.record(read_of("p"))
            await newer.close()
            return await walked(store, keys=(b"n" * 32, KEY)), await walked(store, keys=(b"n" * 32,))

    both, newest_alone = asyncio.run(work())
    assert both.whole
    assert newest_alone.broken_at == 1
