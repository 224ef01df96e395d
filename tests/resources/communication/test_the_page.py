"""docs/operations-chat.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resources.communication.states import MESSAGE, THREAD
from resources.notification.words import KINDS
from resources.states import StateMachine
from resources.ticket.hours import Hours
from resources.ticket.states import PAGE_STATES, TICKET_STATES

PAGE = (Path(__file__).parents[3] / "docs" / "operations-chat.md").read_text("utf-8")


@pytest.mark.parametrize(
    "machine",
    [THREAD, MESSAGE, TICKET_STATES, PAGE_STATES],
    ids=["thread", "message", "ticket", "page"],
)
def test_the_machines_are_drawn_as_they_are(machine: StateMachine) -> None:
    assert f"```mermaid\n{machine.mermaid()}\n```" in PAGE


def test_every_kind_of_notification_is_told() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| [^|]+ \| [^|]+ \|$", PAGE.partition("What is told:\n")[2], re.MULTILINE)
    first = rows[: next(n for n, row in enumerate(rows) if "HS-" in row)]
    assert sorted(re.findall(r"`([a-z-]+)`", " ".join(first))) == sorted(KINDS)


def test_the_minutes_of_each_priority_are_told() -> None:
    assert ", ".join(f"{priority} {minutes}" for priority, minutes in Hours().minutes) in PAGE
