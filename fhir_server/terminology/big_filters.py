"""Conditions on codes as filters of the database, for code systems whose concepts are rows.

Spec: https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, NamedTuple

from fhir_server.fhirpath.items import Fault
from fhir_server.fhirpath.patterns import matches_whole
from fhir_server.search.types.conditions import starts_with
from fhir_server.terminology.concepts import BUILT_IN
from fhir_server.terminology.conditions import (
    HIERARCHICAL,
    OPERATORS,
    Active,
    All,
    Condition,
    Everything,
    Filtered,
    Leaf,
    Listed,
    Not,
    Selectable,
    Some,
    Unknown,
    judged,
    parts_listed,
)

Filter = dict[str, Any]

NOTHING: Filter = {"c": {"$in": []}}


class Asked(NamedTuple):
    """A concept that a filter names: its code as the system spells it, what is above it, and right above it."""

    code: str
    above: Sequence[str]
    parents: Sequence[str]


Ask = Callable[[str], Awaitable[Asked | None]]

_FLAGS = {"inactive": "i", "notSelectable": "b", "abstract": "b"}
_FIELDS = {"code": "c", "concept": "c", "display": "d", "parent": "u"}


def reasons(leaf: Leaf, properties: Collection[str], url: str) -> str:
    """Why a condition cannot be evaluated, in a few words; empty where it can."""
    if isinstance(leaf, Unknown):
        return f"it draws on the value set {leaf.value_set!r}, which is not held here"
    if isinstance(leaf, Filtered) and not _is_understood(leaf, properties):
        return f"its filter {leaf} on {url!r} cannot be evaluated here"
    return ""


def _is_understood(leaf: Filtered, properties: Collection[str]) -> bool:
    if leaf.op not in OPERATORS:
        return False
    if leaf.op in HIERARCHICAL:
        return True
    if leaf.op == "regex":
        try:
            matches_whole(leaf.value, "")
        except Fault:
            return False
    if leaf.property in ("child", "definition"):
        return leaf.property == "child" and leaf.op in ("=", "exists")
    if leaf.property in _FLAGS:
        return leaf.op in ("=", "exists")
    return leaf.property in BUILT_IN or leaf.property in properties


def open_question(condition: Condition) -> bool:
    """Whether codes that nobody has listed may meet a condition."""
    return judged(condition, lambda leaf: False if isinstance(leaf, Listed) else None) is not False


async def filter_of(condition: Condition, ask: Ask) -> Filter:
    """The filter of a condition that can be evaluated; empty for everything."""
    match condition:
        case All(parts):
            found = [one for part in parts if (one := await filter_of(part, ask))]
            return found[0] if len(found) == 1 else {"$and": found} if found else {}
        case Some(parts):
            found = [await filter_of(part, ask) for part in parts]
            return {"$or": found} if all(found) else {}
        case Not(part):
            inner = await filter_of(part, ask)
            return {"$nor": [inner]} if inner else NOTHING
        case Everything():
            return {}
        case Selectable():
            return {"b": {"$ne": True}}
        case Active():
            return {"i": {"$ne": True}}
        case Listed(codes):
            return {"c": {"$in": sorted(codes)}}
        case Filtered():
            return await _filtered(condition, ask)
        case Unknown():
            return NOTHING


async def _filtered(leaf: Filtered, ask: Ask) -> Filter:
    if leaf.op in HIERARCHICAL:
        found = await ask(leaf.value)
        if found is None:
            return {} if leaf.op == "is-not-a" else NOTHING
        match leaf.op:
            case "is-a":
                return {"a": found.code}
            case "descendent-of":
                return {"a": found.code, "c": {"$ne": found.code}}
            case "is-not-a":
                return {"a": {"$ne": found.code}}
        return {"c": {"$in": list(found.above)}}
    if leaf.property in _FLAGS:
        is_set = leaf.value == "true" if leaf.op == "=" else None
        return {} if is_set is None else {_FLAGS[leaf.property]: True if is_set else {"$ne": True}}
    if leaf.property == "child":
        if leaf.op == "exists":
            return {"h": True if leaf.value == "true" else {"$ne": True}}
        found = await ask(leaf.value)
        return NOTHING if found is None else {"c": {"$in": list(found.parents)}}
    return _compared(leaf)


def _compared(leaf: Filtered) -> Filter:
    field = _FIELDS.get(leaf.property, "p")
    prefix = "" if field != "p" else f"{leaf.property}="
    match leaf.op:
        case "=":
            return {field: prefix + leaf.value}
        case "in":
            return {field: {"$in": [prefix + one for one in sorted(parts_listed(leaf.value))]}}
        case "not-in":
            return {field: {"$nin": [prefix + one for one in sorted(parts_listed(leaf.value))]}}
        case "exists":
            there = (
                starts_with("p", prefix)
                if field == "p"
                else {f"{field}.0" if field == "u" else field: {"$exists": True}}
            )
            return there if leaf.value == "true" else {"$nor": [there]}
    return {field: {"$regex": rf"^{re.escape(prefix)}(?:{leaf.value})\z", "$options": "s"}}
