"""Make the index entries of stored resources again, after a change of what is indexed.

Versions, moments and contents stay as they are. A resource that changes while it is being indexed is left alone: the
write that changed it has indexed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from fhir_server.model import codec
from fhir_server.repository.containing import Containing
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.repository import Repository
from fhir_server.search.index import Indexer
from fhir_server.storage.document import index_change
from fhir_server.storage.store import Store

Progress = Callable[[str, int, int], None]

#: Resources read, indexed and written at a time.
PORTION = 200


async def reindex_all(
    store: Store, indexer: Indexer, types: Iterable[str], progress: Progress, containing: Containing | None = None
) -> None:
    """Index again every current resource of some types, or of all when `types` is empty.

    `progress(type, done, total)` is told after each portion; the total is the store's estimate.
    """
    async for resource_type, done, total in reindexing(store, indexer, types, containing):
        progress(resource_type, done, total)


async def reindexed(
    repository: Repository,
    definitions: Definitions,
    types: tuple[str, ...],
    tell: Callable[[int, int, str], Awaitable[None]],
) -> None:
    """Index again, telling how far it is over all types; then the search parameters of those types are ready."""
    store, known = repository.store, definitions.in_force()
    names = types or tuple(await store.collections())
    totals = {name: await store.estimate(name) for name in names}
    counts: dict[str, int] = {}
    async for resource_type, done, total in reindexing(store, repository.indexer, names, repository.containing):
        counts[resource_type], totals[resource_type] = done, total
        await tell(sum(counts.values()), sum(totals.values()), resource_type)
    for name in names:
        await store.drop_unwanted(name)
    await definitions.mark_ready(p for p in known if not types or set(definitions.types_of(p)) <= set(types))


async def reindexing(
    store: Store, indexer: Indexer, types: Iterable[str], containing: Containing | None = None
) -> AsyncIterator[tuple[str, int, int]]:
    """Index again, portion by portion: the type, how many are done, how many there are (an estimate until the end)."""
    for resource_type in tuple(types) or await store.collections():
        done, total = 0, await store.estimate(resource_type)
        after = ""
        yield resource_type, 0, total
        while True:
            rows = await store.find(
                resource_type,
                {"_id": {"$gt": after}, "d": None},
                sort=[("_id", 1)],
                limit=PORTION,
                fields={"v": 1, "r": 1},
            )
            if not rows:
                break
            changes = []
            for row in rows:
                indexed = indexer.indexed(codec.decode(row["r"]))
                if indexed.contained and containing is not None:
                    await containing.note([resource_type])
                changes.append((row["_id"], row["v"], index_change(indexed.entries, indexed.contained)))
                await asyncio.sleep(0)
            await store.set_entries(resource_type, changes)
            after = rows[-1]["_id"]
            done += len(rows)
            yield resource_type, done, max(total, done)
        # Only now: entries of an earlier version may not fit the indexes of this one.
        await store.ensure(resource_type)
        yield resource_type, done, done
