"""docs/operations-chat.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.communication.states import MESSAGE, THREAD
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


def test_the_minutes_of_each_priority_are_told() -> None:
    assert ", ".join(f"{priority} {minutes}" for priority, minutes in Hours().minutes) in PAGE
