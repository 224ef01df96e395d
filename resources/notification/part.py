"""Notifications, joined."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Handler, Operation
from fhir_server.jobs.follower import Follower
from fhir_server.model.errors import ForbiddenError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write
from resources.communication.words import PERSONS
from resources.notification.conversations import tell_of_messages
from resources.notification.delivering import deliver
from resources.notification.forgetting import end_pushes
from resources.notification.operations import deliveries, notification_preferences
from resources.notification.outbox import TIMER
from resources.notification.preferences import CODE
from resources.part import Part


def preferences_rule(write: Write) -> Json | None:
    """How somebody is told of things is theirs to say: not by a plain write of somebody who may write Basics.

    Raises:
        ForbiddenError: 403; a person writes preferences otherwise than by $notification-preferences.
    """
    ours = [one for one in (write.old, write.new) if one is not None and CODE in one.get("code", {}).get("coding", [])]
    if ours and write.caller.identity.role in PERSONS and write.by != "notification-preferences":
        raise ForbiddenError(
            "How somebody is told of things they say themselves, by $notification-preferences.",
            key="HS-NOTIFY-PERSON",
            expression="Basic",
        )
    return write.new


def of_system(code: str, handle: Handler) -> Operation:
    return Operation(code, f"{OWN}:{code}", handle, system=True, affects_state=code != "deliveries", elevated=True)


def join(context: Context) -> None:
    context.timers.register(TIMER, partial(deliver, context))
    context.feed.register(Follower("conversations", frozenset({"Communication"}), partial(tell_of_messages, context)))


PART = Part(
    "notification",
    operations=(
        of_system("notification-preferences", notification_preferences),
        of_system("deliveries", deliveries),
    ),
    rules=(("Basic", preferences_rule),),
    join=join,
    account_ended=end_pushes,
)
