"""Leases: one holder at a time, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from fhir_server.jobs.lease import LEASES, Lease, LeaseLostError
from fhir_server.model.errors import UnavailableError
from fhir_server.storage.rows import Rows
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]


def test_of_many_who_want_a_lease_at_once_one_gets_it(within: Within) -> None:
    async def work(store: Store) -> None:
        leases = [Lease(store.rows(LEASES), "one") for _ in range(20)]
        taken = await asyncio.gather(*(lease.take() for lease in leases))
        assert len([row for row in taken if row is not None]) == 1
        assert await Lease(store.rows(LEASES), "another").take() is not None

    within(work)


def test_a_holder_that_says_nothing_loses_its_lease_and_can_keep_nothing_more(within: Within) -> None:
    async def work(store: Store) -> None:
        rows = store.rows(LEASES)
        silent, next_one = Lease(rows, "feed", lasts_s=1.0), Lease(rows, "feed")
        assert await silent.take() is not None
        await silent.put({"token": "$first"})
        assert await next_one.take() is None
        await asyncio.sleep(1.1)
        row = await next_one.take()
        assert row is not None
        assert (row["token"], row["lease"]["term"]) == ("$first", 2)
        for late in (silent.put({"token": "late"}), silent.release({"token": "late"})):
            with pytest.raises(LeaseLostError):
                await late
        assert (await rows.get("feed") or {})["token"] == "$first"

    within(work)


def test_a_lease_that_nobody_else_took_is_kept_however_late_it_is_renewed(within: Within) -> None:
    async def work(store: Store) -> None:
        lease = Lease(store.rows(LEASES), "late", lasts_s=0.1)
        assert await lease.take() is not None
        await asyncio.sleep(0.2)
        await lease.put({"n": 1})
        assert await Lease(store.rows(LEASES), "late").take() is None

    within(work)


def test_a_lease_is_renewed_for_as_long_as_its_holder_works(within: Within) -> None:
    async def work(store: Store) -> None:
        mine, other = (Lease(store.rows(LEASES), "long", lasts_s=2.0) for _ in range(2))
        assert await mine.take() is not None

        async def tried() -> str:
            for _ in range(25):
                assert await other.take() is None
                await asyncio.sleep(0.1)
            return "done"

        assert await mine.during(tried()) == "done"
        await mine.release()
        assert await other.take() is not None

    within(work)


def test_work_is_cancelled_when_another_has_the_lease(within: Within) -> None:
    ended: list[str] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    async def work(store: Store) -> None:
        rows = store.rows(LEASES)
        lease = Lease(rows, "stolen", lasts_s=0.3)
        assert await lease.take() is not None
        await rows.put("stolen", {"lease.holder": "somebody"})
        with pytest.raises(LeaseLostError):
            await lease.during(endless())

    within(work)
    assert ended == ["cancelled"]


def test_work_is_cancelled_when_the_database_does_not_answer_for_as_long_as_the_lease_lasts(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(*_: Any, **__: Any) -> NoReturn:
        raise UnavailableError("The database does not answer.")

    async def work(store: Store) -> None:
        lease = Lease(store.rows(LEASES), "cut off", lasts_s=0.3)
        assert await lease.take() is not None
        monkeypatch.setattr(Rows, "change", no_answer)
        with pytest.raises(LeaseLostError):
            await lease.during(asyncio.sleep(60))

    within(work)


def test_what_the_work_raises_comes_out_and_the_lease_stays(within: Within) -> None:
    async def failing() -> NoReturn:
        raise ValueError("of the work")

    async def work(store: Store) -> None:
        lease = Lease(store.rows(LEASES), "failing")
        assert await lease.take() is not None
        with pytest.raises(ValueError, match="of the work"):
            await lease.during(failing())
        await lease.put({"n": 1})

    within(work)


def test_a_lease_that_was_let_go_with_a_pause_is_free_after_it(within: Within) -> None:
    async def work(store: Store) -> None:
        lease, other = (Lease(store.rows(LEASES), "pause") for _ in range(2))
        assert await lease.take() is not None
        await lease.release({"n": 2}, pause_s=1.0)
        assert await other.take() is None
        await asyncio.sleep(1.1)
        row = await other.take()
        assert row is not None
        assert row["n"] == 2

    within(work)


def test_with_a_condition_only_a_row_that_is_there_and_meets_it_is_taken(within: Within) -> None:
    async def work(store: Store) -> None:
        rows = store.rows(LEASES)
        assert await Lease(rows, "absent").take({"state": "waiting"}) is None
        assert await rows.get("absent") is None
        await rows.put("there", {"state": "waiting"})
        assert await Lease(rows, "there").take({"state": "ended"}) is None
        row = await Lease(rows, "there").take({"state": "waiting"}, {"state": "active"})
        assert row is not None
        assert row["state"] == "active"

    within(work)
