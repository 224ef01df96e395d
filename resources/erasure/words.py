"""The task of an erasure: its code, its states, and what is told in it."""

from __future__ import annotations

from typing import Any, Final

from fhir_server.interactions.purging.hold import is_hold
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import ForbiddenError
from fhir_server.repository.rules import Write
from resources.states import StateMachine

Json = dict[str, Any]

SYSTEM: Final = "urn:healthsphere:task"
CODE: Final = "erase-record"

APPROVE: Final = "approve-erasure"
REFUSE: Final = "refuse-erasure"
CARRY_OUT: Final = "erase"
HOLD: Final = "legal-hold"

#: `accepted` is once approved; the patient can take the request back until it is carried out.
STATES: Final = StateMachine(
    "Task",
    {
        "requested": ("accepted", "rejected", "cancelled"),
        "accepted": ("in-progress", "rejected", "cancelled"),
        "in-progress": ("completed", "failed"),
        "failed": ("in-progress",),
        "completed": (),
        "rejected": (),
        "cancelled": (),
    },
    {
        ("requested", "accepted"): (APPROVE,),
        ("accepted", "in-progress"): (APPROVE,),
        ("failed", "in-progress"): (APPROVE,),
        ("requested", "rejected"): (REFUSE,),
        ("accepted", "rejected"): (REFUSE,),
        ("in-progress", "completed"): (CARRY_OUT,),
        ("in-progress", "failed"): (CARRY_OUT,),
    },
    mistaken=False,
)

#: Who decides, and so does not ask; who asks begins at the beginning.
SYSTEMS: Final = frozenset({"system", "operator"})


def is_request(task: Json | None) -> bool:
    code = (task or {}).get("code")
    codings = code.get("coding") if isinstance(code, dict) else None
    return isinstance(codings, list) and any(
        isinstance(c, dict) and c.get("system") == SYSTEM and c.get("code") == CODE for c in codings
    )


def request_rule(write: Write) -> Json | None:
    """A request for erasure goes its way, and its approvals are written by approving alone.

    Raises:
        ForbiddenError: 403; it begins elsewhere than at the beginning, or its approvals are touched.
        UnprocessableError: 422; the state does not follow.
    """
    if not is_request(write.old) and not is_request(write.new):
        return write.new
    lay = write.caller.identity.role not in SYSTEMS
    if write.new is None:
        if lay:
            raise ForbiddenError("A request for erasure is not deleted.", key="HS-ERASURE-TASK", expression="Task")
        return None
    if write.by in (APPROVE, REFUSE, CARRY_OUT):
        return STATES.rule(write)
    same = {name: (write.old or {}).get(name) for name in ("output", "code", "for", "focus", "requester")}
    changed = {name: write.new.get(name) for name in same}
    begins = write.old is None and write.new.get("status") == "requested" and "output" not in write.new
    if lay and not (begins if write.old is None else same == changed):
        raise ForbiddenError(
            "A request for erasure begins as requested, and what it is about, its approvals and its outcome are not "
            "written by hand.",
            key="HS-ERASURE-TASK",
            expression="Task",
        )
    return STATES.rule(write)


def hold_rule(write: Write) -> Json | None:
    """A legal hold is set and ended by `$legal-hold` alone.

    Raises:
        ForbiddenError: 403; somebody else writes one.
    """
    touched = any(resource is not None and is_hold(resource) for resource in (write.old, write.new))
    if touched and write.by != HOLD and write.caller.identity.role not in SYSTEMS:
        raise ForbiddenError("Legal holds are set and ended by $legal-hold.", key="HS-ERASURE-HOLD", expression="Flag")
    return write.new


def request_of(patient: str, requester: str | None, reason: str | None) -> Json:
    """The task by which somebody asks for the erasure of a record."""
    return {
        "resourceType": "Task",
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"system": SYSTEM, "code": CODE}], "text": "Erase a record"},
        "focus": {"reference": patient},
        "for": {"reference": patient},
        "authoredOn": instant_of(now_us()),
        "performerType": [{"coding": [{"system": "urn:healthsphere:role", "code": "auditor"}]}],
        **({"requester": {"reference": requester}} if requester else {}),
        **({"description": reason} if reason else {}),
    }


def output(name: str, value: Json) -> Json:
    """A line of `Task.output`."""
    return {"type": {"text": name}, **value}


def outputs(task: Json, name: str) -> list[Json]:
    return [row for row in task.get("output", []) if row.get("type", {}).get("text") == name]
