"""The change feed: everything is told, in order, whatever happens to those who listen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fhir_server.jobs.feed import Feed
from fhir_server.jobs.follower import Changed, Follower
from fhir_server.model.clock import now_us
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store

Within = Callable[[Callable[[Store], Any]], Any]


class Heard:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.changes: list[Changed] = []

    async def __call__(self, changes: Sequence[Changed]) -> None:
        self.changes += changes

    @property
    def names(self) -> list[str]:
        return [f"{c.type}/{c.id}/{c.version}" for c in self.changes]


@asynccontextmanager
async def process(store: Store, *followers: Follower, **options: Any) -> AsyncIterator[Feed]:
    """What one server process does with the feed, until it is stopped in good order."""
    feed = Feed(store, **{"lease_s": 0.6, "pause_s": 0.01, **options})
    for follower in followers:
        feed.register(follower)
    await feed.open()
    try:
        yield feed
    finally:
        await feed.close()


async def written(store: Store, name: str, body: bytes | None = b"{}") -> Version:
    """Make the next version of a resource."""
    resource_type, _, resource_id = name.partition("/")
    old = await store.get(resource_type, resource_id)
    number = 1 if old is None else old.version + 1
    version = Version(resource_type, resource_id, number, now_us(), "PUT" if body else "DELETE", body, b"%d" % number)
    await store.write(version, old)
    return version


def test_a_follower_is_told_of_every_version_of_its_types_in_order(within: Within) -> None:
    async def work(store: Store) -> None:
        heard = Heard()
        await written(store, "Patient/before")
        async with process(store, Follower("patients", frozenset({"Patient"}), heard)) as feed:
            first = await written(store, "Patient/a", b'{"n":1}')
            await written(store, "Observation/o")
            await written(store, "Patient/a", b'{"n":2}')
            await written(store, "Patient/a", None)
            await feed.caught_up()
            assert heard.names == ["Patient/a/1", "Patient/a/2", "Patient/a/3"]
            assert [(c.deleted, c.body) for c in heard.changes] == [
                (False, b'{"n":1}'),
                (False, b'{"n":2}'),
                (True, None),
            ]
            assert heard.changes[0].at_us == first.moment_us

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
        assert heard.names == ["Patient/p0/1", "Patient/p1/1", "Patient/p2/1", "Observation/o/1"]

    within(work)
