"""What the conditions of several types have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.model.errors import InvalidError

Filter = dict[str, Any]

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


def any_of(field: str, entries: Sequence[str]) -> Filter:
    """The field holds one of these entries."""
    return {field: entries[0]} if len(entries) == 1 else {field: {"$in": list(entries)}}


def either(conditions: Sequence[Filter]) -> Filter:
    """One of the conditions holds."""
    return conditions[0] if len(conditions) == 1 else {"$or": list(conditions)}


def starts_with(field: str, prefix: str) -> Filter:
    """The field holds an entry that begins with `prefix`: a range, which an index walks without a pattern."""
    if not prefix:
        return {field: {"$exists": True}}
    end = after(prefix)
    span = {"$gte": prefix} if end is None else {"$gte": prefix, "$lt": end}
    return {field: {"$elemMatch": span}}


def after(prefix: str) -> str | None:
    """The first string behind all that begin with `prefix`, in the order of code points; None when there is none."""
    for position in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[position]) + 1
        if code > _LAST:
            continue
        if code in _SURROGATES:
            code = _SURROGATES.stop
        return prefix[:position] + chr(code)
    return None


def malformed(name: str, found: str, expected: str, key: str = "HS-SEARCH-VALUE") -> InvalidError:
    """400: a value that its parameter cannot have."""
    return InvalidError(
        f"The value {found[:100]!r} of the search parameter {name!r} is not valid: expected {expected}.",
        code="value",
        key=key,
        expression=f"http.{name[:80]}",
    )
