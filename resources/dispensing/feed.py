"""What pharmacies pull: every version of their prescriptions, in the order in which it was committed.

Each pharmacy has a head, the number of its newest row. Whoever writes something that concerns a pharmacy raises its
head and adds a row **in the transaction of the write itself**. Two such transactions change the same head, so MongoDB
lets the second start anew once the first is committed: rows are numbered in the order of the commits, without gaps, and
whoever has seen row 7 can never miss a row 6 that comes later. A moment such as `_lastUpdated` cannot promise that: a
write can be given its moment early and be committed late.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fhir_server.storage.store import Store
from fhir_server.storage.unit import Unit

#: The head of each pharmacy, and the rows: `Organization/1/000000000042`.
HEADS = "_pharmacy_heads"
ROWS = "_pharmacy_feed"

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Happened:
    """One version that concerns a pharmacy."""

    pharmacy: str
    type: str
    id: str
    version: int


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    happened: Happened


async def add(unit: Unit, happened: Iterable[Happened]) -> None:
    """Tell pharmacies of versions of this transaction."""
    by_pharmacy: dict[str, list[Happened]] = {}
    for one in dict.fromkeys(happened):
        by_pharmacy.setdefault(one.pharmacy, []).append(one)
    heads, rows = unit.rows(HEADS), unit.rows(ROWS)
    for pharmacy, ones in sorted(by_pharmacy.items()):
        head = await heads.get(pharmacy)
        first = 1 + (head["n"] if head else 0)
        await heads.put(pharmacy, {"n": first + len(ones) - 1})
        await rows.add(
            [
                {"_id": _id(pharmacy, number), "y": one.type, "i": one.id, "v": one.version}
                for number, one in enumerate(ones, first)
            ]
        )


async def after(store: Store, pharmacy: str, number: int, most: int) -> Sequence[Row]:
    """The rows of a pharmacy behind a number, at most so many."""
    found: list[Row] = []
    between = {"_id": {"$gt": _id(pharmacy, number), "$lt": f"{pharmacy}0"}}  # `0` comes next behind `/`
    async for row in store.rows(ROWS).each(between):
        found.append(Row(int(row["_id"].rpartition("/")[2]), Happened(pharmacy, row["y"], row["i"], row["v"])))
        if len(found) == most:
            break
    return found


def _id(pharmacy: str, number: int) -> str:
    return f"{pharmacy}/{number:0{_DIGITS}d}"
