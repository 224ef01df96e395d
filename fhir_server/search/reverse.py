"""Three ways to follow a reverse chain, `_has:Observation:patient:code=…`, and which of them costs least.

| way | what it does | it costs |
|---|---|---|
| gather | finds all that refer and meet the condition, and takes whom they refer to | a document for each of them |
| chart | asks an index of charts about one patient after the other | an index seek for each patient |
| check | asks, of one match of all other criteria after the other, whether one refers | a small query for each |

Gathering is best where few refer. Checking stops when a page is full: it is best where the other criteria leave few, or
where nearly everybody is referred to, as with a condition as wide as `date=gt2000`. Which it is shows when a chain has
been gathered once, up to a bound: that is remembered for a while.

Spec: https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from fhir_server.search.charts import CHARTS
from fhir_server.search.compile import condition_of
from fhir_server.search.cost import is_narrow
from fhir_server.search.query import Comparison, DateValue, Predicate, Reverse, Search, TokenValue, parts_of
from fhir_server.search.sort import order_of
from fhir_server.search.types import date
from fhir_server.search.types.conditions import Filter
from profiles.terminology import Terminology

Way = Literal["gather", "chart", "check"]

#: What each way costs for one document, seek or query (measured on one machine; their proportions are what counts).
GATHERED_US, CHARTED_US, CHECKED_US = 5, 12, 150

#: Documents that are gathered before anything is known.
BOUND = 20_000

#: Fewer documents than this are read sooner than one could think about it.
MANY = 300

#: So few matches are checked without a thought; a patient has about so many resources of a type.
FEW, OF_A_PATIENT = 10, 50

#: A condition of more values than this is too long to be asked about one resource after the other.
FEW_VALUES = 100

REMEMBERED = 1000
REMEMBERED_S = 600.0


@dataclass(frozen=True, slots=True)
class Spread:
    """What was seen when a reverse chain was gathered.

    Attributes:
        read: documents that refer and meet the condition, so far
        found: resources that they refer to
        among: resources of that type that there are
        whole: whether those were all
    """

    read: int
    found: int
    among: int
    whole: bool


class Spreads:
    """Remembers how reverse chains are spread."""

    def __init__(self) -> None:
        self._known: OrderedDict[Reverse, tuple[float, Spread]] = OrderedDict()

    def get(self, reverse: Reverse) -> Spread | None:
        until, spread = self._known.get(reverse, (0.0, None))
        return spread if until > time.monotonic() else None

    def remember(self, reverse: Reverse, spread: Spread) -> None:
        self._known[reverse] = (time.monotonic() + REMEMBERED_S, spread)
        self._known.move_to_end(reverse)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def way_of(reverse: Reverse, spread: Spread | None, search: Search | None) -> Way:
    """The way that costs least.

    Args:
        spread: how the chain is spread, as far as it is known
        search: the one that it is a criterion of; None where it is a part of another criterion, or cannot be checked
    """
    if reverse.parameter.canonical or _values(reverse.predicate) > FEW_VALUES:
        search = None
    left = None if search is None else _left(search)
    if left is not None and left <= FEW:
        return "check"
    if spread is None:
        return "gather"
    # Where more is there than was read it may be far more, and is worth a try only where all else costs more still.
    costs: dict[Way, float] = {"gather": spread.read * GATHERED_US * (1 if spread.whole else 2)}
    if charted(reverse) is not None:
        # Of a patient who has none, all that the index has may have to be looked at.
        costs["chart"] = (spread.found + 10 * max(0, spread.among - spread.found)) * CHARTED_US
    if search is not None:
        costs["check"] = min(left or spread.among, _looked_at(spread, search)) * CHECKED_US
    return min(costs, key=lambda way: costs[way])


def _left(search: Search) -> int | None:
    """About how many resources the other criteria leave; None where that cannot be told."""
    counts = [
        len(predicate.values)
        for predicate in search.predicates
        if isinstance(predicate, Comparison) and (predicate.parameter.field == "_id" or predicate.parameter.identifies)
        if is_narrow(predicate)
    ]
    return min(counts) if counts else OF_A_PATIENT if any(map(is_narrow, search.predicates)) else None


def _looked_at(spread: Spread, search: Search) -> float:
    """About how many resources are looked at until a page is full; all of them, where all have to be known."""
    if search.only_total or search.total in ("accurate", "estimate") or not order_of(search.sort).indexed:
        return spread.among
    return min(spread.among, (search.count + 1) * spread.among / max(1, spread.found))


def _values(predicate: Predicate) -> int:
    if isinstance(predicate, Comparison):
        return len(predicate.values) + sum(len(getattr(v, "entries", ())) for v in predicate.values)
    return sum(map(_values, parts_of(predicate)))


# --- the index of charts ----------------------------------------------------------------------------------------------


def charted(reverse: Reverse) -> str | None:
    """The field that an index of charts begins with which also has what the referring resource must meet."""
    chart = CHARTS.get(reverse.source)
    if chart is None or not reverse.parameter.bare:
        return None
    if (reverse.parameter.within or reverse.parameter.field) != f"x.{chart.patient}":
        return None
    match reverse.predicate:
        case Comparison(parameter, None, (TokenValue(_, str()),)) if parameter.code in chart.tokens:
            return f"x.{chart.patient}"
        case Comparison(parameter, None, (DateValue(prefix),)) if parameter.charted and prefix != "ne":
            return f"x.{chart.patient}"
    return None


def chart_conditions(reverse: Reverse, terminology: Terminology) -> list[Filter]:
    """The condition of a charted chain, in parts that an index answers by ranges of its keys alone."""
    match reverse.predicate:
        case Comparison(parameter, None, (DateValue() as value,)):
            return date.ranges(parameter.field, value)
        case predicate:
            return [condition_of(predicate, terminology)]
