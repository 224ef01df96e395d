"""Index entries of date parameters: the span of time that a value may mean, `{"s": …, "e": …}` in microseconds.

Spec: https://hl7.org/fhir/R4/search.html#date
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, Interval, interval_of
from fhir_server.model.errors import InvalidError
from fhir_server.search.entries import Further, Make


def maker_of(type_name: str) -> Make | None:
    """The maker for `date`, `dateTime`, `instant`, `Period` or `Timing`; an age or a text is no date."""
    match type_name:
        case "date" | "dateTime" | "instant":
            return _moment
        case "Period":
            return _period
        case "Timing":
            return _timing
    return None


def _moment(value: Any, main: list[Any], further: Further) -> None:
    _append(_span(value), main)


def _period(value: Any, main: list[Any], further: Further) -> None:
    _append(_span_of_period(value), main)


def _timing(value: Any, main: list[Any], further: Further) -> None:
    """From the first to the last moment of all events and of the bounds: in between, when exactly is not said."""
    spans = [span for event in value.get("event", ()) if event is not None and (span := _span(event)) is not None]
    bounds = _span_of_period(value.get("repeat", {}).get("boundsPeriod", {}))
    if bounds is not None:
        spans.append(bounds)
    _append(_hull(spans), main)


def _append(span: Interval | None, main: list[Any]) -> None:
    if span is not None:
        main.append({"s": span.start_us, "e": span.end_us})


def _span(text: str) -> Interval | None:
    try:
        return interval_of(text)
    except InvalidError:
        return None  # of the shape of a date, and no day of the calendar: there is nothing to be found by


def _span_of_period(period: dict[str, Any]) -> Interval | None:
    start, end = period.get("start"), period.get("end")
    if start is None and end is None:
        return None
    first = _span(start) if start is not None else Interval(OPEN_START_US, OPEN_START_US)
    last = _span(end) if end is not None else Interval(OPEN_END_US, OPEN_END_US)
    return Interval(first.start_us, last.end_us) if first and last else None


def _hull(spans: Iterable[Interval]) -> Interval | None:
    known = list(spans)
    if not known:
        return None
    return Interval(min(s.start_us for s in known), max(s.end_us for s in known))
