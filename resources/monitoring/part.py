"""What monitoring adds to the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from fhir_server.jobs.follower import Follower
from resources.monitoring.adherence import adherence
from resources.monitoring.back_test import back_test
from resources.monitoring.escalation import Escalation
from resources.monitoring.plan import plan_rule
from resources.monitoring.progress import progress
from resources.monitoring.series import series
from resources.monitoring.watch import ESCALATE, IN_FORCE, TELL, Watch
from resources.part import Part


def join(context: Context) -> None:
    """Follow measurements and thresholds, and do what is due of alerts."""
    escalation = Escalation(context)
    context.feed.register(Follower("monitoring", frozenset({"Observation", "CarePlan"}), Watch(context).handle))
    context.timers.register(TELL, escalation.tell)
    context.timers.register(ESCALATE, escalation.escalate)


@asynccontextmanager
async def during(context: Context) -> AsyncIterator[None]:
    """The rows by which thresholds are found have their index."""
    await context.repository.store.rows(IN_FORCE).index("whose")
    yield


PART = Part(
    "monitoring",
    operations=(
        Operation("series", f"{OWN}:series", series, types=("Observation",), type=True),
        Operation("back-test", f"{OWN}:back-test", back_test, types=("CarePlan",), instance=True, affects_state=True),
        Operation("progress", f"{OWN}:progress", progress, types=("Goal",), instance=True),
        Operation("progress", f"{OWN}:plan-progress", adherence, types=("CarePlan",), instance=True),
    ),
    rules=(("CarePlan", plan_rule),),
    join=join,
    during=during,
)
