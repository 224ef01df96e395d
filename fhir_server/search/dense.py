"""Reverse chains by a code that most patients have: the index of charts leads to each patient once.

`_has:Observation:patient:code=…` reads every Observation with the code. Where that is many for each patient, it costs
less to ask the index `(subject, code, date)` about one patient after the other, and where they are few for many
patients, it costs far more. Which it is shows when the search has run once: it is remembered for a while.

Spec: https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

import time
from collections import OrderedDict

from fhir_server.search.charts import CHARTS
from fhir_server.search.query import Comparison, Reverse, TokenValue

#: A document read costs less than an index seek: so many for each resource of the type that is searched, and the seeks
#: cost less in sum (measured: 5 and 12 µs).
WORTHWHILE = 3

#: Fewer documents than this are read sooner than one could think about it.
MANY = 300

REMEMBERED = 1000
REMEMBERED_S = 600.0


def chart_field(reverse: Reverse) -> str | None:
    """The reference that the index of charts begins with, where it also has what the referring resource must meet."""
    chart = CHARTS.get(reverse.source)
    if chart is None or (reverse.parameter.within or reverse.parameter.field) != f"x.{chart.patient}":
        return None
    match reverse.predicate:
        case Comparison(parameter, None, (TokenValue(_, str()),)) if parameter.code in chart.tokens:
            return f"x.{chart.patient}"
    return None


class Dense:
    """Remembers which reverse chains find many documents for each resource."""

    def __init__(self) -> None:
        self._until: OrderedDict[Reverse, float] = OrderedDict()

    def __contains__(self, reverse: Reverse) -> bool:
        return self._until.get(reverse, 0.0) > time.monotonic()

    def add(self, reverse: Reverse) -> None:
        self._until[reverse] = time.monotonic() + REMEMBERED_S
        self._until.move_to_end(reverse)
        if len(self._until) > REMEMBERED:
            self._until.popitem(last=False)
