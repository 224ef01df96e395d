"""Timers: what is due is done, by one process at a time, however many there are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.jobs import timers as module
from fhir_server.jobs.timers import TIMERS, Timer, Timers
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.rows import Rows
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]
KIND = "reminder"
SECOND = 1_000_000


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.us = 1_000_000 * SECOND

    def __call__(self) -> int:
        return self.us


class Rung:
    """Remembers which timers were handled."""

    def __init__(self, *again_us: int) -> None:
        self.timers: list[Timer] = []
        self._again_us = list(again_us)

    async def __call__(self, timer: Timer) -> int | None:
        self.timers.append(timer)
        return self._again_us.pop(0) if self._again_us else None

    @property
    def keys(self) -> list[str]:
        return [timer.key for timer in self.timers]


async def opened(store: Store, handle: Any, clock: Clock | None = None, **options: Any) -> Timers:
    """Timers that nobody looks for but `run_due`."""
    given: dict[str, Any] = {} if clock is None else {"now": clock}
    timers = Timers(store.rows, **{"lease_s": 300.0, **given, **options})
    timers.register(KIND, handle)
    await timers.open(looking=False)
    return timers


def test_a_timer_is_handled_once_when_it_is_due(within: Within) -> None:
    async def work(store: Store) -> None:
        clock, rung = Clock(), Rung()
        timers = await opened(store, rung, clock)
        await timers.set(KIND, "a", clock.us + 60 * SECOND, {"appointment": "Appointment/1"})
        assert await timers.run_due() == 0
        clock.us += 60 * SECOND
        assert await timers.run_due() == 1
        assert rung.timers == [Timer(KIND, "a", clock.us, {"appointment": "Appointment/1"}, 0)]
        assert await timers.run_due() == 0
        assert await timers.get(KIND, "a") is None

    within(work)


def test_a_timer_that_is_set_again_is_moved_and_one_that_is_cancelled_is_gone(within: Within) -> None:
    async def work(store: Store) -> None:
        clock, rung = Clock(), Rung()
        timers = await opened(store, rung, clock)
        for key in ("moved", "cancelled"):
            await timers.set(KIND, key, clock.us)
        await timers.set(KIND, "moved", clock.us + SECOND, {"n": 2})
        await timers.cancel(KIND, "cancelled")
        assert await timers.run_due() == 0
        clock.us += SECOND
        await timers.run_due()
        assert [(timer.key, timer.data) for timer in rung.timers] == [("moved", {"n": 2})]

    within(work)


def test_a_timer_of_a_transaction_is_set_if_the_transaction_is_committed(within: Within) -> None:
    async def work(store: Store) -> None:
        clock, rung = Clock(), Rung()
        timers = await opened(store, rung, clock)
        await timers.set(KIND, "old", clock.us)

        async def kept(unit: Any) -> None:
            await timers.set_within(unit, KIND, "kept", clock.us)
            await timers.cancel_within(unit, KIND, "old")

        async def broken(unit: Any) -> None:
            await timers.set_within(unit, KIND, "broken", clock.us)
            raise ValueError("of the work")

        await store.transact(kept)
        with pytest.raises(ValueError, match="of the work"):
            await store.transact(broken)
        await timers.run_due()
        assert rung.keys == ["kept"]

    within(work)


def test_a_timer_that_is_due_at_once_is_handled_by_the_process_in_which_it_was_set(within: Within) -> None:
    async def work(store: Store) -> None:
        rung = Rung()
        done = asyncio.Event()

        async def handle(timer: Timer) -> None:
            await rung(timer)
            done.set()

        timers = Timers(store.rows)
        timers.register(KIND, handle)
        await timers.open()
        try:
            await timers.set(KIND, "now", 0)
            await done.wait()

            async def within_transaction(unit: Any) -> None:
                await timers.set_within(unit, KIND, "committed", 0)

            done.clear()
            await store.transact(within_transaction)
            await done.wait()
        finally:
            await timers.close()
        assert rung.keys == ["now", "committed"]

    within(work)


def test_a_handler_may_have_its_timer_due_again(within: Within) -> None:
    async def work(store: Store) -> None:
        clock = Clock()
        rung = Rung(clock.us + 10 * SECOND, clock.us + 20 * SECOND)
        timers = await opened(store, rung, clock)
        await timers.set(KIND, "repeated", clock.us, {"n": 1})
        for done in (1, 0):
            assert await timers.run_due() == done
        for _ in range(3):
            clock.us += 10 * SECOND
            await timers.run_due()
        assert [timer.due_us - rung.timers[0].due_us for timer in rung.timers] == [0, 10 * SECOND, 20 * SECOND]

    within(work)


# --- several processes ----------------------------------------------------------------------------------------------


def test_of_two_processes_one_handles_a_timer(within: Within) -> None:
    async def work(store: Store) -> None:
        one, two = Rung(), Rung()
        clock = Clock()
        first, second = await opened(store, one, clock), await opened(store, two, clock)
        for n in range(60):
            await first.set(KIND, f"{n:02}", clock.us)
        done = await asyncio.gather(first.run_due(), second.run_due())
        assert sum(done) == 60
        assert sorted(one.keys + two.keys) == [f"{n:02}" for n in range(60)]

    within(work)


def test_a_timer_of_a_process_that_is_held_up_is_handled_by_another(
    within: Within, mongodb_uri: str, mongodb_database: str
) -> None:
    held, let_go = threading.Event(), threading.Event()
    clock = Clock()

    async def held_up(_: Timer) -> int:
        held.set()
        let_go.wait(40)  # as a suspended process: its event loop stands still
        return clock.us  # once more, which it has no say in any longer

    def first() -> None:
        async def first_process(store: Store) -> None:
            timers = await opened(store, held_up, clock, lease_s=0.6)
            await timers.set(KIND, "a", clock.us)
            await timers.run_due()

        within(first_process)

    async def second_process(store: Store) -> None:
        rung = Rung()
        timers = await opened(store, rung, clock)
        while not await timers.run_due():
            await asyncio.sleep(0.05)
        let_go.set()
        await asyncio.to_thread(thread.join, 40)
        assert rung.keys == ["a"]
        assert await timers.get(KIND, "a") is None

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert held.wait(40)
        within(second_process)
    finally:
        let_go.set()
        thread.join(40)


def test_a_timer_that_is_at_work_when_its_process_stops_is_at_once_anothers(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LETTING_GO_S", 0.2)

    async def work(store: Store) -> None:
        begun = asyncio.Event()

        async def endless(_: Timer) -> None:
            begun.set()
            await asyncio.sleep(60)

        stopped = Timers(store.rows, lease_s=300)
        stopped.register(KIND, endless)
        await stopped.open()
        await stopped.set(KIND, "a", 0)
        await begun.wait()
        await stopped.close()
        rung = Rung()
        assert await (await opened(store, rung)).run_due() == 1
        assert rung.keys == ["a"]

    within(work)


def test_a_timer_of_a_kind_that_this_process_does_not_know_is_left_to_others(within: Within) -> None:
    async def work(store: Store) -> None:
        rung = Rung()
        timers = await opened(store, rung)
        await timers.set("of the next version", "a", 0)
        assert await timers.run_due() == 0
        assert await timers.get("of the next version", "a") is not None

    within(work)


# --- what is set while it is handled --------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_s", [None, 60])
def test_a_timer_that_is_set_while_it_is_handled_is_due_as_it_was_set(within: Within, wait_s: int | None) -> None:
    async def work(store: Store) -> None:
        clock, seen = Clock(), []

        async def sets_itself(timer: Timer) -> int | None:
            seen.append(timer.data)
            if len(seen) == 1:
                await timers.set(KIND, "a", clock.us + SECOND, {"n": 2})
                return None if wait_s is None else clock.us + wait_s * SECOND  # what was set meanwhile counts, not this
            return None

        timers = await opened(store, sets_itself, clock)
        await timers.set(KIND, "a", clock.us, {"n": 1})
        assert await timers.run_due() == 1
        clock.us += SECOND
        assert await timers.run_due() == 1
        assert seen == [{"n": 1}, {"n": 2}]
        assert await timers.get(KIND, "a") is None

    within(work)


def test_a_timer_that_is_moved_before_it_is_taken_is_left_alone(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: Store) -> None:
        clock, rung = Clock(), Rung()
        timers = await opened(store, rung, clock)
        await timers.set(KIND, "a", clock.us)
        first = Rows.first

        async def found_and_moved(rows: Rows, *given: Any) -> Any:
            found = await first(rows, *given)
            await timers.set(KIND, "a", clock.us + SECOND)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(Rows, "first", found_and_moved)
            assert await timers.run_due() == 0
        assert rung.keys == []
        clock.us += SECOND
        assert await timers.run_due() == 1

    within(work)


def test_a_timer_that_is_cancelled_while_it_is_handled_does_not_come_again(within: Within) -> None:
    async def work(store: Store) -> None:
        clock = Clock()

        async def cancels_itself(_: Timer) -> int:
            await timers.cancel(KIND, "a")
            return clock.us

        timers = await opened(store, cancels_itself, clock)
        await timers.set(KIND, "a", clock.us)
        assert await timers.run_due() == 1
        assert await timers.get(KIND, "a") is None

    within(work)


# --- what fails -----------------------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_later_each_time_then_set_aside_and_done_when_asked(
    within: Within, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(store: Store) -> None:
        clock, rung, broken = Clock(), Rung(), True

        async def handle(timer: Timer) -> None:
            await rung(timer)
            if broken:
                raise ValueError("Mrs Secret")

        timers = await opened(store, handle, clock, most_tries=3, pause_s=2.0)
        due_us = clock.us
        await timers.set(KIND, "a", due_us, {"appointment": "1"})
        for wait_s, runs in ((0, 1), (1.9, 0), (0.1, 1), (3.9, 0), (0.1, 1), (60, 0)):
            clock.us += round(wait_s * SECOND)
            assert await timers.run_due() == runs
        assert [timer.tries for timer in rung.timers] == [0, 1, 2]
        (dead,) = await timers.dead(KIND)
        assert dead.timer == Timer(KIND, "a", due_us, {"appointment": "1"}, 3)
        assert dead.error.startswith("ValueError in handle (test_timers.py:")
        assert "Secret" not in str(await store.rows(TIMERS).all())

        broken = False
        assert await timers.replay(KIND, "a")
        assert not await timers.replay(KIND, "b")
        assert await timers.run_due() == 1
        assert await timers.dead() == []
        assert await timers.get(KIND, "a") is None

    within(work)
    assert "set aside" in caplog.text
    assert "Secret" not in caplog.text


def test_a_timer_that_was_set_aside_and_is_set_again_is_due_again(within: Within) -> None:
    async def work(store: Store) -> None:
        clock, broken = Clock(), True

        async def handle(_: Timer) -> None:
            if broken:
                raise ValueError

        timers = await opened(store, handle, clock, most_tries=1)
        await timers.set(KIND, "a", clock.us)
        assert await timers.run_due() == 1
        assert len(await timers.dead()) == 1
        broken = False
        await timers.set(KIND, "a", clock.us)
        assert await timers.dead() == []
        assert await timers.run_due() == 1

    within(work)


def test_a_database_that_does_not_answer_is_not_held_against_a_timer(within: Within) -> None:
    async def work(store: Store) -> None:
        clock, failures = Clock(), 5

        async def cut_off(_: Timer) -> None:
            nonlocal failures
            failures -= 1
            if failures >= 0:
                raise UnavailableError("The database does not answer.")

        timers = await opened(store, cut_off, clock, most_tries=2, pause_s=2.0)
        await timers.set(KIND, "a", clock.us)
        for _ in range(6):
            assert await timers.run_due() == 1
            clock.us += 2 * SECOND
        assert await timers.dead() == []
        assert await timers.get(KIND, "a") is None

    within(work)
