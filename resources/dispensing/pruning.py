"""What of the feeds of pharmacies is not kept for good, and what a cursor is then still good for.

Of what is older than the operator wants, two kinds of rows go: those behind which a later version of the same resource
stands, and those of what is at its end. What stays is enough for a pharmacy to start anew: everything that is open. A
cursor from before the newest row that went would miss it, and is refused; one of a pull that began anew after that is
good for it (decision 66).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from fhir_server.interactions.context import Context
from fhir_server.jobs.timers import Timer
from fhir_server.model import codec
from fhir_server.model.errors import GoneError
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit
from resources.dispensing import feed

#: The timer by which it happens, once a day.
PRUNE: Final = "pharmacy-feed-prune"
NAME: Final = "all"
DAY_US: Final = 86_400_000_000

#: Rows that are looked at in one transaction.
PORTION: Final = 500

#: States in which nothing more is to be done with something.
ENDED: Final[Mapping[str, frozenset[str]]] = {
    "MedicationRequest": frozenset({"completed", "cancelled", "stopped", "entered-in-error"}),
    "Task": frozenset({"completed", "cancelled", "rejected", "failed", "entered-in-error"}),
}


async def begin(context: Context) -> None:
    """Have it happen each day; a timer that is set stays as it is."""
    await context.repository.store.rows(feed.ROWS).index("i", "_id")
    if await context.timers.get(PRUNE, NAME) is None:
        await context.timers.set(PRUNE, NAME, context.timers.now() + DAY_US)


def join(context: Context) -> None:
    context.timers.register(PRUNE, partial(prune, context))


async def prune(context: Context, timer: Timer) -> int:
    """Go through the feeds of all pharmacies; when to do it next."""
    store = context.repository.store.unguarded
    before_us = context.timers.now() - context.limits.pharmacy_feed_days * DAY_US
    for pharmacy in await pharmacies(store):
        await feed.number(store, pharmacy)  # what nobody asks for must not lie in the inbox for ever
        place: str | None = ""
        while place is not None:
            place = await store.transact(partial(_pruned, pharmacy, place, before_us))
    return context.timers.now() + DAY_US


async def pharmacies(store: Store) -> list[str]:
    """Those with a feed, or with something in their inbox."""
    found = set(await store.rows(feed.HEADS).ids())
    last = ""
    while rows := await store.rows(feed.INBOX).first({"_id": {"$gt": last}}, "_id", 1):
        pharmacy = "/".join(rows[0]["_id"].split("/")[:2])
        found.add(pharmacy)
        last = f"{pharmacy}0"
    return sorted(found)


async def _pruned(pharmacy: str, place: str, before_us: int, unit: Unit) -> str | None:
    """Look at some rows behind a place; the place behind these, None at the end."""
    rows = unit.rows(feed.ROWS)
    old = await rows.find({**feed.of(pharmacy, place), "t": {"$lt": before_us}}, limit=PORTION)
    if not old:
        return None
    newest: dict[tuple[str, str], str] = {}
    for row in await rows.find({"i": {"$in": sorted({row["i"] for row in old})}, **feed.of(pharmacy, old[0]["_id"])}):
        newest[row["y"], row["i"]] = row["_id"]
    last = [row for row in old if newest.get((row["y"], row["i"]), row["_id"]) == row["_id"]]
    ended = await _ended(unit, last)
    kept = {row["_id"] for row in last if (row["y"], row["i"]) not in ended}
    gone = [row["_id"] for row in old if row["_id"] not in kept]
    if gone:
        head = await unit.rows(feed.HEADS).get(pharmacy)
        assert head is not None, "rows have numbers from it"
        number = max(head.get("pruned", 0), int(gone[-1].rpartition("/")[2]))
        await unit.rows(feed.HEADS).put(pharmacy, {"pruned": number, "prunings": head.get("prunings", 0) + 1})
        await rows.remove({"_id": {"$in": gone}})
    return str(old[-1]["_id"])


async def _ended(unit: Unit, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Of which resources there is nothing more to come: at their end, deleted, or removed for good."""
    ended: set[tuple[str, str]] = set()
    for name in sorted({row["y"] for row in rows}):
        ids = sorted({row["i"] for row in rows if row["y"] == name})
        there = await unit.get_many(name, ids)
        for one in ids:
            body = there[one].body if one in there else None
            if body is None or codec.decode(body).get("status") in ENDED.get(name, frozenset()):
                ended.add((name, one))
    return ended


def require_kept(number: int, begun: int, pruned: feed.Pruned) -> None:
    """Whether a cursor has missed nothing: it stands behind all that went, or its pull began when that had gone.

    Args:
        begun: how often something had gone when the pull began to which it belongs

    Raises:
        GoneError: 410; it has.
    """
    if number < pruned.number and begun != pruned.times:
        raise GoneError(
            "'_since' is from so long ago that not all that came after it is kept. Start anew: leave it out, and take "
            "what you are told then for all that is open.",
            code="expired",
            expression="Parameters.parameter.where(name='_since')",
            key="HS-RX-CURSOR-OLD",
        )
