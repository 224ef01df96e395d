"""The trail of a process: quick notes, durable records, one chain for all, and nothing lost when the database stops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fhir_server.audit.chain import link_of
from fhir_server.audit.event import Event, unpack
from fhir_server.audit.trail import Pace, Trail, read_witness
from fhir_server.audit.verify import links, verify
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.batches import Batches
from fhir_server.storage.store import Store
from tests.audit.conftest import BASE, KEY, Opened, read_of

LAZY = Pace(flush_s=30.0)


async def stored(store: Store) -> list[list[Event]]:
    """The events of each batch."""
    return [unpack(link.packed).events async for link in links(store.batches)]


def test_notes_are_written_together_within_a_moment(opened: Opened) -> None:
    async def work() -> list[list[Event]]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=0.05))
            await trail.start()
            for number in range(20):
                trail.note(read_of("p", number))
            assert await store.batches.last() is None
            await asyncio.sleep(0.5)
            found = await stored(store)
            await trail.close()
            return found

    (batch,) = asyncio.run(work())
    assert [event.request_id for event in batch] == [f"request-{n}" for n in range(20)]


def test_many_notes_do_not_wait_for_the_clock(opened: Opened) -> None:
    async def work() -> int:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=Pace(flush_s=30.0, flush_events=10))
            await trail.start()
            for number in range(10):
                trail.note(read_of("p", number))
            await asyncio.sleep(0.5)
            found = len(await stored(store))
            await trail.close()
            return found

    assert asyncio.run(work()) == 1


def test_a_record_is_durable_when_it_returns_and_takes_the_notes_along(opened: Opened) -> None:
    async def work() -> list[list[Event]]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=LAZY)
            await trail.start()
            trail.note(read_of("p", 1))
            await trail.record(read_of("p", 2))
            row = await store.batches.get(1, confirmed=True)
            assert row is not None
            found = await stored(store)
            await trail.close()
            return found

    (batch,) = asyncio.run(work())
    assert [event.request_id for event in batch] == ["request-1", "request-2"]


def test_records_that_wait_at_the_same_time_share_few_batches(opened: Opened) -> None:
    async def work() -> tuple[int, int]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=LAZY)
            await trail.start()
            await asyncio.gather(*(trail.record(read_of("p", n)) for n in range(200)))
            batches = await stored(store)
            await trail.close()
            return len(batches), sum(map(len, batches))

    batches, events = asyncio.run(work())
    assert events == 200
    assert batches <= 5


def test_all_processes_write_one_chain_without_losing_an_event(opened: Opened) -> None:
    async def work() -> tuple[set[str], Any]:
        async with opened() as one, opened() as two, opened() as three:
            trails = [Trail(store.batches, BASE, key=KEY, pace=LAZY) for store in (one, two, three)]
            for trail in trails:
                await trail.start()

            async def writer(trail: Trail, name: int) -> None:
                for number in range(15):
                    await trail.record(read_of("p", name * 100 + number))

            await asyncio.gather(*(writer(trail, name) for name, trail in enumerate(trails * 2)))
            for trail in trails:
                await trail.close()
            report = await verify(one, [KEY], None, None)
            return {event.request_id for batch in await stored(one) for event in batch}, report

    found, report = asyncio.run(work())
    assert found == {f"request-{name * 100 + number}" for name in range(6) for number in range(15)}
    assert report.whole
    assert report.events == 90


class Failing(Batches):
    """A database that fails, for as long as it is told to; with `silent`, it takes the batch and does not say so."""

    def __init__(self, batches: Batches, *, silent: bool = False) -> None:
        self.__dict__.update(batches.__dict__)
        self.failing = True
        self.silent = silent
        self.attempts = 0

    async def append(self, row: dict[str, Any]) -> bool:
        if self.failing and not self.silent:
            self.attempts += 1
            raise UnavailableError("down")
        done = await super().append(row)
        self.attempts += 1  # only now it is there, whoever else writes meanwhile
        if self.failing:
            raise UnavailableError("the answer was lost")
        return done


def test_what_the_database_does_not_take_is_tried_again_until_it_does(opened: Opened) -> None:
    async def work() -> list[list[Event]]:
        async with opened() as store:
            batches = Failing(store.batches)
            trail = Trail(batches, BASE, pace=Pace(patience_s=0.2))
            await trail.start()
            with pytest.raises(UnavailableError) as refused:
                await trail.record(read_of("p", 1))
            assert refused.value.issues[0].key == "HS-AUDIT-BEHIND"
            trail.note(read_of("p", 2))
            assert batches.attempts >= 1
            batches.failing = False
            await trail.close()
            return await stored(store)

    found = asyncio.run(work())
    assert [event.request_id for batch in found for event in batch] == ["request-1", "request-2"]


def test_a_batch_whose_acknowledgement_was_lost_is_not_written_twice(opened: Opened) -> None:
    async def work() -> list[list[Event]]:
        async with opened() as store, opened() as other:
            batches = Failing(store.batches, silent=True)
            trail, rival = Trail(batches, BASE), Trail(other.batches, BASE)
            await trail.start()
            await rival.start()
            recording = asyncio.ensure_future(trail.record(read_of("p", 1)))
            while batches.attempts == 0:
                await asyncio.sleep(0.005)
            await rival.record(read_of("p", 2))  # somebody else goes on behind it
            batches.failing = False
            await recording
            await trail.close()
            await rival.close()
            return await stored(store)

    found = asyncio.run(work())
    assert [event.request_id for batch in found for event in batch] == ["request-1", "request-2"]


def test_when_too_much_waits_requests_wait_and_are_then_refused_rather_than_unaudited(opened: Opened) -> None:
    async def work() -> None:
        async with opened() as store:
            batches = Failing(store.batches)
            trail = Trail(batches, BASE, pace=Pace(most_events=5, patience_s=0.3))
            await trail.start()
            for number in range(5):
                assert not trail.full
                trail.note(read_of("p", number))
            assert trail.full
            with pytest.raises(UnavailableError):
                await trail.admit()
            waiting = asyncio.ensure_future(trail.admit())
            await asyncio.sleep(0.05)
            assert not waiting.done()
            batches.failing = False
            await waiting
            assert not trail.full
            await trail.close()
            assert sum(map(len, await stored(store))) == 5

    asyncio.run(work())


def test_the_end_of_the_server_writes_what_waits(opened: Opened) -> None:
    async def work() -> list[list[Event]]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=LAZY)
            await trail.start()
            trail.note(read_of("p", 1))
            await trail.close()
            return await stored(store)

    assert len(asyncio.run(work())) == 1


def test_an_event_that_cannot_be_worked_out_keeps_no_other_back(opened: Opened) -> None:
    class Broken:
        bytes_held = 1
        parts = 1

        def event(self) -> Event:
            raise KeyError("broken")

    async def work() -> list[list[Event]]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, pace=LAZY)
            await trail.start()
            trail.note(Broken())
            await trail.record(read_of("p", 1))
            await trail.close()
            return await stored(store)

    (batch,) = asyncio.run(work())
    assert [event.what.kind for event in batch] == ["audit-fault", "read"]


def test_the_head_is_named_beside_the_database_and_never_goes_back(opened: Opened, tmp_path: Path) -> None:
    witness = tmp_path / "audit-head"

    async def work() -> tuple[int, bytes]:
        async with opened() as store:
            trail = Trail(store.batches, BASE, witness=witness, pace=LAZY)
            await trail.start()
            for number in range(3):
                await trail.record(read_of("p", number))
            await trail.close()
            last = await store.batches.last()
            assert last is not None
            link = link_of(last)
            return link.number, link.digest

    head = asyncio.run(work())
    assert read_witness(witness) == head
    assert head[0] == 3
