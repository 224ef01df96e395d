"""Rows that stand in no collection, put among those that do, as if they were stored: in the same order, by the same
cursors.

What the server carries itself is found by the same searches as what is stored. It is little and known beforehand, so it
is kept in memory; a page is the first of both in the order of the search.

Spec: https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from typing import Any

from fhir_server.search.page import Cursor
from fhir_server.search.sort import KeyValue, Order, keys_of
from fhir_server.search.types.words import score_of

Row = dict[str, Any]
Keyed = tuple[Row, tuple[KeyValue, ...]]


def merged(order: Order, found: list[Keyed], beside: Sequence[Row], cursor: Cursor | None, limit: int) -> list[Keyed]:
    """The first rows from the cursor on, in its direction, of what was found in the database and what stands beside it.

    Args:
        found: what the database has from the cursor on, no more than `limit`
        beside: what matches the search besides, in any order
    """
    if not beside:
        return found
    forward = cursor is None or cursor.forward
    rows = [(row, _keys_of(order, row)) for row in beside]
    if cursor is not None:
        place = {"_id": cursor.place.id}, cursor.place.keys
        bound = 0 if cursor.direction == "q" else 1
        rows = [row for row in rows if _compared(order, row, place, forward=forward) >= bound]

    def compared(one: Keyed, other: Keyed) -> int:
        return _compared(order, one, other, forward=forward)

    return sorted([*found, *rows], key=cmp_to_key(compared))[:limit]


def _keys_of(order: Order, row: Row) -> tuple[KeyValue, ...]:
    """The keys of a row, and its score on the row where the order is by that."""
    keys: list[KeyValue] = list(keys_of(order, row))
    for number, key in enumerate(order.keys):
        if key.terms:
            words = row["x"].get(key.parameter.field.removeprefix("x."), ())
            keys[number] = row["score"] = score_of(words, key.terms)
    return tuple(keys)


def _compared(order: Order, one: Keyed, other: Keyed, *, forward: bool) -> int:
    """Below zero where the first comes before the other; what lacks a key comes last, whether that goes up or down."""
    turned = 1 if forward else -1
    for key, a, b in zip(order.keys, one[1], other[1], strict=True):
        if a == b:
            continue
        if a is None or b is None:
            return turned if a is None else -turned
        # Both are of the type that the parameter sorts by.
        return turned * (1 if (a > b) != key.descending else -1)  # type: ignore[operator]
    a_id, b_id = one[0]["_id"], other[0]["_id"]
    if a_id == b_id:
        return 0
    return turned * (1 if (a_id > b_id) != order.id_descending else -1)
