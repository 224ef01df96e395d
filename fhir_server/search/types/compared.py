"""The comparisons that `_filter` has and no search parameter: equal, unequal, ends with, before and behind for text.

"An item in the set has an unequal value": `ne` asks for an entry that differs, so nothing matches without any.

Spec: https://hl7.org/fhir/R4/search_filter.html
"""

from __future__ import annotations

import re
from typing import Any

from fhir_server.search.normalize import fold
from fhir_server.search.query import Parameter, ReferenceValue, TextValue, TokenValue, Value
from fhir_server.search.types.conditions import Filter, any_of, starts_with
from fhir_server.search.types.token import entry_of
from profiles.terminology import Terminology

_ORDER = {"gt": "$gt", "lt": "$lt", "ge": "$gte", "le": "$lte"}


def condition(parameter: Parameter, operator: str, value: Value, terminology: Terminology) -> Filter:
    """An entry of the parameter's field compares with the value as the operator says."""
    field = parameter.field
    match value:
        case TextValue(text) if operator in _ORDER:
            return {field: {"$elemMatch": {_ORDER[operator]: text}}}
        case TextValue(text):
            return _of_text(field, operator, text)
        case TokenValue(None, code) if code is not None and operator != "ne":
            return starts_with(field, f"={fold(code)}") if operator == "sw" else _pattern(field, operator, code, "=")
        case TokenValue(system, code) if operator == "ne":
            return {field: {"$elemMatch": _other_than(system, code, terminology)}}
        case TokenValue(system, code):
            prefix = f"{system}|"
            if operator == "sw" or not code:
                return starts_with(field, prefix + fold(code or ""))
            return _pattern(field, operator, code, prefix)
        case ReferenceValue(entries) if parameter.bare:
            return {field: {"$exists": True, "$nin": list(entries)}}
        case ReferenceValue(entries):
            return {field: {"$elemMatch": {"$nin": list(entries)}}}
    raise AssertionError(f"{operator} is not tested with {value}")


def _of_text(field: str, operator: str, text: str) -> Filter:
    match operator:
        case "eq":
            return any_of(field, [text])
        case "ne":
            return {field: {"$elemMatch": {"$ne": text}}}
        case "sw":
            return starts_with(field, text)
    return {field: {"$regex": re.escape(text) + ("$" if operator == "ew" else "")}}


def _pattern(field: str, operator: str, code: str, prefix: str) -> Filter:
    end = "$" if operator == "ew" else ""
    return {field: {"$elemMatch": {"$regex": f"^{re.escape(prefix)}.*{re.escape(fold(code))}{end}"}}}


def _other_than(system: str | None, code: str | None, terminology: Terminology) -> dict[str, Any]:
    """An entry that is not of this code; of the two that a coding leaves, the one that says as much as the value."""
    if system is None:
        return {"$gte": "=", "$lt": ">", "$ne": f"={fold(code or '')}"}
    if not code:
        return {"$regex": f"^(?!=|{re.escape(system)}\\|)"}
    # A `code` leaves an entry without its system as well, which is the same code.
    return {"$regex": "^(?!=)", "$nin": [entry_of(system, code, terminology), f"|{fold(code)}"]}
