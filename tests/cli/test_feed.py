"""`healthsphere feed`: what it tells of followers and timers, and that what it asks for is done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.jobs.aside import set_aside
from fhir_server.jobs.feed import DEAD, Feed
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.jobs.timers import TIMERS, Timer, Timers
from fhir_server.storage.database import connect
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

#: As the feed sets one aside.
DEAD_CHANGE = {
    "follower": "reminders",
    "type": "Appointment",
    "version": 1,
    "error": "ValueError",
    "tries": 6,
    "asked": False,
}

Server = Callable[[Callable[[Feed, Timers, Store], Coroutine[Any, Any, None]]], None]


class Handlers:
    """What a server does with changes and timers, which fails until it is put right."""

    def __init__(self) -> None:
        self.broken = True
        self.done: list[str] = []

    async def changed(self, changes: Sequence[Changed]) -> None:
        if self.broken:
            raise ValueError("Mrs Secret")
        self.done += [f"{change.type}/{change.id}" for change in changes]

    async def rung(self, timer: Timer) -> None:
        if self.broken:
            raise KeyError("Mrs Secret")
        self.done.append(timer.key)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def server(
    mongodb_uri: str, mongodb_database: str, handlers: Handlers, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Server:
    """Runs work while a server's feed and timers do, in the database that the commands find."""
    monkeypatch.setenv("MONGODB_URI", mongodb_uri)
    monkeypatch.setenv("HEALTHSPHERE_MONGODB_DATABASE", mongodb_database)
    monkeypatch.setenv("HEALTHSPHERE_DATA_DIR", str(tmp_path))

    def run(work: Callable[[Feed, Timers, Store], Coroutine[Any, Any, None]]) -> None:
        async def running() -> None:
            client = connect(mongodb_uri)
            store = Store(client, mongodb_database, lambda _: (), max_time_ms=10_000)
            feed = Feed(store, most_tries=1)
            feed.register(Follower("reminders", frozenset({"Appointment"}), handlers.changed))
            timers = Timers(store.rows, most_tries=1)
            timers.register("reminder", handlers.rung)
            await feed.open()
            await timers.open(looking=False)
            try:
                async with asyncio.timeout(60):
                    await work(feed, timers, store)
            finally:
                await feed.close()
                await timers.close()
                await client.close()

        asyncio.run(running())

    return run


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["feed", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.stdout


async def fails(feed: Feed, timers: Timers, store: Store) -> None:
    unit_of = Version("Appointment", "a1", 1, 1_000, "POST", b"Mrs Secret")
    await store.transact(lambda unit: unit.write([(unit_of, None)]))
    await timers.set("reminder", "appointment-1", 0)
    await feed.caught_up()
    await timers.run_due()


def test_an_empty_server_has_nothing_to_tell(server: Server) -> None:
    assert "Nobody follows the changes." in run("status")
    assert "Set aside" not in run("status")
    assert "Nothing was set aside." in run("dead")
    assert "Handled again: 0 of changes, 0 of timers." in run("replay")


def test_the_status_tells_how_far_a_follower_is_and_whether_somebody_has_it(server: Server) -> None:
    async def work(feed: Feed, timers: Timers, store: Store) -> None:
        await feed.caught_up()
        text = await asyncio.to_thread(run, "status")
        assert "reminders" in text
        assert "1 of 1" in text
        assert "follows" in text

    server(work)
    assert "nobody has it" in run("status")


def test_what_was_set_aside_is_listed_without_health_data_and_is_handled_again(
    server: Server, handlers: Handlers
) -> None:
    server(fails)
    text = run("dead")
    assert "Appointment/a1, version 1" in text
    assert "ValueError in changed (test_feed.py:" in text
    assert "timer appointment-1 of 1970-01-01T00:00:00.000Z" in text
    assert "KeyError in rung" in text
    assert "Secret" not in text
    assert "Set aside: 2, which `healthsphere feed dead` lists." in run("status")
    assert "timer" not in run("dead", "reminders")
    assert "Handled again: 1 of changes, 0 of timers." in run("replay", "reminders")
    assert "asked for again" in run("dead", "reminders")
    assert "Handled again: 0 of changes, 1 of timers." in run("replay", "reminder")
    handlers.broken = False

    async def goes_on(feed: Feed, timers: Timers, store: Store) -> None:
        await feed.caught_up()
        await timers.run_due()

    server(goes_on)
    assert handlers.done == ["Appointment/a1", "appointment-1"]
    assert "Nothing was set aside." in run("dead")


def test_changes_and_timers_are_listed_together_those_that_failed_last_first(server: Server) -> None:
    async def work(feed: Feed, timers: Timers, store: Store) -> None:
        await fails(feed, timers, store)
        for name, at_us in (("a2", 2), ("a3", 4)):
            await store.rows(DEAD).put(name, {**DEAD_CHANGE, "id": name, "at": at_us})
        for key, at_us in (("t2", 3), ("t3", 5)):
            dead = {"due": 0, "error": "KeyError", "at": at_us}
            await store.rows(TIMERS).put(key, {"kind": "old", "key": key, "data": {}, "tries": 8, "dead": dead})
        listed = [row.what.removesuffix(" of 1970-01-01T00:00:00.000Z") for row in await set_aside(feed, timers)]
        assert sorted(listed[:2]) == ["Appointment/a1, version 1", "timer appointment-1"]
        assert listed[2:] == ["timer t3", "Appointment/a3, version 1", "timer t2", "Appointment/a2, version 1"]
        assert [row.what for row in await set_aside(feed, timers, "old", 1)] == ["timer t3 of 1970-01-01T00:00:00.000Z"]

    server(work)
