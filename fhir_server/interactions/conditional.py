"""Conditional create, update and delete, race-free.

Two requests with the same criteria that arrive at once must not both find nothing and both create. The search and the
write share one MongoDB transaction that first writes a row named by the criteria: of two such transactions one starts
again, and then sees what the other has made. Within one process a lock keeps them from colliding at all.

Spec: https://hl7.org/fhir/R4/http.html#ccreate, #cond-update, #3.1.0.7.1
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from fhir_server.interactions.context import Context
from fhir_server.interactions.preconditions import version_required
from fhir_server.interactions.provenance import Source
from fhir_server.model.clock import new_id
from fhir_server.model.errors import ConflictError, InvalidError, PreconditionFailedError
from fhir_server.model.exchange import decoded
from fhir_server.repository.repository import Change, Committed
from fhir_server.storage.document import Version
from fhir_server.storage.unit import Unit

#: Parameters whose value names one resource, and parameters that say how to answer rather than what to select.
IDENTIFYING = frozenset({"identifier", "_id", "url"})
CONTROLS = frozenset({"_count", "_sort", "_summary", "_elements", "_total", "_format", "_pretty"})

_locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()


def lock_keys(resource_type: str, criteria: str) -> list[str]:
    """What criteria are locked by, sorted.

    Criteria that can select the same resource should share a lock, however they are spelt. Where an identifier is among
    them it decides, with or without its system, whatever else is asked; otherwise all of them together, in any order.
    """
    pairs = [(name, value) for name, value in decoded(criteria) if value and name not in CONTROLS]
    identifying = {
        (resource_type, value.rpartition("|")[2].casefold())
        for name, values in pairs
        if name.partition(":")[0] in IDENTIFYING
        for value in values.split(",")
    }
    texts = [repr(key) for key in identifying] or [repr((resource_type, sorted(pairs)))]
    return sorted(hashlib.sha256(text.encode()).hexdigest() for text in texts)


@asynccontextmanager
async def process_locks(keys: list[str]) -> AsyncIterator[None]:
    """Hold the locks of this process for some sorted keys; each goes when nobody holds or awaits it."""
    async with AsyncExitStack() as held:
        for key in keys:
            # A lock belongs to the event loop that uses it; tests run several loops in one process.
            place = (id(asyncio.get_running_loop()), key)
            lock = _locks.get(place)
            if lock is None:
                lock = _locks[place] = asyncio.Lock()
            await held.enter_async_context(lock)
        yield


def several(resource_type: str, criteria: str, count: int | None = None, limit: int = 1) -> PreconditionFailedError:
    found = "Several" if count is None else f"{count:,}"
    asked = "one" if limit == 1 else f"{limit:,} at most"
    return PreconditionFailedError(
        f"{found} {resource_type} resources match {criteria!r}; the criteria must select {asked}.",
        code="multiple-matches",
        key="HS-COND-MULTIPLE",
    )


async def only_match(context: Context, resource_type: str, criteria: str) -> Version | None:
    """The one resource that criteria select, or None.

    Raises:
        PreconditionFailedError: 412; they select several, or hold no search parameter at all.
        InvalidError: 400; a parameter is unknown: acting on criteria half understood could hit the wrong record.
    """
    matches = await context.searcher.matches(resource_type, criteria, limit=2)
    if len(matches) > 1:
        raise several(resource_type, criteria)
    return matches[0] if matches else None


async def conditional_create(
    context: Context, change: Change, criteria: str, source: Source | None = None
) -> Committed:
    """Create unless one match exists; a match is left as it is."""
    criteria = criteria.rpartition("?")[2]
    found = await only_match(context, change.type, criteria)
    if found is not None:
        return Committed(found, created=False, changed=False)
    checked = context.repository.check(change)
    keys = lock_keys(change.type, criteria)
    await context.repository.store.ensure(change.type)

    async def work(unit: Unit) -> Committed:
        await unit.lock(keys)
        found = await only_match(context.within(unit), change.type, criteria)
        if found is not None:
            return Committed(found, created=False, changed=False)
        outcome = await context.repository.commit_one_within(unit, checked)
        if source is not None:
            await source.attach(context, unit, [outcome])
        return outcome

    async with process_locks(keys):
        return await context.repository.store.transact(work)


async def conditional_update(
    context: Context,
    resource_type: str,
    resource: dict[str, Any],
    criteria: str,
    if_match: int | None,
    source: Source | None = None,
    *,
    blind: bool = False,
) -> Committed:
    """Update the one match; create where nothing matches.

    Args:
        blind: the change does not say which version it is of, and would have to where there is a match
    """
    keys = lock_keys(resource_type, criteria)
    await context.repository.store.ensure(resource_type)

    async def work(unit: Unit) -> Committed:
        await unit.lock(keys)
        inner = context.within(unit)
        found = await only_match(inner, resource_type, criteria)
        if found is not None and blind:
            raise version_required(resource_type)
        change = await change_of(inner, resource_type, resource, found, if_match)
        outcome = await context.repository.commit_one_within(unit, context.repository.check(change))
        if source is not None:
            await source.attach(context, unit, [outcome])
        return outcome

    async with process_locks(keys):
        return await context.repository.store.transact(work)


async def change_of(
    context: Context, resource_type: str, resource: dict[str, Any], found: Version | None, if_match: int | None
) -> Change:
    """What a conditional update amounts to, given its match.

    Raises:
        InvalidError: 400; the resource carries another id than the match.
        ConflictError: 409; nothing matches, and the id that the resource carries belongs to another resource.
    """
    carried = resource.get("id")
    if found is not None:
        if carried is not None and carried != found.id:
            raise InvalidError(
                f"The resource has the id {carried!r}, but the criteria select {resource_type}/{found.id}.",
                expression=f"{resource_type}.id",
                key="HS-COND-ID",
            )
        return Change("PUT", resource_type, found.id, resource, if_match=if_match)
    if carried is None:
        return Change("PUT", resource_type, new_id(), resource, if_match=if_match, fresh=if_match is None)
    standing = await context.repository.current(resource_type, str(carried))
    if standing is not None and not standing.deleted:
        raise ConflictError(
            f"Nothing matches the criteria, and {resource_type}/{carried} exists: it is another resource.",
            expression=f"{resource_type}.id",
            key="HS-COND-TAKEN",
        )
    return Change("PUT", resource_type, str(carried), resource, if_match=if_match)
