"""Every pair of states of every machine, by plain writes and by operations."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.model.access import NOBODY
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.rules import Write
from resources.communication.rules import communication_rule
from resources.communication.states import MESSAGE, THREAD
from resources.states import MISTAKE, StateMachine
from resources.ticket.states import PAGE_STATES, TICKET_STATES, task_rule
from resources.ticket.words import PAGE, TASKS, TICKET, coded

Json = dict[str, Any]

TAGS = [{"system": "urn:healthsphere:thread", "code": "header"}]
HEADER = {"resourceType": "Communication", "meta": {"tag": TAGS}, "recipient": [{"reference": "Patient/1"}]}
SAID = {**HEADER, "partOf": [{"reference": "Communication/1"}], "payload": [{"contentString": "x"}]}
MACHINES: list[tuple[StateMachine, Json, Any]] = [
    (THREAD, HEADER, communication_rule),
    (MESSAGE, SAID, communication_rule),
    (TICKET_STATES, {"resourceType": "Task", "code": coded(TASKS, TICKET)}, task_rule),
    (PAGE_STATES, {"resourceType": "Task", "code": coded(TASKS, PAGE)}, task_rule),
]


def states_of(machine: StateMachine) -> list[str]:
    return sorted({*machine.next, *(state for follows in machine.next.values() for state in follows), MISTAKE})


EDGES = [
    pytest.param(machine, content, rule, old, new, id=f"{name}: {old} to {new}")
    for name, (machine, content, rule) in zip(("thread", "message", "ticket", "page"), MACHINES, strict=True)
    for old in states_of(machine)
    for new in states_of(machine)
    if old != new
]


@pytest.mark.parametrize(("machine", "content", "rule", "old", "new"), EDGES)
def test_a_state_follows_where_the_machine_says_so_and_by_what_it_says(
    machine: StateMachine, content: Json, rule: Any, old: str, new: str
) -> None:
    def written(by: str) -> Json | None:
        before, after = {**content, "status": old}, {**content, "status": new}
        return rule(Write(content["resourceType"], "1", before, after, NOBODY, by))  # type: ignore[no-any-return]

    operations = machine.by.get((old, new), ())
    if new not in machine.following(old):
        with pytest.raises(UnprocessableError) as refused:
            written(operations[0] if operations else "")
        told = refused.value.issues[0].diagnostics
        assert all(repr(state) in told for state in machine.following(old))
        return
    if operations:
        with pytest.raises(UnprocessableError):
            written("")
    for by in operations or ("",):
        result = written(by)
        assert result is not None
        assert result["status"] == new


def test_other_communications_and_tasks_are_none_of_ours() -> None:
    for kind, rule in (("Communication", communication_rule), ("Task", task_rule)):
        old = {"resourceType": kind, "status": "completed", "payload": [{"contentString": "x"}]}
        new = {**old, "status": "in-progress"}
        assert rule(Write(kind, "1", old, new, NOBODY)) == new
