"""State machines, and how rules are held for every way to write."""

from __future__ import annotations

import pytest

from fhir_server.model.access import NOBODY
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.rules import Write
from resources.states import StateMachine

LAMP = StateMachine(
    "Device",
    {"inactive": ("active",), "active": ("inactive", "on-fire"), "on-fire": ()},
    {("active", "on-fire"): ("burn",)},
)


def write(old: str | None, new: str, by: str = "") -> Write:
    before = None if old is None else {"resourceType": "Device", "status": old}
    return Write("Device", "1", before, {"resourceType": "Device", "status": new}, NOBODY, by)


@pytest.mark.parametrize("state", ["inactive", "active", "on-fire", "entered-in-error"])
def test_a_record_may_begin_in_any_state_and_stay_in_it(state: str) -> None:
    for one in (write(None, state), write(state, state)):
        assert LAMP.rule(one) == one.new


def test_a_state_that_does_not_follow_is_refused_with_those_that_do() -> None:
    with pytest.raises(UnprocessableError) as refused:
        LAMP.rule(write("inactive", "on-fire"))
    [issue] = refused.value.issues
    assert (issue.code, issue.key, issue.expression) == ("business-rule", "HS-STATE", "Device.status")
    assert "can become 'active', 'entered-in-error'" in issue.diagnostics


def test_nothing_follows_a_mistake() -> None:
    with pytest.raises(UnprocessableError, match="nothing follows"):
        LAMP.rule(write("entered-in-error", "active"))


def test_what_an_operation_does_cannot_be_written_plainly() -> None:
    with pytest.raises(UnprocessableError, match=r"by \$burn alone"):
        LAMP.rule(write("active", "on-fire"))
    assert LAMP.rule(write("active", "on-fire", by="burn")) is not None


def test_the_diagram_shows_each_edge_with_its_operation() -> None:
    assert LAMP.mermaid().splitlines() == [
        "stateDiagram-v2",
        "    inactive --> active",
        "    active --> inactive",
        "    active --> on_fire: $burn",
        '    state "on-fire" as on_fire',
    ]
