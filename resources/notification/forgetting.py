"""Forgetting what people were told, when their records are erased."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.interactions.context import Context
from fhir_server.storage.store import Store
from resources.notification.delivering import SUBSCRIPTIONS
from resources.notification.outbox import EVENTS, HEADS, NOTIFICATIONS


async def forget(context: Context, people: Iterable[str]) -> None:
    """Remove all rows of some people; a timer that still wants to deliver finds nothing to deliver."""
    named = {"$in": sorted(people)}
    store = context.repository.store
    for collection in (EVENTS, NOTIFICATIONS, SUBSCRIPTIONS):
        await store.rows(collection).remove_all({"person": named})
    await store.rows(HEADS).remove_all({"_id": named})


async def end_pushes(context: Context, account_id: str, fhir_user: str | None) -> None:
    """Whose account has ended is pushed to no more."""
    if fhir_user:
        await context.repository.store.unguarded.rows(SUBSCRIPTIONS).remove_all({"person": fhir_user})


async def pushes_of(store: Store, people: Iterable[str]) -> int:
    """How many browsers of some people take pushes."""
    return len(await store.unguarded.rows(SUBSCRIPTIONS).all({"person": {"$in": sorted(people)}}, limit=0))
