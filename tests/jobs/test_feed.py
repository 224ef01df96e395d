"""The change feed: everything is told, in order, to all who listen in any number of processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from fhir_server.jobs import feed as module
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.model.clock import now_us
from fhir_server.storage.changes_stream import FEED
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from tests.jobs.feeding import PATIENTS, Heard, Within, feed_of, name_of, process, until, written

# --- what is told ---------------------------------------------------------------------------------------------------


def test_a_follower_is_told_of_every_version_of_its_types_in_order(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        await written(store, "Patient/before")
        async with process(store, Follower("patients", PATIENTS, heard)) as feed:
            first = await written(store, "Patient/a", b'{"n":1}')
            await written(store, "Observation/o")
            await written(store, "Patient/a", b'{"n":2}')
            await written(store, "Patient/a", None)
            await feed.caught_up()
            assert heard.names == ["Patient/a/1", "Patient/a/2", "Patient/a/3"]
            told = [(c.deleted, c.body, c.before) for c in heard.changes]
            assert told == [(False, b'{"n":1}', None), (False, b'{"n":2}', None), (True, None, b'{"n":2}')]
            assert heard.changes[0].at_us == first.moment_us
            assert feed.lag_s == 0.0

    within(work)


def test_a_follower_of_all_types_is_told_of_what_a_transaction_made(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        for name in ("Patient", "Observation"):
            await store.ensure(name)

        async def made(unit: Any) -> None:
            await unit.write([(Version("Patient", f"p{n}", 1, now_us(), "POST", b"{}"), None) for n in range(3)])
            await unit.write([(Version("Observation", "o", 1, now_us(), "POST", b"{}"), None)])

        async with process(store, Follower("all", frozenset(), heard)) as feed:
            await store.transact(made)
            await feed.caught_up()
        assert heard.firsts == ["Patient/p0/1", "Patient/p1/1", "Patient/p2/1", "Observation/o/1"]

    within(work)


def test_a_change_of_the_index_and_an_erasure_are_not_told(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        async with process(store, Follower("all", frozenset(), heard)) as feed:
            version = await written(store, "Patient/a")
            await store.set_entries("Patient", [("a", version.version, {"$set": {"x": {"name": ["b"]}}})])
            await store.erase("Patient", ["a"])
            await feed.caught_up()
        assert heard.firsts == ["Patient/a/1"]

    within(work)


def test_a_follower_that_asks_for_it_has_the_version_before_each_change(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        async with process(store, Follower("both", PATIENTS, heard, before=True)) as feed:
            for body in (b"1", b"2", None, b"4"):
                await written(store, "Patient/a", body)
            await feed.caught_up()
        seen = {c.version: (c.before, c.body) for c in heard.changes}
        assert seen == {1: (None, b"1"), 2: (b"1", b"2"), 3: (b"2", None), 4: (None, b"4")}

    within(work)


def test_a_follower_may_begin_with_all_that_is_there(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        for _ in range(3):
            await written(store, "Patient/a")
        await written(store, "Patient/b")
        await written(store, "Patient/a", None)
        async with process(store, Follower("whole", PATIENTS, heard, from_start=True)) as feed:
            await written(store, "Patient/b")
            await feed.caught_up()
        assert set(heard.names) == {f"Patient/a/{n}" for n in (1, 2, 3, 4)} | {"Patient/b/1", "Patient/b/2"}
        assert [name for name in heard.firsts if "/a/" in name] == [f"Patient/a/{n}" for n in (1, 2, 3, 4)]
        assert [c.before for c in heard.changes if c.deleted] == [b"{}"]

    within(work)


def test_a_follower_goes_on_where_it_was_when_it_wants_other_types(
    within: Within, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        async with process(store, Follower("changing", PATIENTS, heard)) as feed:
            await written(store, "Patient/a")
            await feed.caught_up()
        await written(store, "Observation/o")
        await written(store, "Patient/b")
        async with process(store, Follower("changing", frozenset({"Observation"}), heard)) as feed:
            await feed.caught_up()
        assert heard.names == ["Patient/a/1", "Observation/o/1"]

    within(work)
    assert "cannot go on" not in caplog.text


def test_a_follower_is_registered_once_and_in_time(within: Within) -> None:
    async def work(store: Store) -> None:
        feed = feed_of(store, Follower("once", PATIENTS, Heard()))
        with pytest.raises(RuntimeError, match="once"):
            feed.register(Follower("once", PATIENTS, Heard()))
        feed = feed_of(store)
        await feed.open()
        with pytest.raises(RuntimeError, match="late"):
            feed.register(Follower("late", PATIENTS, Heard()))
        await feed.caught_up()
        await feed.close()

    within(work)


def test_every_process_hears_all_with_a_follower_of_everywhere(within: Within) -> None:
    async def work(store: Store) -> None:
        one, two = Heard(), Heard()
        async with (
            process(store, Follower("sockets", PATIENTS, one, everywhere=True)) as first,
            process(store, Follower("sockets", PATIENTS, two, everywhere=True)) as second,
        ):
            await written(store, "Patient/a")
            await first.caught_up()
            await second.caught_up()
            assert one.names == two.names == ["Patient/a/1"]
            assert await first.position() == []

    within(work)


# --- order, and several processes -----------------------------------------------------------------------------------


def test_what_eight_writers_change_at_once_is_told_in_order_by_subject_to_two_processes(within: Within) -> None:
    rounds, resources = 12, 3

    async def work(store: Store) -> None:
        heard = Heard()
        follower = Follower("shared", frozenset(), heard, subject=lambda c: (c.body or b"").decode(), parts=3)
        expected: dict[str, list[str]] = {}

        async def writer(subject: str) -> None:
            for n in range(rounds * resources):
                version = await written(store, f"Observation/{subject}-{n % resources}", subject.encode())
                expected.setdefault(subject, []).append(f"Observation/{version.id}/{version.version}")

        await store.ensure("Observation")
        async with process(store, follower) as one, process(store, follower):
            await asyncio.gather(*(writer(f"s{n}") for n in range(8)))
            await one.caught_up()
        for subject, names in expected.items():
            assert [name for name in heard.firsts if f"/{subject}-" in name] == names

    within(work)


def test_the_lanes_are_shared_out_among_the_processes_and_go_on_in_those_that_stay(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.2)

    async def work(store: Store) -> None:
        one, two = Heard(), Heard()
        feeds = [
            feed_of(store, Follower("parts", PATIENTS, heard, parts=4), lease_s=30.0)  # nobody is held up so long
            for heard in (one, two)
        ]
        names = [f"lane/parts/{part}/4" for part in range(4)]
        feeds[0]._process, theirs = "process/one", []
        for n in range(1000):  # a name with which each has two
            feeds[1]._process = f"process/two-{n}"
            theirs = [m for m in names if module._hash(feeds[1]._process, m) > module._hash("process/one", m)]
            if len(theirs) == 2:
                break

        async def shared_out() -> bool:
            held = all(position.held for position in await feeds[0].position())
            return held and set(feeds[1]._tasks) == set(theirs) and set(feeds[0]._tasks) == set(names) - set(theirs)

        for feed in feeds:
            await feed.open()
        await until(shared_out)
        for n in range(40):
            await written(store, f"Patient/p{n}")
        await feeds[1].caught_up()
        everybody = {f"Patient/p{n}/1" for n in range(40)}
        assert one.changes
        assert two.changes
        assert set(one.names) | set(two.names) == everybody
        assert not set(one.names) & set(two.names)
        await feeds[0].close()
        one.changes.clear()
        for n in range(40):
            await written(store, f"Patient/p{n}")
        await feeds[1].caught_up()
        assert {f"Patient/p{n}/2" for n in range(40)} <= set(two.names)
        await feeds[1].close()
        assert one.changes == []

    within(work)


def test_a_process_that_is_held_up_loses_its_lane_and_another_is_told_everything(
    within: Within, mongodb_uri: str, mongodb_database: str
) -> None:
    held, let_go = threading.Event(), threading.Event()
    late: list[str] = []

    async def held_up(changes: Sequence[Changed]) -> None:
        late.extend(map(name_of, changes))
        held.set()
        let_go.wait(40)  # as a suspended process: its event loop stands still

    def first() -> None:
        async def first_process(store: Store) -> None:
            async with process(store, Follower("patients", PATIENTS, held_up)):
                await written(store, "Patient/a")
                await asyncio.to_thread(let_go.wait, 40)

        within(first_process)

    async def second_process(store: Store) -> None:
        heard = Heard()
        await written(store, "Patient/b")
        async with process(store, Follower("patients", PATIENTS, heard)) as feed:
            await feed.caught_up()
            assert heard.firsts == ["Patient/a/1", "Patient/b/1"]
            before = await store.rows(FEED).get("lane/patients/0/1") or {}
            let_go.set()
            await asyncio.to_thread(thread.join, 40)
            after = await store.rows(FEED).get("lane/patients/0/1") or {}
            assert after["mark"] == before["mark"]
            assert after["through"] >= before["through"]  # what the first one had handled is older

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert held.wait(40)
        within(second_process)
    finally:
        let_go.set()
        thread.join(40)
    assert late == ["Patient/a/1"]


def test_after_a_restart_a_follower_goes_on_behind_what_it_has_handled(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        follower = Follower("patients", PATIENTS, heard)
        async with process(store, follower):
            await written(store, "Patient/a")
            await until(lambda: asyncio.sleep(0, heard.changes))
        await written(store, "Patient/b")
        async with process(store, follower) as feed:
            await feed.caught_up()
        assert heard.names == ["Patient/a/1", "Patient/b/1"]

    within(work)


def test_a_change_whose_handler_has_not_returned_comes_again(within: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LETTING_GO_S", 0.1)

    async def work(store: Store) -> None:
        begun = asyncio.Event()

        async def endless(_: Sequence[Changed]) -> None:
            begun.set()
            await asyncio.sleep(60)

        async with process(store, Follower("patients", PATIENTS, endless)):
            await written(store, "Patient/a")
            await begun.wait()
        heard = Heard()
        async with process(store, Follower("patients", PATIENTS, heard)) as feed:
            await feed.caught_up()
        assert heard.names == ["Patient/a/1"]

    within(work)


def test_a_follower_that_is_shared_out_in_other_parts_loses_nothing(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        async with process(store, Follower("patients", PATIENTS, heard, parts=3)) as feed:
            await written(store, "Patient/a")
            await feed.caught_up()
        for n in range(6):
            await written(store, f"Patient/b{n}")
        async with process(store, Follower("patients", PATIENTS, heard, parts=2)) as feed:
            await feed.caught_up()
            assert [(p.part, p.parts) for p in await feed.position()] == [(0, 2), (1, 2)]
        assert {f"Patient/b{n}/1" for n in range(6)} <= set(heard.names)

    within(work)
