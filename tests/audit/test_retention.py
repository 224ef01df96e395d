"""What is older than it must be kept goes from the old end, and the rest can still be proven."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.audit import retention, trail
from fhir_server.audit.retention import DAY_US, expire
from fhir_server.audit.trail import Pace, Trail
from fhir_server.audit.verify import Report, links, verify
from fhir_server.model.clock import now_us
from fhir_server.storage.store import Store
from tests.audit.conftest import BASE, KEY, Opened, ledger_of, read_of

OLD, YOUNG = 4, 3


async def aged(store: Store, monkeypatch: pytest.MonkeyPatch) -> Trail:
    """A trail whose first four batches are from ten days ago."""
    writing = Trail(store.batches, BASE, key=KEY, pace=Pace(flush_s=30))
    await writing.start()
    with monkeypatch.context() as past:
        past.setattr(trail, "now_us", lambda: now_us() - 10 * DAY_US)
        for number in range(OLD):
            await writing.record(read_of("old", number))
    for number in range(YOUNG):
        await writing.record(read_of("young", number))
    await ledger_of(store).caught_up()
    return writing


async def walked(store: Store) -> Report:
    ledger = ledger_of(store)
    return await verify(store, [KEY], None, lambda link: list(ledger.versions_of(link)))


async def ids(store: Store) -> list[str]:
    rows = await store.find("AuditEvent", {}, sort=[("_id", 1)], limit=100, fields={"_id": 1})
    return [row["_id"] for row in rows]


def test_old_batches_and_their_audit_events_go_and_the_chain_is_still_whole(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with opened() as store:
            writing = await aged(store, monkeypatch)
            assert await expire(store, writing, 11, KEY) == 0
            assert await expire(store, writing, 5, KEY) == OLD
            assert [link.number async for link in links(store.batches)] == [5, 6, 7, 8]  # 8 tells of the removal
            report = await walked(store)
            assert report.whole, report.fault
            assert report.first == OLD + 1
            await ledger_of(store).caught_up()
            assert [name[:16] for name in await ids(store)] == [f"audit-000000000{n}" for n in (5, 6, 7, 8)]
            assert (await walked(store)).whole
            assert await expire(store, writing, 5, KEY) == 0
            await writing.close()

    asyncio.run(work())


def test_batches_of_which_no_audit_events_are_made_yet_stay(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with opened() as store:
            writing = await aged(store, monkeypatch)
            await store.batches.put_state("materialized", {"n": 2})
            assert await expire(store, writing, 5, KEY) == 0
            await writing.close()

    asyncio.run(work())


@pytest.mark.parametrize("step", ["put_state", "erase", "remove_until"])
def test_a_crash_at_any_step_is_finished_by_the_next_run(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    class CrashError(Exception):
        pass

    async def crash(*_: Any) -> None:
        raise CrashError

    async def work() -> None:
        async with opened() as store:
            writing = await aged(store, monkeypatch)
            with monkeypatch.context() as broken:
                broken.setattr(type(store) if step == "erase" else type(store.batches), step, crash)
                with pytest.raises(CrashError):
                    await expire(store, writing, 5, KEY)
            assert await expire(store, writing, 5, KEY) == OLD
            await ledger_of(store).caught_up()
            assert (await walked(store)).whole
            await writing.close()

    asyncio.run(work())


def test_an_anchor_set_by_somebody_else_is_not_believed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> Report:
        async with opened() as store:
            writing = await aged(store, monkeypatch)
            row = await store.batches.get(2)
            assert row is not None
            await store.batches.put_state("anchor", {"n": 2, "h": row["h"], "t": row["t"], "s": b"forged"})
            await store.batches.remove_until(2)
            await writing.close()
            return await walked(store)

    assert "anchor" in asyncio.run(work()).fault


def test_the_chain_goes_on_where_all_of_it_was_removed(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> Report:
        async with opened() as store:
            writing = await aged(store, monkeypatch)
            await writing.close()
            last = await store.batches.last()
            assert last is not None
            link = [link async for link in links(store.batches)][-1]
            await store.batches.put_state("anchor", retention.anchor_of(link, KEY))
            await retention._remove_resources(store, link.number)
            await store.batches.remove_until(link.number)
            again = Trail(store.batches, BASE, key=KEY)
            await again.start()
            await again.record(read_of("p"))
            await again.close()
            await ledger_of(store).caught_up()
            return await walked(store)

    report = asyncio.run(work())
    assert report.whole, report.fault
    assert report.first == report.last == OLD + YOUNG + 1
