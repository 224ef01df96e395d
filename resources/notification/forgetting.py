"""Forgetting what people were told, when their records are erased."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.interactions.context import Context
from resources.notification.delivering import SUBSCRIPTIONS
from resources.notification.outbox import EVENTS, HEADS, NOTIFICATIONS


async def forget(context: Context, people: Iterable[str]) -> None:
    """Remove all rows of some people; a timer that still wants to deliver finds nothing to deliver."""
    named = {"$in": sorted(people)}
    store = context.repository.store
    for collection in (EVENTS, NOTIFICATIONS, SUBSCRIPTIONS):
        await store.rows(collection).remove_all({"person": named})
    await store.rows(HEADS).remove_all({"_id": named})
