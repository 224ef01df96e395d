"""`CarePlan/[id]/$progress`: what of a plan was done, by windows: planned three times a week, done twice.

Done is what Observations and Procedures of the patient say that name the activity by its code; one that says on what it
is based counts for that alone. A window that has not ended yet is shown, and not judged. Three database commands, and
one for each ServiceRequest that the plan refers to.

Spec: https://hl7.org/fhir/R4/careplan.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of, wrong
from fhir_server.interactions.stats import tokens_of
from fhir_server.model import codec
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import UnprocessableError
from fhir_server.model.exchange import Answer, Request
from resources.healthlog.points import Reading, readings, records
from resources.monitoring.planned import Activity, activity_of
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
    since_us = int(min(one.since for one in activities).timestamp() * 1e6) - DAY_US
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
    moments = sorted(one.moment_us for one in done if counts(one.observation, activity))
    times = activity.rhythm.times
    rows: list[tuple[datetime, datetime, int]] = []
    for start, end in activity.windows(now, zone):
        first, last = (int(moment.timestamp() * 1e6) for moment in (start, end))
        rows.append((start, end, sum(first <= moment < last for moment in moments)))
    ended = [count for _, end, count in rows if end <= now]
    parts: list[Json] = [
        {"name": "code", "valueCodeableConcept": activity.concept},
        {"name": "planned", "valueInteger": times * len(ended)},
        {"name": "done", "valueInteger": sum(ended)},
    ]
    if ended:
        kept = sum(min(count, times) for count in ended)
        parts.append({"name": "percent", "valueInteger": round(100 * kept / (times * len(ended)))})
        streak = next((n for n, count in enumerate(reversed(ended)) if count < times), len(ended))
        parts.append({"name": "streak", "valueInteger": streak})
    parts += [window(start, end, times, count, now) for start, end, count in rows[-shown:]]
    return {"name": "activity", "part": parts}


def window(start: datetime, end: datetime, planned: int, done: int, now: datetime) -> Json:
    return {
        "name": "window",
        "part": [
            {"name": "start", "valueInstant": instant_of(int(start.timestamp() * 1e6))},
            {"name": "end", "valueInstant": instant_of(int(end.timestamp() * 1e6))},
            {"name": "planned", "valueInteger": planned},
            {"name": "done", "valueInteger": done},
            {"name": "ended", "valueBoolean": end <= now},
        ],
    }
