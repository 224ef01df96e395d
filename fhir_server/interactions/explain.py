"""`Prefer: explain`: a search tells what it asked of the database, and which indexes led it.

For each command the answer's OperationOutcome has an issue of severity `information` with the query, the indexes, and
how many index keys and documents were looked at. The commands run a second time for that.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from fhir_server.interactions.answers import preferences
from fhir_server.interactions.context import Context
from fhir_server.model.errors import Issue
from fhir_server.model.exchange import Request
from fhir_server.repository.search import Found, Searcher
from fhir_server.search.witness import Asked, Witness
from fhir_server.storage.store import Store

_MAX_CHARS = 8000


async def found_by(context: Context, request: Request, find: Callable[[Searcher], Awaitable[Found]]) -> Found:
    """What a search finds; explained where the request prefers that, to who may see everything.

    How many documents a command looks at tells about those, too, that an access policy hides.
    """
    searcher = context.searcher
    if "explain" not in preferences(request) or context.unguarded is not None or not isinstance(searcher.store, Store):
        return await find(searcher)
    witness = Witness(searcher.store)
    found = await find(searcher.seen_by(witness))
    issues = [await _explained(searcher.store, asked) for asked in witness.asked]
    return replace(found, search=replace(found.search, ignored=(*found.search.ignored, *issues)))


async def _explained(store: Store, asked: Asked) -> Issue:
    plan = await store.explain(asked.command)
    query = json.dumps({k: v for k, v in asked.command.items() if k != "cursor"}, default=str, ensure_ascii=False)
    lookups = list(_holders(plan, "indexesUsed"))
    stats = [s for s in (*_members(plan, "executionStats"), *lookups) if isinstance(s, Mapping)]
    keys, documents, returned = (
        sum(int(s.get(name, 0)) for s in stats) for name in ("totalKeysExamined", "totalDocsExamined", "nReturned")
    )
    plans = list(_members(plan, "winningPlan"))
    used = {str(name) for winning in plans for name in _members(winning, "indexName")}
    indexes = sorted(used | {str(name) for lookup in lookups for name in lookup["indexesUsed"]})
    stages = sorted({str(stage) for winning in plans for stage in _members(winning, "stage")})
    led = f"indexes {', '.join(indexes)}" if indexes else "no index"
    if "COLLSCAN" in stages:
        led += ", and a scan of the whole collection"
    text = (
        f"{query[:_MAX_CHARS]} was led by {led}; {keys} index keys and {documents} documents examined, "
        f"{returned} returned."
    )
    return Issue("informational", text, key="HS-EXPLAIN", severity="information")


def _holders(node: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """All objects that have a member of a name, at any depth: what the stage of a lookup says of its queries."""
    if isinstance(node, Mapping):
        if name in node:
            yield node
        for value in node.values():
            yield from _holders(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _holders(value, name)


def _members(node: Any, name: str) -> Iterator[Any]:
    """All members of a name, at any depth, none inside another; plans that were rejected are left out."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key == name:
                yield value
            elif key not in ("rejectedPlans", "allPlansExecution"):
                yield from _members(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _members(value, name)
