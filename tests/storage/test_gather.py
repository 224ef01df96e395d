"""Gathering concurrent commands into one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from fhir_server.storage.gather import Gather


class Recorder:
    """A command that doubles numbers, notes its batches, and fails for some."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(items))
        await asyncio.sleep(0.001)
        if -1 in items:
            raise RuntimeError("all of them")
        return [ValueError(str(i)) if i == 13 else i * 2 for i in items]


def test_a_lone_caller_waits_for_nobody() -> None:
    run = Recorder()
    assert asyncio.run(Gather(run)(4)) == 8
    assert run.batches == [[4]]


def test_what_arrives_together_or_meanwhile_goes_as_one_command() -> None:
    run = Recorder()

    async def work() -> list[int]:
        gather: Gather[int, int] = Gather(run, parallel=1)
        first = [asyncio.ensure_future(gather(n)) for n in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return list(await asyncio.gather(*first, *(gather(n) for n in range(20, 45))))

    assert asyncio.run(work()) == [n * 2 for n in (*range(5), *range(20, 45))]
    assert len(run.batches) == 2


class Gate:
    """A command whose runs end when they are told to."""

    def __init__(self) -> None:
        self.under_way: list[tuple[list[int], asyncio.Event]] = []
        self.begun = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        ends = asyncio.Event()
        self.under_way.append((list(items), ends))
        self.begun.set()
        await ends.wait()
        return list(items)

    async def next(self) -> tuple[list[int], asyncio.Event]:
        """The run that begins next."""
        await asyncio.wait_for(self.begun.wait(), 30)
        self.begun.clear()
        return self.under_way[-1]


def test_a_run_that_takes_long_is_not_waited_for() -> None:
    async def work() -> None:
        gate = Gate()
        gather: Gather[int, int] = Gather(gate, parallel=2, patience_s=0.01)
        first = asyncio.ensure_future(gather(1))
        slow, slow_ends = await gate.next()
        others = [asyncio.ensure_future(gather(n)) for n in (2, 3)]
        quick, quick_ends = await gate.next()
        assert (slow, quick) == ([1], [2, 3])
        quick_ends.set()
        assert await asyncio.gather(*others) == [2, 3]
        assert not first.done()
        slow_ends.set()
        assert await first == 1

    asyncio.run(work())


def test_no_more_runs_are_under_way_than_may_be_and_none_is_forgotten() -> None:
    async def work() -> None:
        gate = Gate()
        gather: Gather[int, int] = Gather(gate, parallel=2, patience_s=0.0)
        asked = [asyncio.ensure_future(gather(1))]
        _, first_ends = await gate.next()
        asked.append(asyncio.ensure_future(gather(2)))
        _, second_ends = await gate.next()
        asked += [asyncio.ensure_future(gather(n)) for n in (3, 4)]
        for _ in range(20):
            await asyncio.sleep(0)
        assert [items for items, _ in gate.under_way] == [[1], [2]]
        first_ends.set()
        third, third_ends = await gate.next()
        assert third == [3, 4]
        second_ends.set()
        third_ends.set()
        assert await asyncio.gather(*asked) == [1, 2, 3, 4]

    asyncio.run(work())


def test_a_run_that_ends_in_time_has_none_beside_it() -> None:
    run = Recorder()

    async def work() -> None:
        gather: Gather[int, int] = Gather(run, parallel=4, patience_s=60)

        async def caller(first: int) -> None:
            for number in range(first, first + 5):
                await gather(number)

        await asyncio.gather(*(caller(100 * n) for n in range(1, 9)))

    asyncio.run(work())
    assert [len(batch) for batch in run.batches] == [8] * 5


def test_what_comes_while_a_run_waits_for_its_moment_goes_along() -> None:
    run = Recorder()

    async def work() -> list[int]:
        moment = asyncio.Event()

        async def ready() -> None:
            await moment.wait()

        gather: Gather[int, int] = Gather(run, size=4, ready=ready)
        asked = [asyncio.ensure_future(gather(n)) for n in range(2)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked += [asyncio.ensure_future(gather(n)) for n in range(2, 5)]
        await asyncio.sleep(0)
        assert run.batches == []
        moment.set()
        return await asyncio.gather(*asked)

    assert asyncio.run(work()) == [0, 2, 4, 6, 8]
    assert run.batches == [[0, 1, 2, 3], [4]]


def test_a_batch_is_never_larger_than_its_limit() -> None:
    run = Recorder()

    async def work() -> None:
        gather: Gather[int, int] = Gather(run, size=10)
        await asyncio.gather(*(gather(n) for n in range(100, 135)))

    asyncio.run(work())
    assert [len(b) for b in run.batches] == [10, 10, 10, 5]


def test_each_caller_gets_its_own_error_and_a_failed_command_fails_for_all() -> None:
    async def work() -> list[object]:
        gather: Gather[int, int] = Gather(Recorder())
        own = await asyncio.gather(gather(1), gather(13), gather(2), return_exceptions=True)
        shared = await asyncio.gather(gather(1), gather(-1), return_exceptions=True)
        after = await gather(7)
        return [*own, *shared, after]

    one, thirteen, two, *shared, after = asyncio.run(work())
    assert (one, two, after) == (2, 4, 14)
    assert isinstance(thirteen, ValueError)
    assert [type(e) for e in shared] == [RuntimeError, RuntimeError]


def test_a_caller_that_goes_away_does_not_disturb_the_others() -> None:
    async def work() -> int:
        gather: Gather[int, int] = Gather(Recorder())
        leaving = asyncio.ensure_future(gather(1))
        staying = asyncio.ensure_future(gather(2))
        await asyncio.sleep(0)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        return await staying

    assert asyncio.run(work()) == 4
