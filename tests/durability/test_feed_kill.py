"""`kill -9` of those who follow the feed and do what timers are for: others are told what the dead were not."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.jobs.timers import Timers
from fhir_server.model.clock import now_us
from fhir_server.storage.database import connect
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from tests.durability import following

WRITERS = 4
DEATHS = 6


class Process:
    """A process that follows, and the file of what it was told."""

    def __init__(self, uri: str, database: str, path: Path) -> None:
        self.path = path
        self._process = subprocess.Popen([sys.executable, following.__file__, uri, database, str(path)])
        deadline = time.monotonic() + 60
        while not self.lines():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def lines(self) -> list[str]:
        """What it wrote down; a last line that it was killed in counts for nothing."""
        return self.path.read_text().split("\n")[:-1] if self.path.exists() else []


@pytest.fixture
def start(mongodb_uri: str, mongodb_database: str, tmp_path: Path) -> Iterator[Callable[[], Process]]:
    """Starts processes; those that still live are killed at the end."""
    started: list[Process] = []

    def new() -> Process:
        started.append(Process(mongodb_uri, mongodb_database, tmp_path / f"told-{len(started)}"))
        return started[-1]

    yield new
    for process in started:
        process.kill()


async def write_on(store: Store, writer: int, enough: asyncio.Event, acknowledged: list[str]) -> None:
    """Make version after version of three resources, until it is enough."""
    current: dict[str, Version] = {}
    n = 0
    while not enough.is_set():
        resource_id = f"w{writer}-{n % 3}"
        old = current.get(resource_id)
        number = 1 if old is None else old.version + 1
        new = Version("Observation", resource_id, number, now_us(), "PUT", b"{}", b"%d-%d" % (writer, n))
        await store.write(new, old)
        current[resource_id] = new
        acknowledged.append(f"Observation/{resource_id}/{number}")
        n += 1
        await asyncio.sleep(0.002)


async def ring_on(timers: Timers, enough: asyncio.Event, set_: list[str]) -> None:
    """Set timer after timer, due at once, until it is enough."""
    while not enough.is_set():
        await timers.set(following.KIND, str(len(set_)), now_us())
        set_.append(f"timer/{len(set_)}/1")
        await asyncio.sleep(0.01)


@pytest.mark.server
@pytest.mark.slow
def test_nothing_is_lost_and_order_holds_when_followers_are_killed_again_and_again(
    start: Callable[[], Process], mongodb_uri: str, mongodb_database: str
) -> None:
    acknowledged: list[str] = []
    set_: list[str] = []
    ran: list[Process] = []

    async def work() -> None:
        client = connect(mongodb_uri)
        store = Store(client, mongodb_database, lambda _: (), max_time_ms=10_000)
        await store._database["Observation"].create_index("t")
        store._ready["Observation"] = asyncio.get_running_loop().create_future()
        store._ready["Observation"].set_result(None)
        timers = Timers(store.rows)
        ran.extend([await asyncio.to_thread(start), await asyncio.to_thread(start)])
        enough = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for writer in range(WRITERS):
                tasks.create_task(write_on(store, writer, enough, acknowledged))
            tasks.create_task(ring_on(timers, enough, set_))
            for death in range(DEATHS):
                before = len(acknowledged)
                while len(acknowledged) < before + 200:
                    await asyncio.sleep(0.05)
                ran[death].kill()
                ran.append(await asyncio.to_thread(start))
            enough.set()
        deadline = time.monotonic() + 60
        wanted = {*acknowledged, *set_}
        while missing := wanted - set(told(ran)):
            assert time.monotonic() < deadline, sorted(missing)[:10]
            await asyncio.sleep(0.1)
        await client.close()

    asyncio.run(work())
    in_order(told(ran))


def told(processes: list[Process]) -> list[str]:
    """What all were told, in the order in which they were."""
    rows = (line.split() for process in processes for line in process.lines())
    return [name for _, name in sorted((int(moment), name) for moment, name in rows)]


def in_order(names: list[str]) -> None:
    """Nobody was told of a version before somebody was told of the one before it."""
    furthest: dict[str, int] = {}
    for name in names:
        resource, _, number = name.rpartition("/")
        if resource.startswith("Observation/"):
            assert int(number) <= furthest.get(resource, 0) + 1, name
            furthest[resource] = max(furthest.get(resource, 0), int(number))
