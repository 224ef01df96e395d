"""Tickets, joined."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Handler, Operation
from fhir_server.jobs.follower import Follower
from resources.part import Part
from resources.ticket import alarms, clock
from resources.ticket.asking import open_ticket, red_flag_questions
from resources.ticket.figures import response_times
from resources.ticket.safety import look_after
from resources.ticket.states import task_rule
from resources.ticket.working import acknowledge, assign, claim, reopen, reroute, resolve

TYPES = ("Task",)


def of_instance(code: str, handle: Handler) -> Operation:
    """An operation of one ticket."""
    return Operation(
        code, f"{OWN}:ticket-{code}", handle, types=TYPES, instance=True, affects_state=True, elevated=True
    )


def join(context: Context) -> None:
    context.timers.register(clock.TIMER, partial(clock.look, context))
    context.timers.register(alarms.TIMER, partial(alarms.ring, context))
    context.feed.register(Follower("safety-net", frozenset({"Communication"}), partial(look_after, context)))


PART = Part(
    "ticket",
    operations=(
        Operation(
            "open-ticket",
            f"{OWN}:ticket-open-ticket",
            open_ticket,
            types=TYPES,
            type=True,
            affects_state=True,
            elevated=True,
        ),
        Operation(
            "response-times", f"{OWN}:ticket-response-times", response_times, types=TYPES, type=True, elevated=True
        ),
        Operation("red-flag-questions", f"{OWN}:ticket-red-flag-questions", red_flag_questions, types=TYPES, type=True),
        of_instance("claim", claim),
        of_instance("assign", assign),
        of_instance("reroute", reroute),
        of_instance("resolve", resolve),
        of_instance("reopen", reopen),
        of_instance("acknowledge", acknowledge),
    ),
    rules=(("Task", task_rule),),
    join=join,
)
