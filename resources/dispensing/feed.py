"""What pharmacies pull: every version of their prescriptions, each once, none ever left out.

Whoever writes something that concerns a pharmacy adds a row to its inbox **in the transaction of the write itself**:
rows of their own, so that writers do not wait for each other. A row has no number yet. Whoever reads the feed first
gives numbers to what is in the inbox, in one transaction, and only then reads by number.

So a number is given to what is committed, and behind all numbers that were given before: who has seen row 7 can never
miss a row that comes later with a smaller number. A moment such as `_lastUpdated`, or a number that the writer takes,
cannot promise that: it can be taken early and be committed late. Two readers at once change the same head; MongoDB has
the second start anew. The inbox is in the order of the moments and version numbers, so the versions of a resource come
in their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fhir_server.model.clock import now_us
from fhir_server.storage.document import Version
from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit

#: What is not numbered yet: `Organization/1/<moment>/<version>/MedicationRequest/2`.
INBOX = "_pharmacy_inbox"
#: The rows by number, `Organization/1/000000000042`, and the newest number of each pharmacy.
ROWS = "_pharmacy_feed"
HEADS = "_pharmacy_heads"

#: Rows that are numbered at once.
PORTION = 1000

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Row:
    """One version that concerns a pharmacy, by its number in the feed."""

    number: int
    type: str
    id: str
    version: int


async def add(unit: Unit, told: Iterable[tuple[str, Version]]) -> None:
    """Tell pharmacies of versions that this transaction has made: `(pharmacy, version)`."""
    await unit.rows(INBOX).add(
        [
            {
                "_id": f"{pharmacy}/{made.moment_us:020d}/{made.version:010d}/{made.type}/{made.id}",
                "y": made.type,
                "i": made.id,
                "v": made.version,
            }
            for pharmacy, made in told
        ]
    )


async def after(store: Store, pharmacy: str, place: int, most: int) -> Sequence[Row]:
    """The rows of a pharmacy behind a number, at most so many."""
    await number(store, pharmacy)
    found: list[Row] = []
    async for row in store.rows(ROWS).each(of(pharmacy, id_of(pharmacy, place))):
        found.append(Row(int(row["_id"].rpartition("/")[2]), row["y"], row["i"], row["v"]))
        if len(found) == most:
            break
    return found


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is not kept of a feed.

    Attributes:
        number: the newest number that went; 0 where all are there
        times: how often something went
    """

    number: int = 0
    times: int = 0


async def pruned(store: Store, pharmacy: str) -> Pruned:
    """What is not kept any more of a pharmacy's feed."""
    head = await store.rows(HEADS).get(pharmacy) or {}
    return Pruned(head.get("pruned", 0), head.get("prunings", 0))


async def number(store: Store, pharmacy: str) -> None:
    """Give numbers to what is in the inbox now."""
    waiting = of(pharmacy)

    async def work(unit: Unit) -> int:
        inbox, heads = unit.rows(INBOX), unit.rows(HEADS)
        found = await inbox.find(waiting, limit=PORTION)
        if found:
            head = await heads.get(pharmacy)
            first = 1 + (head["n"] if head else 0)
            await heads.put(pharmacy, {"n": first + len(found) - 1})
            fresh = {"t": now_us()}
            await unit.rows(ROWS).add(
                [{**row, **fresh, "_id": id_of(pharmacy, n)} for n, row in enumerate(found, first)]
            )
            await inbox.remove({"_id": {"$in": [row["_id"] for row in found]}})
        return len(found)

    while await store.rows(INBOX).first(waiting, "_id", 1):
        if await store.transact(work) < PORTION:
            return


def of(pharmacy: str, after_id: str = "") -> dict[str, dict[str, str]]:
    """What is of a pharmacy, by its id: `0` comes next behind `/`."""
    return {"_id": {"$gt": after_id or f"{pharmacy}/", "$lt": f"{pharmacy}0"}}


def id_of(pharmacy: str, number: int) -> str:
    return f"{pharmacy}/{number:0{_DIGITS}d}"
