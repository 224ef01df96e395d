"""`CarePlan/[id]/$back-test`: what a threshold would have done to the patient's own past.

It judges with the very engine that judges what is to come, each measurement taken as if it had come when it was made.
That it was tried is kept in the plan, for this version of its rule alone.
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.figures import decimal_of
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.storage.document import Version
from resources.healthlog.measures import UCUM
from resources.healthlog.points import points_of, readings
from resources.monitoring.engine import Episode, episodes
from resources.monitoring.plan import BACK_TEST, TESTED, with_tested
from resources.monitoring.threshold import Threshold, digest_of, kind_of, threshold_of
from resources.monitoring.words import reason_of

Json = dict[str, Any]

DAY_US = 86_400_000_000
DAYS = 90
MOST_DAYS = 730
MOST_SHOWN = 200


async def back_test(context: Context, request: Request) -> Answer:
    """Try a threshold; three database commands, and the write.

    Raises:
        NotFoundError: 404; there is no such plan.
        UnprocessableError: 422; it is no threshold, or there are too many measurements.
    """
    _, plan_id, _ = request.path
    inputs = Inputs.of(request)
    inputs.only("days")
    days = inputs.whole("days", least=1) or DAYS
    if days > MOST_DAYS:
        raise InvalidError(
            f"`days` is {days}; {MOST_DAYS} are the most.",
            code="value",
            expression="Parameters.parameter.where(name='days')",
            key="HS-OP-PARAMETER",
        )
    version = await context.repository.read("CarePlan", plan_id)
    plan = codec.decode(version.body or b"")
    if kind_of(plan) is None:
        raise UnprocessableError(
            f"CarePlan/{plan_id} is no threshold.", code="business-rule", key="HS-MONITOR-NONE", expression="CarePlan"
        )
    rule = threshold_of(plan)
    now_us = context.timers.now_us
    from_us = now_us - days * DAY_US
    found = await readings(context.searcher, rule.subject, [rule.code], from_us - rule.criteria.span_us, now_us)
    points = points_of(found, rule.code, rule.unit, UCUM)
    would = episodes(rule.criteria, points, from_us=from_us, on_time=True)
    judged = sum(point.moment_us >= from_us for point in points)
    words = said(len(would), days, judged)
    tested = {
        "url": TESTED,
        "extension": [
            {"url": "rule", "valueString": digest_of(plan)},
            {"url": "at", "valueInstant": instant_of(now_us)},
            {"url": "days", "valueInteger": days},
            {"url": "times", "valueInteger": len(would)},
            {"url": "measurements", "valueInteger": judged},
        ],
    }

    async def find() -> Version:
        return await context.repository.read("CarePlan", plan_id)

    await context.repository.amend(
        find, lambda current: with_tested(current, tested), if_match=version.version, by=BACK_TEST
    )
    return answered(
        parameters_of(
            {"name": "summary", "valueString": words},
            {"name": "times", "valueInteger": len(would)},
            {"name": "days", "valueInteger": days},
            {"name": "measurements", "valueInteger": judged},
            *(told(rule, episode) for episode in would[-MOST_SHOWN:]),
        )
    )


def said(times: int, days: int, judged: int) -> str:
    often = {0: "never", 1: "once", 2: "twice"}.get(times, f"{times} times")
    span = "the last day" if days == 1 else f"the last {days} days"
    return f"It would have fired {often} in {span}, in which there are {judged:,} measurements."


def told(rule: Threshold, episode: Episode) -> Json:
    parts: list[Json] = [
        {"name": "start", "valueInstant": instant_of(episode.start.moment_us)},
        {"name": "value", "valueQuantity": {"value": decimal_of(episode.start.value), "unit": rule.unit}},
        {"name": "reason", "valueString": reason_of(rule, episode)},
        {"name": "observation", "valueReference": {"reference": f"Observation/{episode.start.id}"}},
    ]
    if episode.end is not None:
        parts.append({"name": "end", "valueInstant": instant_of(episode.end.moment_us)})
    return {"name": "episode", "part": parts}
