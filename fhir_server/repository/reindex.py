"""Make the index entries of stored resources again, after a change of what is indexed.

Versions, moments and contents stay as they are. A resource that changes while it is being indexed is left alone: the
write that changed it has indexed it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fhir_server.model import codec
from fhir_server.search.index import Indexer
from fhir_server.storage.store import Store

Progress = Callable[[str, int, int], None]

#: Resources read, indexed and written at a time.
PORTION = 200


async def reindex_all(store: Store, indexer: Indexer, types: Iterable[str], progress: Progress) -> None:
    """Index again every current resource of some types, or of all when `types` is empty.

    `progress(type, done, total)` is told after each portion; the total is the store's estimate.
    """
    for resource_type in tuple(types) or await store.collections():
        done, total = 0, await store.estimate(resource_type)
        after = ""
        progress(resource_type, 0, total)
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
            entries = []
            for row in rows:
                entries.append((row["_id"], row["v"], indexer.entries_of(codec.decode(row["r"]))))
                await asyncio.sleep(0)
            await store.set_entries(resource_type, entries)
            after = rows[-1]["_id"]
            done += len(rows)
            progress(resource_type, done, max(total, done))
        # Only now: entries of an earlier version may not fit the indexes of this one.
        await store.ensure(resource_type)
        progress(resource_type, done, done)
