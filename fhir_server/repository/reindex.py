"""Make the index entries of stored resources again, after a change of what is indexed.

Versions, moments and contents stay as they are. A resource that changes while it is being indexed is left alone: the
write that changed it has indexed it. A portion may be indexed twice, which changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from fhir_server.model import codec
from fhir_server.repository.containing import Containing
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.lineage import Lineage
from fhir_server.repository.repository import Repository
from fhir_server.search.index import Indexer
from fhir_server.search.lineage import PROVENANCE
from fhir_server.storage.document import index_change
from fhir_server.storage.store import Store

Json = dict[str, Any]
Progress = Callable[[str, int, int], None]

#: Tells how far it is over all types (done, total, the type it is at), and what to keep for going on from there.
Tell = Callable[[int, int, str, Json], Awaitable[None]]

#: Resources read, indexed and written at a time.
PORTION = 200


@dataclass(frozen=True, slots=True)
class Place:
    """How far a reindex is in a type.

    Attributes:
        after: the id of the last resource that is done; empty at the beginning
        total: how many there are, an estimate until the end
    """

    type: str
    after: str
    done: int
    total: int


async def reindex_all(
    store: Store, indexer: Indexer, types: Iterable[str], progress: Progress, containing: Containing | None = None
) -> None:
    """Index again every current resource of some types, or of all when `types` is empty.

    `progress(type, done, total)` is told after each portion; the total is the store's estimate.
    """
    for resource_type in in_order(tuple(types) or await store.collections()):
        async for place in reindexing(store, indexer, resource_type, containing=containing):
            progress(resource_type, place.done, place.total)


def in_order(types: Iterable[str]) -> list[str]:
    """What a Provenance tells about is read from the entries of its targets, so it comes last."""
    return sorted(types, key=lambda name: name == PROVENANCE)


async def reindexed(
    repository: Repository, definitions: Definitions, types: tuple[str, ...], kept: Json, tell: Tell
) -> None:
    """Index again; then the search parameters of those types are ready.

    Args:
        types: all that are stored, when empty
        kept: what was told to be kept last; empty at the beginning
    """
    store = repository.store
    if not kept:
        names = in_order(types or await store.collections())
        prints = definitions.prints_for(types)
        kept = {"types": names, "prints": prints, "totals": {name: await store.estimate(name) for name in names}}
    totals: dict[str, int] = dict(kept["totals"])
    counts: dict[str, int] = dict(kept.get("counts", {}))
    at, after = kept.get("at", ("", ""))
    names = kept["types"]
    for name in names[names.index(at) if at else 0 :]:
        begin, before = (after, counts.get(name, 0)) if name == at else ("", 0)
        async for place in reindexing(store, repository.indexer, name, begin, before, repository.containing):
            counts[name], totals[name] = place.done, place.total
            kept = {**kept, "totals": totals, "counts": counts, "at": (name, place.after)}
            await tell(sum(counts.values()), sum(totals.values()), name, kept)
    for name in names:
        await store.drop_unwanted(name)
    await definitions.mark_ready(kept["prints"])


async def reindexing(
    store: Store,
    indexer: Indexer,
    resource_type: str,
    after: str = "",
    done: int = 0,
    containing: Containing | None = None,
) -> AsyncIterator[Place]:
    """Index a type again, portion by portion, from behind the resource `after`; `done` of them are done already."""
    lineage = Lineage(indexer.registry)
    total = await store.estimate(resource_type)
    yield Place(resource_type, after, done, max(total, done))
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
            entries = indexed.entries
            if resource_type == PROVENANCE:
                entries = await lineage.about(store, entries, {})
            if indexed.contained and containing is not None:
                await containing.note([resource_type])
            changes.append((row["_id"], row["v"], index_change(entries, indexed.contained)))
            await asyncio.sleep(0)
        await store.set_entries(resource_type, changes)
        after = rows[-1]["_id"]
        done += len(rows)
        yield Place(resource_type, after, done, max(total, done))
    # Only now: entries of an earlier version may not fit the indexes of this one.
    await store.ensure(resource_type)
    yield Place(resource_type, after, done, done)
