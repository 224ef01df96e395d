"""Tasks end, also those that lose a cancellation."""

from __future__ import annotations

import asyncio
import gc

import pytest

from fhir_server.model.ending import ended

SOON_S = 0.01


def test_a_task_that_lost_its_cancellation_is_cancelled_again() -> None:
    lost: list[int] = []

    async def losing() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if len(lost) == 3:
                    raise
                lost.append(1)

    async def work() -> bool:
        task = asyncio.create_task(losing())
        await asyncio.sleep(0)
        await ended([task], again_s=SOON_S)
        return task.cancelled()

    assert asyncio.run(work())
    assert len(lost) == 3


def test_what_a_task_puts_away_when_it_is_cancelled_is_awaited() -> None:
    put_away: list[str] = []

    async def working() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(SOON_S)
            put_away.append("all of it")

    async def work() -> None:
        task = asyncio.create_task(working())
        await asyncio.sleep(0)
        await ended([task])

    asyncio.run(work())
    assert put_away == ["all of it"]


def test_how_a_task_ended_is_nobodys_concern(caplog: pytest.LogCaptureFixture) -> None:
    async def failing() -> None:
        raise LookupError

    async def done() -> int:
        return 1

    async def work() -> None:
        tasks = [asyncio.create_task(failing()), asyncio.create_task(done())]
        await asyncio.sleep(0)
        await ended(tasks)
        await ended([])
        assert all(task.done() for task in tasks)

    asyncio.run(work())
    gc.collect()
    assert "never retrieved" not in caplog.text
