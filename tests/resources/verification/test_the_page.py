"""docs/operations-verification.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.states import StateMachine
from resources.verification.states import APPLICATION, CLAIM

PAGE = (Path(__file__).parents[3] / "docs" / "operations-verification.md").read_text("utf-8")


@pytest.mark.parametrize("machine", [CLAIM, APPLICATION], ids=["claim", "application"])
def test_the_machines_are_drawn_as_they_are(machine: StateMachine) -> None:
    assert f"```mermaid\n{machine.mermaid()}\n```" in PAGE
