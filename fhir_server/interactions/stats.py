"""`$stats`: statistics of one subject's measurements, whatever units each was written in.

Values are converted to the unit that most of them have (UCUM), so that kilograms and pounds mix rightly. What was
entered in error or cancelled is left out. A value that cannot be compared with the others (`<5`, another kind of unit,
none at all) counts for `total-count` alone. Components count as measurements, as in a blood pressure.

Spec: https://hl7.org/fhir/R4/observation-operation-stats.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.figures import COUNTS, FIGURES, REGRESSION, decimal_of, regression
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.dates import OPEN_END_US, OPEN_START_US, Interval, interval_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.escape import escape
from fhir_server.search.ucum import canonical
from profiles.terminology import terminology

Json = dict[str, Any]
Code = tuple[str | None, str]

TYPE = "Observation"
UCUM = "http://unitsofmeasure.org"
STATISTICS = "http://terminology.hl7.org/CodeSystem/observation-statistics"
NAMES = ("subject", "code", "system", "coding", "duration", "period", "statistic", "include", "limit")

#: Other spellings, from the examples of the specification.
ALIASES = {"max": "maximum", "min": "minimum", "totalcount": "total-count", "mean": "average"}
CODES = (*FIGURES, *COUNTS, REGRESSION)

#: Figures without the unit of the values.
PURE = frozenset({"skew", "kurtosis", *COUNTS})
SQUARED = "variance"

#: More observations than this are an analysis, not a request.
MOST = 20_000
HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value with its unit: `(system, code)`, `(None, text)` where it is none of UCUM, or None without unit."""

    value: Fraction
    unit: tuple[str | None, str] | None
    text: str | None
    moment_us: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: whose, of which codes, when, which figures, and how many sources to show."""

    subject: str
    codes: list[Code]
    span: Interval | None
    statistics: list[str]
    sources: int


def tokens_of(codes: Iterable[Code]) -> str:
    """Any of some codes, as the value of a search parameter."""
    return ",".join("|".join(map(escape, (s, c))) if s is not None else escape(c) for s, c in codes)


async def stats(context: Context, request: Request) -> Answer:
    """Observation/$stats: Parameters with one `statistics` Observation for each code; one database command."""
    question = question_of(context, request)
    pairs = [
        ("subject", question.subject),
        ("combo-code", tokens_of(question.codes)),
        ("status:not", "entered-in-error,cancelled"),
    ]
    _, conditions = await context.searcher.understood(TYPE, pairs, strict=True, default_count=1, max_count=1)
    match = [conditions]
    if question.span is not None:
        match.append({"x.date.s": {"$lt": question.span.end_us}, "x.date.e": {"$gt": question.span.start_us}})
    rows = await context.searcher.aggregate(
        TYPE,
        [
            {"$match": {"$and": match}},
            {"$sort": {"x.date.s": 1, "_id": 1}},
            {"$limit": MOST + 1},
            {"$project": {"r": 1, "s": "$x.date.s", "e": "$x.date.e"}},
        ],
    )
    if len(rows) > MOST:
        raise UnprocessableError(
            f"There are more than {MOST:,} Observations to reckon with; ask for a shorter period.",
            code="too-costly",
            key="HS-OP-COST",
        )
    found = [(codec.decode(row["r"]), row) for row in rows]
    out = [
        {"name": "statistics", "resource": summary_of(question, code, [(o, r) for o, r in found if has(o, code)])}
        for code in question.codes
    ]
    newest = found[::-1][: question.sources]
    return answered(parameters_of(*out, *({"name": "source", "resource": o} for o, _ in newest)))


# --- the question ---------------------------------------------------------------------------------------------------


def question_of(context: Context, request: Request) -> Question:
    """Read the parameters.

    Raises:
        InvalidError: 400; one is missing, unknown or of another kind.
    """
    inputs = Inputs.of(request)
    inputs.only(*NAMES)
    subject: str = inputs.required("subject", inputs.text("subject")).removeprefix(f"{request.base_url}/")
    name, _, resource_id = subject.partition("/")
    if "://" not in subject and (not context.registry.is_resource_type(name) or not resource_id):
        raise wrong("subject", subject, "a reference such as Patient/123")
    codes = codes_of(inputs)
    statistics = []
    for value in inputs.all("statistic"):
        for part in str(value).split(","):
            code = ALIASES.get(part.strip(), part.strip())
            if code not in CODES:
                raise wrong("statistic", part, f"one of {', '.join(CODES)}")
            statistics.append(code)
    inputs.required("statistic", statistics or None)
    include, limit = inputs.flag("include"), inputs.whole("limit", least=1)
    most = min(limit or context.limits.max_page_size, context.limits.max_page_size)
    return Question(subject, codes, span_of(inputs), list(dict.fromkeys(statistics)), most if include else 0)


def codes_of(inputs: Inputs) -> list[Code]:
    system = inputs.text("system")
    codes: list[Code] = []
    for text in (part for value in inputs.all("code") for part in str(value).split(",")):
        own, bar, code = text.rpartition("|")
        codes.append((own if bar else system, code))
    for coding in inputs.all("coding"):
        if type(coding) is dict:
            codes.append((coding.get("system"), str(coding.get("code", ""))))
        else:
            own, bar, code = str(coding).rpartition("|")
            codes.append((own if bar else None, code))
    if any(not code for _, code in codes):
        raise wrong("code", "", "a code, with `system`, or a coding")
    return list(dict.fromkeys(inputs.required("code", codes or None)))


def span_of(inputs: Inputs) -> Interval | None:
    """The time of the measurements: the last hours of `duration`, or `period`; None for ever."""
    duration, period = inputs.one("duration"), inputs.resource("period")
    if duration is not None and period is not None:
        raise wrong("duration", duration, "either `duration` or `period`, not both,")
    if duration is not None:
        try:
            hours = Decimal(str(duration))
        except InvalidOperation:
            hours = Decimal(0)
        if not hours.is_finite() or not 0 < hours < 10_000_000:
            raise wrong("duration", duration, "a number of hours above 0")
        now = now_us()
        return Interval(now - int(hours * HOUR_US), now + 1)
    if period is None:
        return None
    start, end = period.get("start"), period.get("end")
    return Interval(
        interval_of(str(start)).start_us if start else OPEN_START_US,
        interval_of(str(end)).end_us if end else OPEN_END_US,
    )


# --- the answer -----------------------------------------------------------------------------------------------------


def summary_of(question: Question, code: Code, found: list[tuple[Json, Json]]) -> Json:
    """The Observation that holds the figures of one code."""
    measured = [m for observation, row in found for m in measurements_of(observation, code, row.get("s", 0))]
    used, unit = comparable([m for m in measured if m is not None])
    system, name = code
    result: Json = {
        "resourceType": TYPE,
        "status": "final",
        "code": {"coding": [{**({"system": system} if system else {}), "code": name}]},
        "subject": {"reference": question.subject},
    }
    if period := period_of(question.span, [row for _, row in found]):
        result["effectivePeriod"] = period
    result["component"] = [
        component for statistic in question.statistics for component in components_of(statistic, used, unit, measured)
    ]
    return result


def period_of(span: Interval | None, rows: list[Json]) -> Json:
    """The time that was asked about, or from the first to the last measurement."""
    if span is not None:
        ends = {"start": span.start_us, "end": span.end_us}
    else:
        dated = [row for row in rows if "s" in row]
        ends = {"start": min(r["s"] for r in dated), "end": max(r["e"] for r in dated)} if dated else {}
    return {name: instant_of(us) for name, us in ends.items() if OPEN_START_US < us < OPEN_END_US}


def components_of(
    statistic: str, used: list[Measurement], unit: Json, measured: list[Measurement | None]
) -> list[Json]:
    values = [m.value for m in used]
    if statistic in COUNTS:
        return [component(statistic, Fraction(len(measured if statistic == "total-count" else used)), {})]
    if statistic == REGRESSION:
        line = regression(values, [m.moment_us for m in used]) if used else None
        per_day = {"unit": f"{unit.get('unit', '1')}/d"}
        if unit.get("system") == UCUM:
            per_day |= {"system": UCUM, "code": f"{unit['code']}/d"}
        return [
            component(statistic, line.gradient if line else None, per_day, "gradient, per day"),
            component(statistic, line.intercept if line else None, unit, "intercept, at the first measurement"),
        ]
    of_unit = {} if statistic in PURE else unit
    if statistic == SQUARED and unit:
        of_unit = {"unit": f"({unit['unit']})2"}
        if unit.get("system") == UCUM:
            of_unit |= {"system": UCUM, "code": f"({unit['code']}).({unit['code']})"}
    return [component(statistic, FIGURES[statistic](values) if values else None, of_unit)]


def component(statistic: str, value: Fraction | None, unit: Json, text: str | None = None) -> Json:
    known = terminology().code_system(STATISTICS)
    coding = {"system": STATISTICS, "code": statistic}
    if known is not None and statistic in known.displays:
        coding["display"] = known.displays[statistic]
    code = {"coding": [coding], **({"text": text} if text else {})}
    if value is None:
        reason = {"system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "not-applicable"}
        return {"code": code, "dataAbsentReason": {"coding": [reason]}}
    return {"code": code, "valueQuantity": {"value": decimal_of(value), **unit}}


# --- the measurements -----------------------------------------------------------------------------------------------


def has(observation: Json, code: Code) -> bool:
    return any(is_of(node, code) for node in (observation, *observation.get("component", ())))


def is_of(node: Json, code: Code) -> bool:
    system, name = code
    return any(
        str(c.get("code", "")).casefold() == name.casefold() and (system is None or c.get("system", "") == system)
        for c in node.get("code", {}).get("coding", ())
    )


def measurements_of(observation: Json, code: Code, moment_us: int) -> list[Measurement | None]:
    """The values that an Observation has of a code, itself or in components; None for one that is no exact number."""
    nodes = [node for node in (observation, *observation.get("component", ())) if is_of(node, code)]
    valued = [node for node in nodes if any(name.startswith("value") for name in node)]
    return [measurement_of(node, moment_us) for node in (valued or nodes[:1])]


def measurement_of(node: Json, moment_us: int) -> Measurement | None:
    if type(node.get("valueInteger")) is int:
        return Measurement(Fraction(node["valueInteger"]), None, None, moment_us)
    quantity = node.get("valueQuantity", {})
    value = quantity.get("value")
    if value is None or "comparator" in quantity:
        return None
    text, unit = quantity.get("unit"), quantity.get("code")
    system = quantity.get("system") if unit else None
    named = unit or text
    return Measurement(Fraction(value), (system, named) if named else None, text, moment_us)


def comparable(measured: list[Measurement]) -> tuple[list[Measurement], Json]:
    """Those that can be compared, in the unit that most have (of several, the one of the newest), and that unit."""
    if not measured:
        return [], {}
    frequent = Counter(m.unit for m in measured)
    unit = max(frequent, key=lambda u: (frequent[u], max(m.moment_us for m in measured if m.unit == u)))
    to = scale_of(unit)
    used = []
    for m in measured:
        if m.unit == unit:
            used.append(m)
        elif to is not None and (own := scale_of(m.unit)) is not None and own[2] == to[2]:
            value = (m.value * own[0] + own[1] - to[1]) / to[0]
            used.append(Measurement(value, unit, m.text, m.moment_us))
    return used, unit_json(unit, next(m.text for m in reversed(measured) if m.unit == unit))


def scale_of(unit: tuple[str | None, str] | None) -> tuple[Fraction, Fraction, str] | None:
    """Factor and offset to canonical units, and those; None where the unit is none of UCUM.

    A unit without a system is taken as UCUM where it is one: `kg` is seldom anything else.
    """
    if unit is None or unit[0] not in (UCUM, None):
        return None
    one, zero = canonical(Decimal(1), unit[1]), canonical(Decimal(0), unit[1])
    if one is None or zero is None:
        return None
    return Fraction(one[0]) - Fraction(zero[0]), Fraction(zero[0]), one[1]


def unit_json(unit: tuple[str | None, str] | None, text: str | None) -> Json:
    if unit is None:
        return {}
    system, code = unit
    return {"unit": text or code, **({"system": system, "code": code} if system else {})}
