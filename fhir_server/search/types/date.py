"""Dates: spans against spans.

With the search value `[lo, hi)` and the target `[s, e)`, both as wide as their precision says:

| prefix | the target matches when |
|---|---|
| eq | the value's span contains it: `lo <= s` and `e <= hi` |
| ne | it does not |
| gt | the span above the value meets it: `e > hi` |
| lt | the span below the value meets it: `s < lo` |
| ge | as gt, or as eq |
| le | as lt, or as eq |
| sa | it starts after the value: `s >= hi` |
| eb | it ends before the value: `e <= lo` |
| ap | it meets the value's span, made wider on both sides by a tenth of the distance to now |

A resource matches when one of its dates does; so `ne` asks for a date that differs, which a resource without any lacks.

Spec: https://hl7.org/fhir/R4/search.html#date, https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.model.clock import now_us
from fhir_server.model.dates import OPEN_START_US, interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.search.query import DateValue, Value
from fhir_server.search.types.conditions import Filter, either, malformed
from fhir_server.search.types.prefix import prefix_of

SHAPE = (
    "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm[:ss[.f]] with Z or ±hh:mm, after an optional prefix "
    "(eq ne gt lt ge le sa eb ap)"
)

#: `meta.lastUpdated` is an instant to the millisecond: the span of `t` is that long.
INSTANT_US = 1000


def parse_value(name: str, text: str) -> DateValue:
    """Read `[prefix]date`.

    Raises:
        InvalidError: 400; no date, or an unknown prefix.
    """
    prefix, digits = prefix_of(name, text, SHAPE, "HS-SEARCH-DATE")
    try:
        # In a query string that was not encoded, the plus of a zone arrives as a blank.
        span = interval_of(digits.replace(" ", "+") if " " in digits else digits)
    except InvalidError:
        raise malformed(name, text, SHAPE, "HS-SEARCH-DATE") from None
    if prefix != "ap":
        return DateValue(prefix, span.start_us, span.end_us)
    margin_us = abs(now_us() - span.start_us) // 10
    return DateValue(prefix, span.start_us - margin_us, span.end_us + margin_us)


def condition(field: str, values: Sequence[Value], longest_us: int | None = None) -> Filter:
    """A span among the entries of a field, none longer than `longest_us`, matches one of the values."""
    spans = [v for v in values if isinstance(v, DateValue)]
    return either([{field: {"$elemMatch": _bounded(_of_span(v, "s", "e"), "s", "e", longest_us)}} for v in spans])


def bare_condition(field: str, values: Sequence[Value], longest_us: int | None = None) -> Filter:
    """The one span that a field holds, not in an array, matches one of the values."""
    start, end = f"{field}.s", f"{field}.e"
    spans = [v for v in values if isinstance(v, DateValue)]
    matches = [_bounded(_of_span(v, start, end), start, end, longest_us) for v in spans]
    # Said of every start, it tells the planner that an index of the documents that have one holds all matches.
    return either([{**match, start: {"$gte": OPEN_START_US, **match.get(start, {})}} for match in matches])


def ranges(field: str, value: DateValue) -> list[Filter]:
    """The same, for any prefix but `ne`, as alternatives that are ranges of start and end, and nothing else."""
    start, end = f"{field}.s", f"{field}.e"
    low, high = value.start_us, value.end_us
    match value.prefix:
        case "ge":
            spans: list[Filter] = [{end: {"$gt": high}}, {start: {"$gte": low}, end: {"$gt": low}}]
        case "le":
            spans = [{start: {"$lt": low}}, {start: {"$lt": high}, end: {"$lte": high}}]
        case _:
            spans = [_of_span(value, start, end)]
    return [{**span, start: {"$gte": OPEN_START_US, **span.get(start, {})}} for span in spans]


def _bounded(match: Filter, start: str, end: str, longest_us: int | None) -> Filter:
    """Say what follows for the start from a condition on the end, so that an index over starts has a range to walk."""
    if longest_us is not None and start not in match and end in match:
        return {start: {"$gt": match[end]["$gt"] - longest_us}, **match}
    return match


def _of_span(value: DateValue, start: str, end: str) -> Filter:
    """The table; its rows that are alternatives exclude what meets neither, for which no plans are tried out."""
    low, high = value.start_us, value.end_us
    match value.prefix:
        case "eq":  # that s < hi follows from e <= hi; said, it closes the range that the index walks
            return {start: {"$gte": low, "$lt": high}, end: {"$lte": high}}
        case "ne":
            return {"$nor": [{start: {"$gte": low}, end: {"$lte": high}}]}
        case "gt":
            return {end: {"$gt": high}}
        case "lt":
            return {start: {"$lt": low}}
        case "ge":
            return {end: {"$gt": low}, "$nor": [{start: {"$lt": low}, end: {"$lte": high}}]}
        case "le":
            return {start: {"$lt": high}, "$nor": [{start: {"$gte": low}, end: {"$gt": high}}]}
        case "sa":
            return {start: {"$gte": high}}
        case "eb":
            return {start: {"$lt": low}, end: {"$lte": low}}
        case "ap":
            return {start: {"$lt": high}, end: {"$gt": low}}


def instant_condition(values: Sequence[Value]) -> Filter:
    """`_lastUpdated`, kept as one number: the same table with `s = t` and `e = t` plus a millisecond."""
    return either([_of_instant(v) for v in values if isinstance(v, DateValue)])


def _of_instant(value: DateValue) -> Filter:
    low, high, last = value.start_us, value.end_us, value.end_us - INSTANT_US
    match value.prefix:
        case "eq":
            return {"t": {"$gte": low, "$lte": last}}
        case "ne":
            return {"$or": [{"t": {"$lt": low}}, {"t": {"$gt": last}}]}
        case "gt":
            return {"t": {"$gt": last}}
        case "lt":
            return {"t": {"$lt": low}}
        case "ge":
            return {"t": {"$gte": min(low, last + 1)}}
        case "le":
            return {"t": {"$lte": max(low - 1, last)}}
        case "sa":
            return {"t": {"$gte": high}}
        case "eb":
            return {"t": {"$lte": low - INSTANT_US}}
        case "ap":
            return {"t": {"$lt": high, "$gt": low - INSTANT_US}}
