"""Conversations, joined."""

from __future__ import annotations

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Handler, Operation
from resources.communication.companion import hold_together
from resources.communication.messages import edit, retract
from resources.communication.moderation import hide, report, unhide
from resources.communication.reading import mark_read, read_state, unread
from resources.communication.rules import communication_rule
from resources.communication.threads import close_thread, open_thread, participants, reopen_thread, send
from resources.part import Part

TYPES = ("Communication",)


def of_instance(code: str, handle: Handler, *, affects_state: bool = True) -> Operation:
    """An operation of one Communication."""
    definition = f"{OWN}:communication-{code}"
    return Operation(code, definition, handle, types=TYPES, instance=True, affects_state=affects_state, elevated=True)


PART = Part(
    "communication",
    operations=(
        Operation(
            "open-thread",
            f"{OWN}:communication-open-thread",
            open_thread,
            types=TYPES,
            type=True,
            affects_state=True,
            elevated=True,
        ),
        Operation("unread", f"{OWN}:communication-unread", unread, types=TYPES, type=True, elevated=True),
        of_instance("send", send),
        of_instance("close-thread", close_thread),
        of_instance("reopen-thread", reopen_thread),
        of_instance("participants", participants),
        of_instance("edit", edit),
        of_instance("retract", retract),
        of_instance("mark-read", mark_read),
        of_instance("read-state", read_state, affects_state=False),
        of_instance("report", report),
        of_instance("hide", hide),
        of_instance("unhide", unhide),
    ),
    rules=(("Communication", communication_rule),),
    companions=(("Communication", hold_together),),
)
