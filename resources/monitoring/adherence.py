"""`CarePlan/[id]/$progress`: what of a plan was done, by windows: planned three times a week, done twice.

Done is what Observations and Procedures of the patient say that name the activity by its code; one that says on what it
is based counts for that alone. Where the plan says how much, what they measured in that unit is added up, too. A window
that has not ended yet is shown, and not judged. Three database commands, and one for each ServiceRequest that the plan
refers to.

Spec: https://hl7.org/fhir/R4/careplan.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from fractions import Fraction
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.interactions.stats import tokens_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.healthlog.measures import UCUM
from resources.healthlog.points import TYPE as OBSERVATION
from resources.healthlog.points import Point, Reading, points_of, readings, records
from resources.monitoring.planned import Activity, Amount, activity_of
from resources.monitoring.progress import quantity
from resources.time_zones import zone_named

Json = dict[str, Any]

#: Windows that are told of each activity, the newest, where nothing else is asked for; and at most.
WINDOWS, MOST_WINDOWS = 12, 400


async def adherence(context: Context, request: Request) -> Answer:
    """Count what was done of each activity that has a code and a timing.

    Raises:
        NotFoundError: 404; there is no such plan.
        UnprocessableError: 422; it has no activity that can be counted.
    """
    inputs = Inputs.of(request)
    inputs.only("windows", "timezone")
    shown = inputs.whole("windows", least=1) or WINDOWS
    if shown > MOST_WINDOWS:
        raise wrong("windows", shown, f"at most {MOST_WINDOWS}")
    name = inputs.text("timezone")
    zone: tzinfo | None = zone_named(name) if name is not None else UTC
    if zone is None:
        raise wrong("timezone", name, "the name of a time zone, such as Europe/Berlin,")
    _, plan_id, _ = request.path
    plan = codec.decode((await context.repository.read("CarePlan", plan_id)).body or b"")
    subject = plan.get("subject", {}).get("reference")
    activities = await activities_of(context, plan)
    if not activities or not subject:
        raise UnprocessableError(
            f"CarePlan/{plan_id} has no activity with a code and a timing.",
            code="business-rule",
            key="HS-MONITOR-PLAN",
            expression="CarePlan.activity",
        )
    now = datetime.fromtimestamp(context.timers.now() / 1e6, UTC)
    codes = sorted({code for one in activities for code in one.codes}, key=str)
    since_us = us_of(min(one.since for one in activities)) - DAY_US
    done: list[Reading] = []
    if context.caller.policy.may("Observation", "s"):
        done += await readings(context.searcher, subject, codes, since_us, None)
    if context.caller.policy.may("Procedure", "s"):
        pairs = [("subject", subject), ("code", tokens_of(codes)), ("status", "completed")]
        done += await records(context.searcher, "Procedure", pairs, since_us, None)
    return answered(parameters_of(*(told(one, done, now, zone, shown) for one in activities)))


#: The first window may begin so much before the plan, where the wall clock is behind.
DAY_US = 86_400_000_000


async def activities_of(context: Context, plan: Json) -> list[Activity]:
    """The activities that can be counted, those of ServiceRequests that the caller sees among them."""
    found: list[Activity | None] = []
    for row in plan.get("activity", ()):
        reference = str(row.get("reference", {}).get("reference", ""))
        if reference.startswith("ServiceRequest/"):
            version = await context.repository.current("ServiceRequest", reference.partition("/")[2])
            if version is not None and version.body is not None:
                found.append(activity_of(plan, {}, codec.decode(version.body)))
        elif "detail" in row:
            found.append(activity_of(plan, row["detail"], None))
    return [one for one in found if one is not None]


@dataclass(frozen=True, slots=True)
class Window:
    """A window, how often something was done in it, and how much, in the unit of what is planned."""

    start: datetime
    end: datetime
    done: int
    amount: Fraction


def counts(record: Json, activity: Activity) -> bool:
    """Whether a record names an activity."""
    concepts = [record.get("code", {}), *(part.get("code", {}) for part in record.get("component", ()))]
    codings = [coding for concept in concepts for coding in concept.get("coding", ())]
    if not any(c.get("code") == code and c.get("system") == system for c in codings for system, code in activity.codes):
        return False
    based = {str(reference.get("reference", "")) for reference in record.get("basedOn", ())} - {""}
    return not based or bool(based & activity.names)


def told(activity: Activity, done: Sequence[Reading], now: datetime, zone: tzinfo, shown: int) -> Json:
    """An activity as a parameter of the answer."""
    mine = [one for one in done if counts(one.observation, activity)]
    points = amounts_of(mine, activity)
    rows = [window_of(start, end, mine, points) for start, end in activity.windows(now, zone)]
    ended = [row for row in rows if row.end <= now]
    times = activity.rhythm.times
    parts: list[Json] = [
        {"name": "code", "valueCodeableConcept": activity.concept},
        {"name": "planned", "valueInteger": times * len(ended)},
        {"name": "done", "valueInteger": sum(row.done for row in ended)},
    ]
    if ended:
        kept = sum(min(row.done, times) for row in ended)
        parts.append({"name": "percent", "valueInteger": round(100 * kept / (times * len(ended)))})
        streak = next((n for n, row in enumerate(reversed(ended)) if row.done < times), len(ended))
        parts.append({"name": "streak", "valueInteger": streak})
    if activity.amount is not None:
        planned = [activity.planned(row.start, row.end) for row in ended]
        parts += amounts(activity.amount, sum(planned, Fraction(0)), sum((row.amount for row in ended), Fraction(0)))
        if planned:
            reached = sum((min(row.amount, most) for row, most in zip(ended, planned, strict=True)), Fraction(0))
            parts.append({"name": "amountPercent", "valueInteger": round(100 * reached / sum(planned))})
    parts += [window(row, activity, now) for row in rows[-shown:]]
    return {"name": "activity", "part": parts}


def window_of(start: datetime, end: datetime, done: Sequence[Reading], points: Sequence[Point]) -> Window:
    """How often, and how much, was done from one moment until before another."""
    first, last = us_of(start), us_of(end)
    times = sum(first <= one.moment_us < last for one in done)
    return Window(start, end, times, sum((p.value for p in points if first <= p.moment_us < last), Fraction(0)))


def amounts_of(done: Sequence[Reading], activity: Activity) -> list[Point]:
    """How much each of the Observations says was done, in the unit of what is planned."""
    if activity.amount is None:
        return []
    found: list[Point] = []
    for one in done:
        if one.observation["resourceType"] == OBSERVATION:
            named = (points_of([one], code, activity.amount.unit, UCUM) for code in activity.codes)
            found += next((points for points in named if points), [])  # by one of its codes: not once by each
    return found


def us_of(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6)


def amounts(amount: Amount, planned: Fraction, done: Fraction) -> list[Json]:
    return [
        {"name": "amountPlanned", "valueQuantity": quantity(planned, amount.unit)},
        {"name": "amountDone", "valueQuantity": quantity(done, amount.unit)},
    ]


def window(row: Window, activity: Activity, now: datetime) -> Json:
    """A window as a part of the answer."""
    parts: list[Json] = [
        {"name": "start", "valueInstant": instant_of(us_of(row.start))},
        {"name": "end", "valueInstant": instant_of(us_of(row.end))},
        {"name": "planned", "valueInteger": activity.rhythm.times},
        {"name": "done", "valueInteger": row.done},
    ]
    if activity.amount is not None:
        parts += amounts(activity.amount, activity.planned(row.start, row.end), row.amount)
    return {"name": "window", "part": [*parts, {"name": "ended", "valueBoolean": row.end <= now}]}
