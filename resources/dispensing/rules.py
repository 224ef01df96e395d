"""What holds for every write of the work on a prescription, and of what is handed out."""

from __future__ import annotations

from dataclasses import replace

from fhir_server.model.errors import UnprocessableError
from fhir_server.repository.changes import Json
from fhir_server.repository.rules import Write
from resources.dispensing.codes import FULFILMENT as WORK
from resources.dispensing.codes import OPERATIONS, WITHDRAWAL, is_marked, state_in, unmarked
from resources.dispensing.states import ASKING, DISPENSE, FULFILMENT

OURS = (WORK, WITHDRAWAL)


def task_rule(write: Write) -> Json | None:
    """The work on a signed prescription is changed by the operations alone; no other Task passes for it.

    Raises:
        UnprocessableError: 422; a plain write of such a Task, or a state that does not follow.
    """
    ours = any(is_marked(write.old, code) for code in OURS)
    if write.by not in OPERATIONS:
        if ours:
            raise UnprocessableError(
                f"{write.reference} is the work on a signed prescription; it is changed by $accept, $reject, "
                "$dispense, $close, $transfer, $withdraw and $answer-withdrawal of the MedicationRequest alone.",
                key="HS-RX-TASK",
                expression="Task",
            )
        return write.new if write.new is None else unmarked(write.new, OURS)
    if is_marked(write.old, WORK) and write.old is not None and write.new is not None:
        FULFILMENT.rule(
            replace(write, old={"businessStatus": state_in(write.old)}, new={"businessStatus": state_in(write.new)})
        )
    if is_marked(write.old, WITHDRAWAL):
        ASKING.rule(write)
    return write.new


def dispense_rule(write: Write) -> Json | None:
    """What was handed out stays handed out.

    Raises:
        UnprocessableError: 422; a state that does not follow.
    """
    return DISPENSE.rule(write)
