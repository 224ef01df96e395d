"""Every edge of every machine, those that are forbidden too."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.model.access import NOBODY
from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.rules import Write
from resources.dispensing import states as work
from resources.dispensing.codes import FULFILMENT, STATES, SYSTEM, WITHDRAWAL
from resources.dispensing.rules import task_rule
from resources.prescription.states import PRESCRIPTION, RECORD, SIGNED
from resources.states import MISTAKE, StateMachine
from tests.resources.prescription.conftest import Clinic, key_of

MACHINES = {
    "prescription": PRESCRIPTION,
    "signed": SIGNED,
    "record": RECORD,
    "work": work.FULFILMENT,
    "withdrawal": work.ASKING,
    "dispense": work.DISPENSE,
}
EDGES = [
    (name, before, after)
    for name, machine in MACHINES.items()
    for before, after in itertools.permutations(dict.fromkeys([*machine.next, MISTAKE]), 2)
]


def judged(machine: StateMachine, before: str, after: str, by: str) -> str:
    write = Write(machine.type, "1", {machine.element: before}, {machine.element: after}, NOBODY, by)
    try:
        machine.rule(write)
    except UnprocessableError as refused:
        return str(refused.issues[0].key)
    return ""


@pytest.mark.parametrize(("name", "before", "after"), EDGES)
def test_an_edge_is_taken_by_its_operations_and_no_other_way(name: str, before: str, after: str) -> None:
    machine = MACHINES[name]
    if after not in machine.following(before):
        assert {judged(machine, before, after, by) for by in ("", "sign", "dispense")} == {"HS-STATE"}
        return
    operations = machine.by.get((before, after), ())
    assert judged(machine, before, after, "") == ("HS-STATE-OPERATION" if operations else "")
    assert judged(machine, before, after, "patch") == ("HS-STATE-OPERATION" if operations else "")
    for operation in operations:
        assert judged(machine, before, after, operation) == ""


def test_every_state_of_the_work_is_a_status_of_a_task_and_can_be_reached() -> None:
    reached, known = {work.OPEN, work.ADDRESSED}, set[str]()
    while reached != known:
        known = set(reached)
        reached |= {after for state in known for after in work.FULFILMENT.next[state]}
    assert reached == set(work.MEANS) == set(work.FULFILMENT.next)
    assert {status for status, _ in work.MEANS.values()} == {
        *("requested", "accepted", "in-progress", "completed", "rejected", "failed", "cancelled"),
    }


def task(state: str, tag: str) -> dict[str, object]:
    return {
        "resourceType": "Task",
        "meta": {"tag": [{"system": SYSTEM, "code": tag}]},
        "status": "requested",
        "businessStatus": {"coding": [{"system": STATES, "code": state}]},
    }


@pytest.mark.parametrize("tag", [FULFILMENT, WITHDRAWAL])
def test_a_plain_write_neither_changes_such_a_task_nor_makes_one(tag: str) -> None:
    before = task("open", tag)
    for after in ({**before, "description": "mine"}, None):
        with pytest.raises(UnprocessableError) as refused:
            task_rule(Write("Task", "1", before, after, NOBODY))
        assert refused.value.issues[0].key == "HS-RX-TASK"
    kept = task_rule(Write("Task", "1", None, before, NOBODY))
    assert kept is not None
    assert "meta" not in kept
    assert task_rule(Write("Task", "1", kept, kept, NOBODY)) is kept


def test_an_operation_holds_the_work_to_its_machine() -> None:
    write = Write("Task", "1", task("open", FULFILMENT), task("dispensed", FULFILMENT), NOBODY, "dispense")
    with pytest.raises(UnprocessableError, match="'addressed'"):
        task_rule(write)
    assert task_rule(replace(write, new=task("claimed", FULFILMENT), by="accept")) == task("claimed", FULFILMENT)


STATUSES = ["draft", *PRESCRIPTION.next, MISTAKE]


@pytest.mark.parametrize("before", dict.fromkeys(STATUSES))
def test_a_plain_write_of_a_prescription_is_held_to_the_machine(clinic: Clinic, before: str) -> None:
    order = clinic.order()
    for after in dict.fromkeys(STATUSES):
        if after == before:
            continue
        address = clinic.put("MedicationRequest", **{**order, "status": before})
        answer = clinic.call("operator", "PUT", address, {**order, "id": address.partition("/")[2], "status": after})
        expected = judged(PRESCRIPTION, before, after, "")
        if expected:
            assert (answer.status_code, key_of(answer)) == (422, expected), (before, after)
        else:
            assert answer.status_code == 200, (before, after, answer.text)


@pytest.mark.parametrize("after", [*SIGNED.next, MISTAKE, "draft", "unknown"])
def test_a_plain_write_ends_no_signed_prescription_and_holds_it(clinic: Clinic, after: str) -> None:
    address, _ = clinic.signed()
    order = clinic.get(address)
    answer = clinic.call("doctor", "PUT", address, {**order, "status": after})
    if after in ("active", "on-hold"):
        assert answer.status_code == 200, answer.text
        assert clinic.call("doctor", "PUT", address, {**order, "status": "active"}).status_code == 200
    else:
        assert answer.status_code == 422
        assert key_of(answer) in ("HS-STATE", "HS-STATE-OPERATION")
        assert clinic.get(address)["status"] == "active"


def test_the_documentation_draws_the_machines() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations-prescriptions.md").read_text("utf-8")
    for name, machine in MACHINES.items():
        if name != "record":
            assert f"```mermaid\n{machine.mermaid()}\n```" in page, f"{name}:\n\n{machine.mermaid()}"
