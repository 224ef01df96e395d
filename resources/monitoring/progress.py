"""`Goal/[id]/$progress`: how far somebody is on the way to what they want to reach.

Of each target of the goal: the newest value, how much of the way is behind it, where it is going, and how many
measurements in a row have met it. Two database commands.

Spec: https://hl7.org/fhir/R4/goal-definitions.html#Goal.target
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.figures import decimal_of, regression
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.interactions.stats import Code, scale_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.dates import interval_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.healthlog.measures import UCUM
from resources.healthlog.points import Point, points_of, readings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be reached: a value between two, or beyond one. At least one of them is there."""

    low: Fraction | None
    high: Fraction | None

    def met(self, value: Fraction) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def share(self, first: Fraction, last: Fraction) -> Fraction:
        """Which part of the way from the first value is behind the last one: 0 to 1."""
        if self.met(last):
            return Fraction(1)
        goal = self.low if self.low is not None and last < self.low else self.high
        assert goal is not None
        if self.met(first) or first == goal or (first < goal) != (last < goal):
            return Fraction(0)  # it has gone the wrong way, or over
        return max(Fraction(0), (last - first) / (goal - first))

    def streak(self, points: Sequence[Point]) -> int:
        """How many of the newest have met it in a row."""
        count = 0
        for point in reversed(points):
            if not self.met(point.value):
                break
            count += 1
        return count


async def progress(context: Context, request: Request) -> Answer:
    """Reckon with each target that can be measured.

    Raises:
        NotFoundError: 404; there is no such goal.
        UnprocessableError: 422; it has no target that can be measured.
    """
    _, goal_id, _ = request.path
    Inputs.of(request).only()
    goal = codec.decode((await context.repository.read("Goal", goal_id)).body or b"")
    targets = [known for target in goal.get("target", ()) if (known := measured(target)) is not None]
    subject = goal.get("subject", {}).get("reference")
    if not targets or not subject:
        raise UnprocessableError(
            f"Goal/{goal_id} has no target with a measure and a quantity or range in a UCUM unit.",
            code="business-rule",
            key="HS-MONITOR-GOAL",
            expression="Goal.target",
        )
    start = goal.get("startDate")
    start_us = interval_of(start).start_us if start else None
    found = await readings(context.searcher, subject, [code for code, *_ in targets], start_us, context.timers.now_us)
    return answered(
        parameters_of(*(told(code, unit, aim, points_of(found, code, unit, UCUM)) for code, unit, aim in targets))
    )


def measured(target: Mapping[str, Any]) -> tuple[Code, str, Aim] | None:
    """What a target measures, in which unit, and what is to be reached; None where that cannot be reckoned with."""
    codings = target.get("measure", {}).get("coding", ())
    exact, span = target.get("detailQuantity"), target.get("detailRange") or {}
    low, high = span.get("low"), span.get("high")
    if exact is not None:
        comparator = exact.get("comparator", "")
        low, high = (None if "<" in comparator else exact), (None if ">" in comparator else exact)
    ends = [end for end in (low, high) if end is not None]
    if not codings or not ends or any(end.get("system") != UCUM or end.get("value") is None for end in ends):
        return None
    unit = ends[0].get("code")
    if any(end.get("code") != unit for end in ends) or scale_of((UCUM, unit or "")) is None:
        return None
    values = [Fraction(Decimal(end["value"])) if end is not None else None for end in (low, high)]
    return (codings[0].get("system"), codings[0].get("code", "")), unit, Aim(*values)


def told(code: Code, unit: str, aim: Aim, points: Sequence[Point]) -> Json:
    """A target as a parameter of the answer; without measurements it has only its code."""
    system, name = code
    parts: list[Json] = [
        {"name": "code", "valueCoding": {**({"system": system} if system else {}), "code": name}},
        {"name": "count", "valueInteger": len(points)},
    ]
    if points:
        first, last = points[0], points[-1]
        percent = round(aim.share(first.value, last.value) * 100)
        parts += [
            {"name": "last", "valueQuantity": quantity(last.value, unit)},
            {"name": "time", "valueInstant": instant_of(last.moment_us)},
            {"name": "met", "valueBoolean": aim.met(last.value)},
            {"name": "percent", "valueInteger": percent},
            {"name": "streak", "valueInteger": aim.streak(points)},
        ]
        line = regression([point.value for point in points], [point.moment_us for point in points])
        if line is not None:
            parts.append({"name": "trend", "valueQuantity": quantity(line.gradient, f"{unit}/d")})
    return {"name": "target", "part": parts}


def quantity(value: Fraction, unit: str) -> Json:
    return {"value": decimal_of(value), "unit": unit, "system": UCUM, "code": unit}
