"""The change feed loses nothing: whatever handlers, streams and databases do, and where history is gone."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from fhir_server.jobs.feed import DEAD
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.lane import Lane
from fhir_server.jobs.trunk import Trunk
from fhir_server.model.clock import now_us
from fhir_server.model.errors import GoneError, UnavailableError
from fhir_server.storage.changes_stream import FEED, Entry, Key, Position, Stream
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from tests.jobs.feeding import LONG_AGO, PATIENTS, Heard, Within, feed_of, name_of, process, written

# --- what fails -----------------------------------------------------------------------------------------------------


def test_nothing_is_lost_when_a_handler_raises(within: Within) -> None:
    async def work(store: Store) -> None:
        heard, tries = Heard(), Counter[str]()

        async def flaky(changes: Sequence[Changed]) -> None:
            for changed in changes:
                tries[name_of(changed)] += 1
                if tries[name_of(changed)] <= changed.version:
                    raise ValueError("not yet")
                await heard([changed])

        async with process(store, Follower("flaky", PATIENTS, flaky)) as feed:
            for n in range(20):
                await written(store, f"Patient/p{n % 7}")
            await feed.caught_up()
            assert await feed.dead() == []
        expected = {f"Patient/p{n}/{v}" for n in range(7) for v in (1, 2, 3)} - {"Patient/p6/3"}
        assert set(heard.names) == expected
        for n in range(7):
            versions = [name for name in heard.firsts if f"/p{n}/" in name]
            assert versions == sorted(versions)

    within(work)


def test_what_goes_on_failing_is_set_aside_without_its_content_and_is_handled_again_when_asked(
    within: Within, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(store: Store) -> None:
        heard, broken = Heard(), True

        async def handle(changes: Sequence[Changed]) -> None:
            if broken and any(changed.id == "bad" for changed in changes):
                raise GoneError("Mrs Secret cannot be told.", key="HS-TEST")
            await heard(changes)

        async with process(store, Follower("patients", PATIENTS, handle), most_tries=3) as feed:
            for name in ("Patient/a", "Patient/bad", "Patient/bad", "Patient/c"):
                await written(store, name, b"Mrs Secret")
            await feed.caught_up()
            assert set(heard.names) == {"Patient/a/1", "Patient/c/1"}
            dead = await feed.dead("patients")
            assert {(d.type, d.id, d.version, d.tries, d.asked) for d in dead} == {
                ("Patient", "bad", 1, 3, False),
                ("Patient", "bad", 2, 3, False),
            }
            assert dead[0].error.startswith("GoneError HS-TEST in handle (test_feed_failures.py:")
            assert "Secret" not in str(await store.rows(DEAD).all())
            assert await feed.dead("another") == []

            assert await feed.replay("patients") == 2  # it is still broken
            await feed.caught_up()
            assert [d.asked for d in await feed.dead()] == [False, False]

            broken = False
            assert await feed.replay() == 2
            await feed.caught_up()
            assert heard.names[-2:] == ["Patient/bad/1", "Patient/bad/2"]
            assert await feed.dead() == []

    within(work)
    assert "is set aside" in caplog.text
    assert "Secret" not in caplog.text


def test_what_was_set_aside_and_erased_meanwhile_is_forgotten(within: Within) -> None:
    async def broken(_: Sequence[Changed]) -> None:
        raise ValueError("always")

    async def work(store: Store) -> None:
        async with process(store, Follower("patients", PATIENTS, broken), most_tries=1) as feed:
            await written(store, "Patient/a")
            await feed.caught_up()
            await store.erase("Patient", ["a"])
            assert await feed.replay() == 1
            await feed.caught_up()
            assert await feed.dead() == []

    within(work)


def test_a_database_that_does_not_answer_is_not_held_against_a_change(within: Within) -> None:
    async def work(store: Store) -> None:
        heard, failures = Heard(), 6

        async def cut_off(changes: Sequence[Changed]) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise UnavailableError("The database does not answer.")
            await heard(changes)

        async with process(store, Follower("patients", PATIENTS, cut_off), most_tries=2, pause_s=0.001) as feed:
            await written(store, "Patient/a")
            await feed.caught_up()
            assert await feed.dead() == []
        assert heard.names == ["Patient/a/1"]

    within(work)


def test_a_stream_that_breaks_off_again_and_again_loses_nothing(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    following, breaks = Stream.next, 0

    async def breaks_off(stream: Stream) -> Entry:
        nonlocal breaks
        entry = await following(stream)
        if entry.version is not None and entry.version.id not in broken:
            broken.add(entry.version.id)
            breaks += 1
            raise UnavailableError("The database does not answer.")
        return entry

    broken: set[str] = set()
    monkeypatch.setattr(Stream, "next", breaks_off)

    async def work(store: Store) -> None:
        one, two = Heard(), Heard()
        async with process(store, Follower("one", PATIENTS, one), Follower("two", frozenset(), two)) as feed:
            for n in range(4):
                await written(store, f"Patient/p{n}")
            await feed.caught_up()
        for heard in (one, two):
            assert heard.firsts == [f"Patient/p{n}/1" for n in range(4)]

    within(work)
    assert breaks == 4


def test_a_backlog_that_is_lost_is_read_from_where_the_stream_was_and_not_from_now(within: Within) -> None:
    """What the stream tells while it is far behind is long past, also where it tells nothing but a mark."""
    long_past = now_us() // 1_000_000 - 3600

    async def work(store: Store) -> None:
        follower = Follower("behind", PATIENTS, Heard())
        lane = Lane(follower, 0, store.changes, Trunk(store.changes), feed_of(store), most_tries=1, pause_s=0.01)
        kept: dict[str, Any] = {}

        async def keep(fields: Any) -> None:
            kept.update(fields)

        await lane._take([Entry(Position(long_past, 1, "82"), mark=7)])
        await lane._keep_now(keep)
        assert kept == {"position": [long_past, 1, "82"], "through": long_past * 1_000_000, "mark": 7}

    within(work)


def test_a_subject_that_cannot_be_told_is_the_resource(within: Within) -> None:
    def subject(_: Changed) -> str:
        raise KeyError("Mrs Secret")

    async def work(store: Store) -> None:
        heard = Heard()
        async with process(store, Follower("patients", PATIENTS, heard, subject, parts=2)) as feed:
            for n in range(4):
                await written(store, f"Patient/p{n}")
            await feed.caught_up()
        assert set(heard.names) == {f"Patient/p{n}/1" for n in range(4)}

    within(work)


# --- history that is lost -------------------------------------------------------------------------------------------


def test_what_fell_off_the_oplog_is_read_from_the_collections_and_the_log_says_so(
    within: Within, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch, losses = AsyncDatabase.watch, 0

    async def watch_later(database: Any, *given: Any, start_at_operation_time: Any, **options: Any) -> Any:
        nonlocal losses
        if start_at_operation_time.time == LONG_AGO[0]:
            losses += 1
            raise OperationFailure("Resume of change stream was not possible", code=286)  # ChangeStreamHistoryLost
        return await watch(database, *given, start_at_operation_time=start_at_operation_time, **options)

    monkeypatch.setattr(AsyncDatabase, "watch", watch_later)

    async def work(store: Store) -> None:
        heard = Heard()
        follower = Follower("all", frozenset(), heard)
        async with process(store, follower) as feed:
            await written(store, "Patient/a")
            await feed.caught_up()
        for _ in range(3):
            await written(store, "Patient/a")
        await written(store, "Observation/o")
        await written(store, "Patient/a", None)
        await store.rows(FEED).put("lane/all/0/1", {"position": LONG_AGO})
        with caplog.at_level(logging.INFO):
            async with process(store, follower) as feed:
                await feed.caught_up()
                await written(store, "Patient/z")
                await feed.caught_up()
                (position,) = await feed.position()
                assert not position.scanning
        expected = [f"Patient/a/{n}" for n in range(1, 6)]
        assert [name for name in heard.firsts if "/a/" in name] == expected
        assert set(heard.names) == {*expected, "Observation/o/1", "Patient/z/1"}

    within(work)
    assert losses == 1
    assert "the change stream cannot go on for all (OperationFailure 286)" in caplog.text
    assert "all has caught up with the change stream" in caplog.text


def test_a_recovery_that_is_interrupted_goes_on_where_it_was(within: Within, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhir_server.jobs.lane.PAGE", 7)

    async def work(store: Store) -> None:
        first, heard = Heard(), Heard()
        for n in range(40):
            await written(store, f"Patient/p{n:02}")
        many: asyncio.Event = asyncio.Event()

        async def slow(changes: Sequence[Changed]) -> None:
            await first(changes)
            if len(first.changes) > 20:
                many.set()
            await asyncio.sleep(0.05)

        async with process(store, Follower("whole", PATIENTS, slow, from_start=True)) as feed:
            await many.wait()
            (position,) = await feed.position()
            assert position.scanning
        async with process(store, Follower("whole", PATIENTS, heard, from_start=True)) as feed:
            await feed.caught_up()
        assert set(first.names) | set(heard.names) == {f"Patient/p{n:02}/1" for n in range(40)}
        assert "Patient/p00/1" not in heard.names

    within(work)


def test_versions_of_one_moment_are_read_from_the_collections_page_by_page(within: Within) -> None:
    async def work(store: Store) -> None:
        for name in ("Patient", "Observation"):
            await store.ensure(name)

        async def made(unit: Any) -> None:
            for name in ("Patient", "Observation"):
                await unit.write([(Version(name, f"r{n:02}", 1, 5_000, "POST", b"{}"), None) for n in range(10)])

        await store.transact(made)
        old = await store.get("Patient", "r03")
        await store.write(Version("Patient", "r03", 2, 5_000, "PUT", b"{}"), old)
        stream, after, found = store.changes, Key(0, "", "", 0), []
        while keys := await stream.since(frozenset(), after, 4):
            assert len(keys) <= 4
            found += keys
            after = keys[-1]
        expected = [("Observation", f"r{n:02}", 1) for n in range(10)]
        expected += sorted([("Patient", f"r{n:02}", 1) for n in range(10)] + [("Patient", "r03", 2)])
        assert [key[1:] for key in found] == expected

    within(work)
