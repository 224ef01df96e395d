"""One change stream for all lanes of a process: each gets all that it wants, in order, at its own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from fhir_server.jobs import feed as feed_module
from fhir_server.jobs import trunk as module
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.trunk import Branch, Trunk
from fhir_server.model.clock import now_us
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from tests.jobs.feeding import Heard, process, written

Within = Callable[[Callable[[Store], Any]], Any]


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The pipelines of the streams that are opened."""
    opened: list[Any] = []
    watch = AsyncDatabase.watch

    async def counted(database: Any, pipeline: Any, **options: Any) -> Any:
        opened.append(pipeline)
        return await watch(database, pipeline, **options)

    monkeypatch.setattr(AsyncDatabase, "watch", counted)
    return opened


async def versions(store: Store, resource_type: str, count: int) -> None:
    """Make versions by one transaction: they stand in the stream in this order, at one moment of the cluster."""
    await store.ensure(resource_type)

    async def made(unit: Any) -> None:
        rows = [(Version(resource_type, f"r{n:03}", 1, now_us(), "POST", b"{}"), None) for n in range(count)]
        await unit.write(rows)

    await store.transact(made)


def test_lanes_of_the_same_types_share_one_stream(
    within: Within, streams: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "IDLE_KEEP_S", 3600)  # nothing is in the stream before the test writes

    async def work(store: Store) -> None:
        heard = [Heard() for _ in range(6)]
        names = frozenset({"Patient", "Observation"})
        async with process(store, *(Follower(f"f{n}", names, heard[n]) for n in range(6)), lease_s=30) as feed:
            while len(feed._trunk._branches) < 6:
                await asyncio.sleep(0.01)
            for name in ("Patient/a", "Observation/o", "Patient/a"):
                await written(store, name)
            await feed.caught_up()
        for told in heard:
            assert told.names == ["Patient/a/1", "Observation/o/1", "Patient/a/2"]

    within(work)
    assert len(streams) == 1


def test_branches_that_begin_at_one_position_are_fed_by_one_stream_that_widens_for_other_types(
    within: Within, streams: list[Any]
) -> None:
    async def work(store: Store) -> None:
        begin = await store.changes.now()
        trunk = Trunk(store.changes)
        branches = [Branch(types, begin) for types in map(frozenset, ({"Patient"}, {"Patient"}, {"Observation"}, ()))]
        feeding = [asyncio.create_task(trunk.feed(branch)) for branch in branches]
        await written(store, "Patient/a")
        await written(store, "Observation/o")
        await written(store, "Group/g")
        wanted = [["Patient"], ["Patient"], ["Observation"], ["Patient", "Observation", "Group"]]
        for branch, types in zip(branches, wanted, strict=True):
            entries = [await branch.ahead.get() for _ in types]
            assert [entry.version.type for entry in entries if entry.version] == types
            assert branch.ahead.empty()
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)
        assert trunk._reading is None

    within(work)
    assert len(streams) <= 3  # of one type, of two, of all


def test_a_branch_that_is_full_falls_off_and_holds_nobody_up_and_loses_nothing(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AHEAD", 5)
    everybody = [f"r{n:03}" for n in range(60)]

    async def work(store: Store) -> None:
        begin = await store.changes.now()
        trunk = Trunk(store.changes)
        slow, quick = (Branch(frozenset({"Observation"}), begin) for _ in range(2))
        feeding = [asyncio.create_task(trunk.feed(branch)) for branch in (slow, quick)]

        async def taken(branch: Branch, count: int) -> list[str]:
            entries = [await branch.ahead.get() for _ in range(count)]
            return [entry.version.id for entry in entries if entry.version]

        await versions(store, "Observation", 60)
        assert await taken(quick, 60) == everybody
        assert slow.ahead.full()
        assert await taken(slow, 60) == everybody
        await written(store, "Observation/after")
        assert await taken(slow, 1) == await taken(quick, 1) == ["after"]
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)

    within(work)


def test_a_branch_that_begins_further_back_reads_by_itself_until_it_is_where_the_trunk_is(within: Within) -> None:
    async def work(store: Store) -> None:
        begin = await store.changes.now()
        await versions(store, "Observation", 30)
        trunk = Trunk(store.changes)
        first, late = (Branch(frozenset({"Observation"}), await store.changes.now()), None)
        feeding = [asyncio.create_task(trunk.feed(first))]
        await written(store, "Observation/x")
        assert (await first.ahead.get()).version is not None
        late = Branch(frozenset({"Observation"}), begin)
        feeding.append(asyncio.create_task(trunk.feed(late)))
        found = [(await late.ahead.get()).version for _ in range(31)]
        assert [version.id for version in found if version] == [f"r{n:03}" for n in range(30)] + ["x"]
        while late not in trunk._branches:
            await asyncio.sleep(0.01)
        await written(store, "Observation/y")
        for branch in (first, late):
            entry = await branch.ahead.get()
            assert entry.version is not None
            assert entry.version.id == "y"
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)

    within(work)


def test_a_branch_that_is_further_than_the_trunk_is_told_nothing_twice(within: Within) -> None:
    async def work(store: Store) -> None:
        begin = await store.changes.now()
        await versions(store, "Observation", 20)
        async with store.changes.follow(frozenset(), begin) as stream:
            tenth = [(await stream.next()).position for _ in range(10)][-1]
        trunk = Trunk(store.changes)
        branches = [Branch(frozenset(), begin), Branch(frozenset(), tenth)]
        feeding = [asyncio.create_task(trunk.feed(branch)) for branch in branches]
        for branch, first in zip(branches, (0, 10), strict=True):
            found = [(await branch.ahead.get()).version for _ in range(20 - first)]
            assert [version.id for version in found if version] == [f"r{n:03}" for n in range(first, 20)]
            assert branch.ahead.empty()
        for task in feeding:
            task.cancel()
        await asyncio.gather(*feeding, return_exceptions=True)

    within(work)


def test_a_slow_handler_holds_up_itself_alone(within: Within) -> None:
    async def work(store: Store) -> None:
        gate, slow, quick = asyncio.Event(), Heard(), Heard()

        async def waits(changes: Sequence[Changed]) -> None:
            await gate.wait()
            await slow(changes)

        followers = (Follower("slow", frozenset(), waits), Follower("quick", frozenset(), quick))
        async with process(store, *followers, lease_s=30) as feed:
            await versions(store, "Observation", 20)
            while len(quick.changes) < 20:
                await asyncio.sleep(0.01)
            assert slow.changes == []
            assert feed.lag_s > 0
            gate.set()
            await feed.caught_up()
            assert slow.names == quick.names

    within(work)
