"""Timers: what is due is done, by one process at a time, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.jobs.timers import Timer, Timers
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
    timers = Timers(store.rows, **{"lease_s": 5.0, **given, **options})
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
