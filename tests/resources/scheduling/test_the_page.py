"""docs/operations-scheduling.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.scheduling import extensions
from resources.scheduling.rules_of_schedule import PARTS
from resources.scheduling.states import APPOINTMENT, RESPONSE, SLOT
from resources.states import StateMachine

PAGE = (Path(__file__).parents[3] / "docs" / "operations-scheduling.md").read_text("utf-8")


@pytest.mark.parametrize("machine", [APPOINTMENT, SLOT, RESPONSE], ids=lambda machine: machine.type)
def test_the_machines_are_drawn_as_they_are(machine: StateMachine) -> None:
    assert f"```mermaid\n{machine.mermaid()}\n```" in PAGE


def test_each_part_of_the_rules_is_told() -> None:
    table = PAGE.partition("| part | value | meaning |")[2].partition("\n\n")[0]
    named = {
        word for row in table.splitlines()[2:] for word in row.split("|")[1].replace("`", "").replace(",", " ").split()
    }
    assert named == PARTS


def test_each_extension_is_told() -> None:
    ours = {url for url in vars(extensions).values() if str(url).startswith(f"{extensions.OWN}:")}
    assert {url for url in ours if f"| `{url.rpartition(':')[2]}` |" not in PAGE} == set()
