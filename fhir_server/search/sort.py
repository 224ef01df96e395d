"""The order of a result, and the place of one row in it.

A resource that has several values of a sort parameter stands where its lowest does, descending where its highest does;
one that has none comes last in both directions. Ties are broken by the id, so the order is total and pages are stable.

An order by one parameter, walked forward, is one that an index has: MongoDB, too, takes the lowest element going up and
the highest going down. Walked backward it would take the other one, so that serves only where there is but one. Any
other order is computed: the keys of all matches, of which the first few are kept.

Bare entries (dates and references of which a resource has but one) have their order in both directions. What has none
comes last going down in MongoDB too: there the order needs no second part for it, where an index holds all documents.

Spec: https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from fhir_server.model.dates import OPEN_START_US
from fhir_server.search.compile import asks_for_entry
from fhir_server.search.query import AnyOf, Comparison, Predicate, SortKey
from fhir_server.search.types.conditions import Filter
from fhir_server.search.types.near import distance_m
from fhir_server.search.types.words import score

#: The value that orders a row: a text, a moment, or the two ends of a span or range. None: it has none.
Bounds = tuple[int, int] | tuple[Decimal, Decimal]
KeyValue = str | int | float | Bounds | None

#: The ends of an entry that has two.
ENDS = {"date": ("s", "e"), "number": ("l", "h"), "quantity": ("l", "h")}

#: These modifiers compare fields beside the one that is sorted by.
_BESIDE = frozenset(("text", "of-type", "identifier", "missing"))


#: Behind all ids.
LAST_ID = "~"


@dataclass(frozen=True, slots=True)
class Place:
    """A place in an order: the keys and the id of the row that is, or was, there."""

    keys: tuple[KeyValue, ...]
    id: str


@dataclass(frozen=True, slots=True)
class Order:
    """How a result is ordered: by `keys` one after the other, then by id."""

    keys: tuple[SortKey, ...]
    id_descending: bool

    @property
    def reversible(self) -> bool:
        """Whether an index has this order and its reverse, which it has where no document has two values."""
        return self.indexed and all(
            key.parameter.field == "t" or key.parameter.bare or (key.parameter.single and _ends(key) is not None)
            for key in self.keys
        )

    @property
    def all_in_one(self) -> bool:
        """Whether one walk along an index shows those with a value, and then those without."""
        return self.indexed and any(key.descending and key.parameter.charted for key in self.keys)

    @property
    def indexed(self) -> bool:
        """Whether an index has this order, to be walked forward."""
        if len(self.keys) > 1 or any(key.positions or key.terms for key in self.keys):
            return False
        return all(key.descending == self.id_descending and not _is_by_code_down(key) for key in self.keys)

    @property
    def lead(self) -> Order | None:
        """The order by the first key alone, where an index has that; None where it has not, or there is but one."""
        lead = Order(self.keys[:1], self.keys[0].descending) if self.keys else self
        return lead if lead != self and lead.indexed else None


def _is_by_code_down(key: SortKey) -> bool:
    """Whether the highest entries do not order codes: they are pairs with systems, only the lowest are plain codes."""
    return key.descending and key.parameter.type == "token" and not key.parameter.systemless


def order_of(sort: Sequence[SortKey]) -> Order:
    """The order that `_sort` asks for; without it, by id."""
    keys = tuple(key for key in sort if key.parameter.field != "_id")
    by_id = [key.descending for key in sort if key.parameter.field == "_id"]
    descending = by_id[0] if by_id else len(keys) == 1 and keys[0].descending
    return Order(keys, descending)


def is_always_present(key: SortKey, predicates: Iterable[Predicate]) -> bool:
    """Whether every match of these predicates has a value to be sorted by."""
    field = key.parameter.field
    return not field.startswith("x.") or any(_asks_for(p, field) for p in predicates)


def presence(key: SortKey, *, present: bool) -> Filter:
    """The condition that a document has a value to be sorted by, or that it has none."""
    parameter = key.parameter
    if parameter.bare and parameter.type == "date":
        return {f"{parameter.field}.s": {"$gte": OPEN_START_US} if present else None}
    return {parameter.field: {"$exists": present}}


def _asks_for(predicate: Predicate, field: str) -> bool:
    match predicate:
        case Comparison(parameter, modifier):
            return parameter.field == field and modifier not in _BESIDE and asks_for_entry(predicate)
        case AnyOf(predicates):
            return all(_asks_for(part, field) for part in predicates)
        case _:
            return False


# --- the order that an index has ------------------------------------------------------------------------------------


def indexed_sort(order: Order, *, forward: bool = True) -> list[tuple[str, int]]:
    """The sort of a `find`; backward only for an order that is reversible."""
    direction = 1 if order.id_descending != forward else -1
    return [*((path, direction) for key in order.keys for path in _paths(key)), ("_id", direction)]


def _paths(key: SortKey) -> list[str]:
    field, ends = key.parameter.field, _ends(key)
    return [field] if ends is None else [f"{field}.{end}" for end in ends]


def _ends(key: SortKey) -> tuple[str, str] | None:
    return None if key.parameter.field == "t" else ENDS.get(key.parameter.type)


def keys_of(order: Order, document: Mapping[str, Any]) -> tuple[KeyValue, ...]:
    """The keys of a document that holds the fields that it is sorted by; no distance or score, which are computed."""
    return tuple([_key_in(key, document) for key in order.keys])


def _key_in(key: SortKey, document: Mapping[str, Any]) -> Any:
    if key.parameter.field == "t":
        return int(document["t"])
    entries = document.get("x", {}).get(key.parameter.code)
    if not entries:
        return None
    ends = _ends(key)
    if key.parameter.bare:
        return _plain(entries if ends is None else (entries[ends[0]], entries[ends[1]]))
    values: list[Any] = entries if ends is None else [(entry[ends[0]], entry[ends[1]]) for entry in entries]
    if _is_by_code_down(key):
        values = [value for value in values if "=" <= value < ">"] or values
    return _plain(max(values) if key.descending else min(values))


def _plain(value: Any) -> Any:
    """A driver's own kinds of integer would not be JSON in a cursor."""
    if isinstance(value, tuple):
        return _plain(value[0]), _plain(value[1])
    return int(value) if isinstance(value, int) else value


def beyond_indexed(order: Order, place: Place, *, forward: bool, inclusive: bool) -> list[Filter]:
    """The conditions that keep what comes after a place (or, not forward, before it) in an order that an index has."""
    up = order.id_descending != forward
    beyond_id: Filter = {"_id": {_operator(up, inclusive): place.id}}
    if not order.keys:
        return [beyond_id]
    key, value = order.keys[0], place.keys[0]
    field = key.parameter.field
    if value is None:
        if not order.all_in_one:
            return [beyond_id]
        missing = presence(key, present=False)
        return [{"$nor": [{**missing, "_id": {_before(up, inclusive): place.id}}]}] if up else [missing, beyond_id]
    if key.parameter.bare:
        return _beyond_bare(field, value, place.id, up=up, inclusive=inclusive)
    here, further, back = ("$gte", "$gt", "$lt") if up else ("$lte", "$lt", "$gt")
    if field == "t":  # one number: the first condition bounds the index, the second parts the ties
        return [{"t": {here: value}}, {"$or": [{"t": {further: value}}, beyond_id]}]
    ends = _ends(key)
    if ends is None or not isinstance(value, tuple):
        return [
            {field: {here: value, "$not": {back: value}}},
            {"$or": [beyond_id, {field: {"$ne": value}}]},
        ]
    (low, high), (first, second) = ends, value
    nearer = {"$or": [{low: {back: first}}, {low: first, high: {back: second}}]}
    return [
        {field: {"$elemMatch": {low: {here: first}}, "$not": {"$elemMatch": nearer}}},
        {"$or": [beyond_id, {field: {"$not": {"$elemMatch": {low: first, high: second}}}}]},
    ]


def beyond_group(lead: Order, value: KeyValue, *, forward: bool) -> list[Filter]:
    """The conditions that keep what comes after all documents of one key."""
    up = lead.id_descending != forward
    return beyond_indexed(lead, Place((value,), LAST_ID if up else ""), forward=forward, inclusive=False)


def around(key: SortKey, first: KeyValue, last: KeyValue, *, up: bool) -> Filter:
    """What all documents meet whose key lies from one value to another, in an order that goes up or down.

    Others may meet it, too: a range of the index, for an order to be computed within. Without `first` it is open there.
    """
    low, high = (first, last) if up else (last, first)
    span: dict[str, Any] = {}
    for operator, value in (("$gte", low), ("$lte", high)):
        if value is not None:
            span[operator] = value[0] if isinstance(value, tuple) else value
    field, ends = key.parameter.field, _ends(key)
    if field == "t":
        return {"t": span}
    if key.parameter.bare:
        return {field if ends is None else f"{field}.{ends[0]}": span}
    return {field: {"$elemMatch": span if ends is None else {ends[0]: span}}}


def _beyond_bare(field: str, value: KeyValue, place_id: str, *, up: bool, inclusive: bool) -> list[Filter]:
    """A range for the index to walk, without what stands in it before the place; documents without a value stay."""
    before_id = {"_id": {_before(up, inclusive): place_id}}
    back = "$lt" if up else "$gt"
    if not isinstance(value, tuple):
        return [{field: {"$gte": value} if up else {"$not": {"$gt": value}}}, {"$nor": [{field: value, **before_id}]}]
    first, second = value
    start, end = f"{field}.s", f"{field}.e"
    nearer: list[Filter] = [{start: first, end: {back: second}}, {start: first, end: second, **before_id}]
    return [{start: {"$gte": first} if up else {"$not": {"$gt": first}}}, {"$nor": nearer}]


def _operator(up: bool, inclusive: bool) -> str:
    return ("$gte" if up else "$lte") if inclusive else ("$gt" if up else "$lt")


def _before(up: bool, inclusive: bool) -> str:
    return _operator(not up, not inclusive)


# --- any order, computed ----------------------------------------------------------------------------------------------


def computed_stages(
    order: Order,
    place: Place | None,
    *,
    forward: bool,
    inclusive: bool,
    limit: int,
    fields: Mapping[str, int],
) -> list[dict[str, Any]]:
    """The stages that follow the `$match` of an aggregation; rows come with their keys as `k0`, `k1` and so on."""
    numbered = list(enumerate(order.keys))
    stages: list[dict[str, Any]] = [
        {"$set": {f"k{i}": _expression(key) for i, key in numbered}},
        {"$set": {f"m{i}": {"$lte": [f"$k{i}", None]} for i, _ in numbered}},
    ]
    if place is not None:
        stages.append({"$match": _beyond_computed(order, place, forward=forward, inclusive=inclusive)})
    steps = {name: 1 if up else -1 for name, up in _directions(order, forward)}
    shown = {**fields, **dict.fromkeys(("v", "t", "r", *(f"k{i}" for i, _ in numbered)), 1)}
    return [*stages, {"$sort": steps}, {"$limit": limit}, {"$project": shown}]


def computed_key(order: Order, row: dict[str, Any]) -> tuple[KeyValue, ...]:
    """The keys of a row that came from `computed_stages`."""
    values = [row.get(f"k{i}") for i in range(len(order.keys))]
    return tuple([_plain((v["a"], v["b"]) if isinstance(v, dict) else v) for v in values])


def _expression(key: SortKey) -> dict[str, Any] | str:
    path = f"${key.parameter.field}"
    if key.positions:
        return distance_m(key.parameter.field, key.positions)
    if key.terms:
        return score(key.parameter.field, key.terms)
    if key.parameter.field == "t":
        return path
    fold = "$max" if key.descending else "$min"
    ends = _ends(key)
    if ends is not None and key.parameter.bare:
        whole = {"a": f"{path}.{ends[0]}", "b": f"{path}.{ends[1]}"}
        return {"$cond": [{"$lte": [whole["a"], None]}, None, whole]}
    if ends is not None:
        pair = {"a": f"$$this.{ends[0]}", "b": f"$$this.{ends[1]}"}
        return {fold: {"$map": {"input": path, "in": pair}}}
    if _is_by_code_down(key):
        is_plain = {"$and": [{"$gte": ["$$this", "="]}, {"$lt": ["$$this", ">"]}]}
        plain = {"$filter": {"input": {"$ifNull": [path, []]}, "cond": is_plain}}
        chosen = {"$cond": [{"$eq": ["$$plain", []]}, path, "$$plain"]}
        return {"$let": {"vars": {"plain": plain}, "in": {fold: chosen}}}
    return {fold: path}


def _directions(order: Order, forward: bool) -> list[tuple[str, bool]]:
    """Each field of the order, and whether it goes up."""
    directions: list[tuple[str, bool]] = []
    for i, key in enumerate(order.keys):
        directions += [(f"m{i}", forward), (f"k{i}", key.descending != forward)]
    return [*directions, ("_id", order.id_descending != forward)]


def _beyond_computed(order: Order, place: Place, *, forward: bool, inclusive: bool) -> Filter:
    values: dict[str, Any] = {"_id": place.id}
    for i, value in enumerate(place.keys):
        values[f"m{i}"] = value is None
        values[f"k{i}"] = {"a": value[0], "b": value[1]} if isinstance(value, tuple) else value
    equal: Filter = {}
    choices: list[Filter] = []
    for name, up in _directions(order, forward):
        value = values[name]
        if value is not None:
            choices.append({**equal, name: {_operator(up, inclusive and name == "_id"): value}})
        equal = {**equal, name: value}
    return {"$or": choices}
