"""The change feed: everything is told, in order, whatever happens to those who listen."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from fhir_server.jobs import feed as module
from fhir_server.jobs.feed import DEAD, Feed
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.lane import Lane
from fhir_server.jobs.trunk import Trunk
from fhir_server.model.clock import now_us
from fhir_server.model.errors import GoneError, UnavailableError
from fhir_server.storage.changes_stream import FEED, Entry, Key, Position, Stream
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]
PATIENTS = frozenset({"Patient"})

#: The oplog of a test is too young to have lost something: of this position it is said that it has.
LONG_AGO = [1, 1, ""]


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.changes: list[Changed] = []

    async def __call__(self, changes: Sequence[Changed]) -> None:
        self.changes += changes

    @property
    def names(self) -> list[str]:
        return [name_of(changed) for changed in self.changes]

    @property
    def firsts(self) -> list[str]:
        """The names, each once: what is told at least once may be told again."""
        return list(dict.fromkeys(self.names))


def name_of(changed: Changed) -> str:
    return f"{changed.type}/{changed.id}/{changed.version}"


@asynccontextmanager
async def process(store: Store, *followers: Follower, **options: Any) -> AsyncIterator[Feed]:
    """What one server process does with the feed, until it is stopped in good order."""
    feed = feed_of(store, *followers, **options)
    await feed.open()
    try:
        yield feed
    finally:
        await feed.close()


def feed_of(store: Store, *followers: Follower, **options: Any) -> Feed:
    feed = Feed(store, **{"lease_s": 0.9, "pause_s": 0.01, **options})
    for follower in followers:
        feed.register(follower)
    return feed


async def written(store: Store, name: str, body: bytes | None = b"{}") -> Version:
    """Make the next version of a resource."""
    resource_type, _, resource_id = name.partition("/")
    old = await store.get(resource_type, resource_id)
    number = 1 if old is None else old.version + 1
    version = Version(resource_type, resource_id, number, now_us(), "PUT" if body else "DELETE", body, b"%d" % number)
    await store.write(version, old)
    return version


async def until(holds: Callable[[], Any]) -> None:
    """Wait until a condition holds; the test's own time runs out when it never does."""
    while not await holds():
        await asyncio.sleep(0.02)


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
            assert dead[0].error.startswith("GoneError HS-TEST in handle (test_feed.py:")
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
