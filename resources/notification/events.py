"""Somebody's log of events, read: what happened after a number, and the last number there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fhir_server.storage.store import Store
from resources.notification.outbox import EVENTS, HEADS


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened for somebody.

    Attributes:
        number: of all events of this person, without gaps
        kind: what kind of thing
        focus: where to look, as the client may by its own rights
        at: when it was told
    """

    number: int
    kind: str
    focus: str
    at: str


async def after(store: Store, person: str, number: int, limit: int = 100) -> list[Event]:
    """The next events behind a number, the oldest first."""
    rows = await store.rows(EVENTS).first({"person": person, "n": {"$gt": number}}, "n", limit)
    return [Event(row["n"], row["kind"], row["focus"], row["at"]) for row in rows]


async def heads_of(store: Store, people: Sequence[str]) -> dict[str, int]:
    """The number of the last event of each."""
    rows = await store.rows(HEADS).all({"_id": {"$in": list(people)}}, limit=0)
    return {row["_id"]: row["n"] for row in rows}
