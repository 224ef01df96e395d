"""`Observation/$series`: measurements as a chart draws them.

One unit, few points that keep every extreme, components as lines of their own, pauses, and the bands against which the
values are read: the reference range that the newest of them has, and the thresholds in force that its reader may see.

Two database commands, whatever is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fhir_server.interactions.context import Context
from fhir_server.interactions.figures import decimal_of
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.interactions.stats import Code, codes_of, comparable, has, is_of, measurements_of, scale_of
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import OPEN_END_US, Interval, interval_of
from fhir_server.model.exchange import Answer, Request
from resources.healthlog.measures import UCUM
from resources.healthlog.points import Reading, points_of, readings
from resources.healthlog.reduce import gaps, reduced
from resources.monitoring.engine import Criteria
from resources.monitoring.threshold import CATEGORY, OWN_THRESHOLD, THRESHOLD, Threshold, in_force
from resources.time_zones import zone_named

Json = dict[str, Any]

NAMES = ("patient", "subject", "code", "system", "coding", "start", "end", "points", "unit", "timezone")
POINTS, LEAST_POINTS, MOST_POINTS = 200, 4, 5000
MOST_PLANS = 200

#: When it is night, and how many nights are drawn.
DUSK, DAWN = time(22), time(6)
MOST_NIGHTS = 400


async def series(context: Context, request: Request) -> Answer:
    """Read, convert, thin out.

    Raises:
        InvalidError: 400; a parameter is missing, unknown or of another kind.
        UnprocessableError: 422; there are too many measurements.
    """
    inputs = Inputs.of(request)
    inputs.only(*NAMES)
    subject, codes = subject_in(inputs, request.base_url), codes_of(inputs)
    start, end = _moment(inputs, "start"), _moment(inputs, "end")
    most = inputs.whole("points", least=LEAST_POINTS) or POINTS
    if most > MOST_POINTS:
        raise wrong("points", most, f"at most {MOST_POINTS}")
    unit, zone = inputs.text("unit"), _zone(inputs)
    if unit is not None and scale_of((UCUM, unit)) is None:
        raise wrong("unit", unit, "a UCUM code")
    start_us, end_us = start.start_us if start else None, end.end_us if end else None
    found = await readings(context.searcher, subject, codes, start_us, end_us)
    rules = await thresholds(context, subject)
    rows = [
        row_of(code, [r for r in found if has(r.observation, code)], unit, most, [t for t in rules if _is(t, code)])
        for code in codes
    ]
    shown = [r.moment_us for r in found]
    nights: list[Json] = []
    if zone is not None and shown:
        span = Interval(start_us if start_us is not None else shown[0], end_us if end_us is not None else shown[-1])
        nights = [_span("night", s, e) for s, e in nights_of(span, zone)]
    return answered(parameters_of(*rows, *nights))


def subject_in(inputs: Inputs, base_url: str) -> str:
    given = inputs.text("patient") or inputs.text("subject")
    text = str(inputs.required("patient", given)).removeprefix(f"{base_url}/")
    return text if "/" in text else f"Patient/{text}"


def _moment(inputs: Inputs, name: str) -> Interval | None:
    text = inputs.text(name)
    return interval_of(text) if text is not None else None


def _zone(inputs: Inputs) -> ZoneInfo | None:
    name = inputs.text("timezone")
    zone = zone_named(name) if name is not None else None
    if name is not None and zone is None:
        raise wrong("timezone", name, "the name of a time zone, such as Europe/Berlin")
    return zone


async def thresholds(context: Context, subject: str) -> list[Threshold]:
    """Those in force of a patient that the reader may see."""
    if not subject.startswith("Patient/") or not context.caller.policy.may("CarePlan", "s"):
        return []
    kinds = ",".join(f"{CATEGORY}|{kind}" for kind in (THRESHOLD, OWN_THRESHOLD))
    criteria = f"subject={subject}&category={kinds}&status=active"
    found = await context.searcher.matches("CarePlan", criteria, limit=MOST_PLANS)
    return [rule for _, rule in in_force(found)]


def _is(rule: Threshold, code: Code) -> bool:
    return rule.code[1] == code[1] and code[0] in (None, rule.code[0])


def row_of(code: Code, found: list[Reading], unit: str | None, most: int, rules: list[Threshold]) -> Json:
    """One line: its code, unit, points, pauses and bands."""
    told: Json = {"unit": unit, "system": UCUM, "code": unit} if unit is not None else unit_of(found, code)
    points = points_of(found, code, told.get("code") or told.get("unit"), told.get("system", UCUM))
    shown = reduced(points, most)
    system, name = code
    parts: list[Json] = [
        {"name": "code", "valueCoding": {**({"system": system} if system else {}), "code": name}},
        {"name": "count", "valueInteger": len(points)},
    ]
    if told:
        parts.append({"name": "unit", "valueCoding": {"system": told.get("system", UCUM), "code": _name(told)}})
    parts += [
        {
            "name": "point",
            "part": [
                {"name": "time", "valueInstant": instant_of(point.moment_us)},
                {"name": "value", "valueDecimal": decimal_of(point.value)},
                {"name": "observation", "valueReference": {"reference": f"Observation/{point.id}"}},
            ],
        }
        for point in shown
    ]
    parts += [_span("gap", *gap) for gap in gaps(points)]
    parts += list(_bands(code, found, told, rules))
    return {"name": "series", "part": parts}


def _name(unit: Json) -> str:
    return str(unit.get("code") or unit["unit"])


def unit_of(found: list[Reading], code: Code) -> Json:
    """The unit that most values have; none where they have none."""
    measured = [m for r in found for m in measurements_of(r.observation, code, r.moment_us)]
    _, unit = comparable([m for m in measured if m is not None])
    return unit


def _bands(code: Code, found: list[Reading], unit: Json, rules: list[Threshold]) -> Iterator[Json]:
    for node in (n for r in reversed(found) for n in (r.observation, *r.observation.get("component", ()))):
        if is_of(node, code) and node.get("referenceRange"):
            for given in node["referenceRange"][:1]:
                low, high = given.get("low"), given.get("high")
                ends = [{"name": n, "valueQuantity": q} for n, q in (("low", low), ("high", high)) if q is not None]
                yield {"name": "band", "part": [{"name": "kind", "valueCode": "reference-range"}, *ends]}
            break
    for rule in rules:
        if rule.criteria.baseline_us is None:
            yield _threshold(rule, rule.criteria)


def _threshold(rule: Threshold, criteria: Criteria) -> Json:
    level = {"value": decimal_of(criteria.level), "unit": rule.unit, "system": UCUM, "code": rule.unit}
    return {
        "name": "band",
        "part": [
            {"name": "kind", "valueCode": "threshold"},
            {"name": "title", "valueString": rule.title},
            {"name": "low" if criteria.comparator[0] == ">" else "high", "valueQuantity": level},
        ],
    }


def _span(name: str, start_us: int, end_us: int) -> Json:
    return {"name": name, "valuePeriod": {"start": instant_of(start_us), "end": instant_of(end_us)}}


def nights_of(span: Interval, zone: ZoneInfo) -> list[tuple[int, int]]:
    """The nights of a place that a span of time touches; of a long one the last."""
    if not 0 < span.end_us - span.start_us < OPEN_END_US:
        return []
    first = max(span.start_us, span.end_us - MOST_NIGHTS * 86_400_000_000)
    day = datetime.fromtimestamp(first / 1e6, UTC).astimezone(zone).date() - timedelta(days=1)
    found: list[tuple[int, int]] = []
    while True:
        dusk = datetime.combine(day, DUSK, zone).timestamp()
        day += timedelta(days=1)
        dawn = datetime.combine(day, DAWN, zone).timestamp()
        start_us, end_us = max(first, round(dusk * 1e6)), min(span.end_us, round(dawn * 1e6))
        if dusk * 1e6 >= span.end_us:
            return found
        if start_us < end_us:
            found.append((start_us, end_us))
