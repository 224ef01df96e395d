"""Jobs: each is carried out to its end by one process at a time, whichever processes come and go."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.jobs import jobs as module
from fhir_server.jobs.job import Job
from fhir_server.jobs.jobs import JOBS, MOST_TRIES, Jobs
from fhir_server.jobs.run import PAGES, Run
from fhir_server.model import codec
from fhir_server.model.errors import UnavailableError, UnprocessableError
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]
Work = Callable[[Run], Coroutine[Any, Any, bytes | None]]
KIND = "count"


@asynccontextmanager
async def process(store: Store, work: Work, *, watching: bool = True, **options: Any) -> AsyncIterator[Jobs]:
    """What one server process does with jobs, until it is stopped in good order."""
    jobs = Jobs(store.rows, **{"lease_s": 0.6, **options})
    jobs.register(KIND, work)
    await jobs.open(watching=watching)
    try:
        yield jobs
    finally:
        await jobs.close()


async def ended(jobs: Jobs, job_id: str, seconds: float = 20) -> Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = await jobs.get(job_id)
        if job is not None and job.ended:
            return job
        await asyncio.sleep(0.02)
    raise AssertionError(f"the job does not end: {await jobs.get(job_id)}")


async def counting(run: Run) -> bytes:
    """Count to ten, and keep each number."""
    for n in range(run.kept.get("n", 0), 10):
        await run.tell(n + 1, 10, f"at {n}", {"n": n + 1})
        await asyncio.sleep(0.01)
    return b"ten"


def test_a_job_is_told_of_from_its_beginning_to_its_end(within: Within) -> None:
    async def work(store: Store) -> None:
        async with process(store, counting) as jobs:
            job = await jobs.start(KIND, "numbers", {"what": {"to": "count"}})
            assert (job.state, job.subject, job.takes, job.ended_us) == ("active", "numbers", 1, None)
            job = await ended(jobs, job.id)
            assert (job.state, job.done, job.total, job.message) == ("completed", 10, 10, "at 9")
            assert (job.status, job.result) == (200, b"ten")
            assert job.made_us <= (job.started_us or 0) <= (job.ended_us or 0) == job.told_us
            (listed,) = await jobs.of(KIND)
            assert (listed.id, listed.state, listed.result) == (job.id, "completed", None)
            assert await jobs.of(KIND, "something else") == []
            assert await jobs.get("never was") is None

    within(work)


def test_a_process_that_is_held_up_loses_its_job_and_the_next_one_goes_on_from_where_it_was(
    within: Within, mongodb_uri: str, mongodb_database: str
) -> None:
    held, let_go = threading.Event(), threading.Event()
    late: list[str] = []
    began_with: list[dict[str, Any]] = []

    async def held_up(run: Run) -> None:
        await run.keep({"n": 7})
        held.set()
        let_go.wait(30)  # as a suspended process: its event loop stands still
        await run.keep({"n": 99})
        late.append("kept")

    async def going_on(run: Run) -> bytes:
        began_with.append(dict(run.kept))
        return await counting(run)

    def first() -> None:
        async def first_process(store: Store) -> None:
            async with process(store, held_up, watching=False) as jobs:
                await jobs.carry_out(KIND, "numbers", {})

        within(first_process)

    async def second_process(store: Store) -> None:
        async with process(store, going_on) as jobs:
            (job,) = await jobs.of(KIND)
            job = await ended(jobs, job.id)
            assert (job.state, job.done) == ("completed", 10)
            assert job.takes >= 2  # on a busy machine the second one may be late, too, and take it once more
            let_go.set()
            await asyncio.to_thread(thread.join, 30)
            assert (await jobs.get(job.id)) == job  # what the first one said afterwards has changed nothing

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(30)
    within(second_process)
    assert began_with[0] == {"n": 7}
    assert late == []


def test_several_processes_never_carry_out_one_job_twice_at_once(within: Within) -> None:
    at_work: Counter[str] = Counter()
    begun: Counter[str] = Counter()

    async def watched(run: Run) -> None:
        at_work[run.job_id] += 1
        begun[run.job_id] += 1
        assert at_work[run.job_id] == 1
        await asyncio.sleep(0.2)
        at_work[run.job_id] -= 1

    async def work(store: Store) -> None:
        async with (
            process(store, watched, lease_s=30) as one,
            process(store, watched, lease_s=30) as two,
            process(store, watched, lease_s=30) as three,
        ):
            started = await asyncio.gather(*(jobs.start(KIND, "x", {}) for jobs in (one, two, three) * 6))
            for job in started:
                assert (await ended(one, job.id)).state == "completed"
            assert begun == Counter({job.id: 1 for job in started})

    within(work)


def test_a_job_of_a_process_that_is_stopped_goes_on_at_once_from_the_last_that_was_told(within: Within) -> None:
    began_with: list[int] = []
    far_enough = asyncio.Event()

    async def slow(run: Run) -> bytes:
        began_with.append(run.kept.get("n", 0))
        for n in range(run.kept.get("n", 0), 5):
            await run.tell(n + 1, 5, "", {"n": n + 1})  # all but the first within the time in which nothing is written
            if len(began_with) == 1 and n == 3:
                far_enough.set()
                await asyncio.sleep(60)
        return b"five"

    async def work(store: Store) -> None:
        async with process(store, slow, lease_s=300, watching=False) as jobs:
            job = await jobs.start(KIND, "numbers", {})
            await far_enough.wait()
        async with process(store, slow, lease_s=300) as jobs:
            job = await ended(jobs, job.id, 5)
            assert (job.state, job.result, job.takes) == ("completed", b"five", 2)

    within(work)
    assert began_with == [0, 4]


def test_what_the_work_refuses_is_the_outcome_of_the_job(within: Within) -> None:
    async def refusing(_: Run) -> None:
        raise UnprocessableError("It is against the rules.", key="HS-TEST")

    async def work(store: Store) -> None:
        async with process(store, refusing) as jobs:
            job = await ended(jobs, (await jobs.carry_out(KIND, "x", {})).id)
            assert (job.state, job.status, job.message) == ("failed", 422, "It is against the rules.")
            assert codec.decode(job.result or b"")["issue"][0]["code"] == "business-rule"

    within(work)


def test_an_internal_error_ends_the_job_and_its_text_stays_in_the_log(
    within: Within, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Run) -> None:
        raise KeyError("Mrs Secret")

    async def work(store: Store) -> None:
        async with process(store, broken) as jobs:
            job = await ended(jobs, (await jobs.carry_out(KIND, "x", {})).id)
            assert (job.state, job.status) == ("failed", 500)
            assert job.id in job.message
            assert b"Secret" not in (job.result or b"")

    within(work)
    assert "Mrs Secret" in caplog.text


def test_a_job_whose_database_does_not_answer_is_tried_again_after_a_pause(
    within: Within, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.02)
    tries: list[float] = []

    async def shaky(_: Run) -> bytes:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise UnavailableError("The database does not answer.")
        return b"at last"

    async def work(store: Store) -> None:
        async with process(store, shaky) as jobs:
            job = await jobs.start(KIND, "x", {})
            assert (await ended(jobs, job.id)).result == b"at last"

    within(work)
    assert len(tries) == 3


@pytest.mark.parametrize("gets_on", [False, True])
def test_a_job_is_given_up_when_it_does_not_get_on_and_only_then(
    within: Within, monkeypatch: pytest.MonkeyPatch, gets_on: bool
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    tries: list[int] = []

    async def dying(run: Run) -> bytes:
        tries.append(1)
        if gets_on:
            await run.keep({"n": len(tries)})
            if len(tries) == MOST_TRIES + 3:
                return b"done"
        raise UnavailableError("The database does not answer.")

    async def work(store: Store) -> None:
        async with process(store, dying) as jobs:
            job = await jobs.start(KIND, "x", {})
            job = await ended(jobs, job.id)
            assert job.state == ("completed" if gets_on else "failed")
            assert gets_on or "given up" in job.message

    within(work)
    assert len(tries) == MOST_TRIES + (3 if gets_on else 0)


def test_what_a_job_was_about_goes_when_it_ends_and_its_row_some_days_later(within: Within) -> None:
    async def paged(run: Run) -> bytes:
        for number in range(12):
            await run.keep_page(number, {"ids": [f"secret-{number}"]})
        await run.keep({"pages": 12})
        return b",".join(page["ids"][0].encode() for page in await run.pages())

    async def work(store: Store) -> None:
        async with process(store, paged, kept_days=3) as jobs:
            await store.rows(PAGES).put("0/000000", {"ids": ["of another job"]})
            job = await jobs.carry_out(KIND, "x", {"patient": "secret"})
            assert job.result == b",".join(f"secret-{n}".encode() for n in range(12))
            row = await store.rows(JOBS).get(job.id) or {}
            assert (row["wanted"], row["kept"], row["ending"]) == (None, None, None)
            assert [page["_id"] for page in await store.rows(PAGES).all()] == ["0/000000"]
            expected = datetime.now(UTC) + timedelta(days=3)
            assert abs(row["gone"].replace(tzinfo=UTC) - expected) < timedelta(minutes=1)
        index = (await store.rows(JOBS)._collection.index_information())["gone"]
        assert index["expireAfterSeconds"] == 0

    within(work)


def test_a_job_whose_process_died_while_it_ended_ends_as_it_would_have(within: Within) -> None:
    begun: list[str] = []

    async def never(run: Run) -> None:
        begun.append(run.job_id)

    async def work(store: Store) -> None:
        async with process(store, never, at_once=0, watching=False) as jobs:
            job = await jobs.start(KIND, "x", {})
        ending = {"state": "completed", "status": 200, "result": b"whole"}
        await store.rows(JOBS).put(job.id, {"state": "active", "paged": True, "ending": ending})
        await store.rows(PAGES).put(f"{job.id}/000001", {"ids": []})
        async with process(store, never) as jobs:
            job = await ended(jobs, job.id)
            assert (job.state, job.result) == ("completed", b"whole")
            assert await store.rows(PAGES).all() == []

    within(work)
    assert begun == []


def test_jobs_wait_while_a_process_has_its_hands_full_and_begin_when_one_ends(within: Within) -> None:
    most = at_work = 0
    gate = asyncio.Event()

    async def busy(_: Run) -> None:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        await gate.wait()
        at_work -= 1

    async def work(store: Store) -> None:
        async with process(store, busy, at_once=2, lease_s=30) as jobs:
            started = [await jobs.start(KIND, "x", {}) for _ in range(6)]
            assert [job.state for job in started] == ["active"] * 2 + ["waiting"] * 4
            while at_work < 2:
                await asyncio.sleep(0.01)
            gate.set()
            for job in started:
                assert (await ended(jobs, job.id)).state == "completed"

    within(work)
    assert most == 2


def test_a_job_of_a_kind_that_this_process_does_not_know_is_left_to_others(within: Within) -> None:
    async def work(store: Store) -> None:
        await store.rows(JOBS).put("old", {"kind": KIND, "status": "active"})  # as an earlier version wrote them
        async with process(store, counting) as jobs:
            other = await jobs.start("of the next version", "x", {})
            await asyncio.sleep(0.5)
            job = await jobs.get(other.id)
            assert job is not None
            assert (job.state, job.takes) == ("waiting", 0)
            assert await jobs.get("old") is None
            assert await jobs.of(KIND) == []

    within(work)
