"""The diagrams of states in the documentation are those of the machines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resources.document.states import DOC_STATUS, STATUS
from resources.erasure.words import STATES
from resources.states import StateMachine

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize(
    ("page", "name", "machine"),
    [
        ("operations-documents.md", "DocumentReference.status", STATUS),
        ("operations-documents.md", "DocumentReference.docStatus", DOC_STATUS),
        ("operations-erasure.md", "Task (erase-record)", STATES),
    ],
)
def test_the_drawn_machine_is_the_one_that_holds(page: str, name: str, machine: StateMachine) -> None:
    text = (DOCS / page).read_text("utf-8")
    drawn = re.search(rf"<!-- states: {re.escape(name)} -->\n\n```mermaid\n(.*?)\n```", text, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == machine.mermaid()
