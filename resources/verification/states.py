"""The states of claims and of applications, and the rules that hold every write to them.

Spec: https://hl7.org/fhir/R4/valueset-verificationresult-status.html, https://hl7.org/fhir/R4/valueset-task-status.html
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server.model.clock import now_us
from fhir_server.model.errors import ForbiddenError, UnprocessableError
from fhir_server.repository.rules import Write
from resources.states import StateMachine
from resources.verification.licence import is_hidden, marked
from resources.verification.words import (
    APPLY,
    APPROVE,
    BY,
    EXPIRE,
    REFUSE,
    REVALIDATE,
    SYSTEMS,
    is_application,
    is_claim,
)

Json = dict[str, Any]

#: A claim. Where one approval is enough, `in-process` is left out.
CLAIM: Final = StateMachine(
    "VerificationResult",
    {
        "attested": ("in-process", "validated", "val-fail"),
        "in-process": ("validated", "val-fail"),
        "validated": ("req-revalid",),
        "val-fail": ("req-revalid",),
        "req-revalid": ("validated", "reval-fail"),
        "reval-fail": ("req-revalid",),
    },
    {
        ("attested", "in-process"): (APPROVE,),
        ("attested", "validated"): (APPROVE,),
        ("attested", "val-fail"): (REFUSE,),
        ("in-process", "validated"): (APPROVE,),
        ("in-process", "val-fail"): (REFUSE,),
        ("validated", "req-revalid"): (REVALIDATE, APPLY, EXPIRE),
        ("val-fail", "req-revalid"): (REVALIDATE, APPLY, EXPIRE),
        ("req-revalid", "validated"): (APPROVE,),
        ("req-revalid", "reval-fail"): (REFUSE,),
        ("reval-fail", "req-revalid"): (REVALIDATE, APPLY, EXPIRE),
    },
    mistaken=False,
)

#: The Task of an application. It is opened again when a licence has ended or new papers have come.
APPLICATION: Final = StateMachine(
    "Task",
    {
        "requested": ("in-progress", "completed", "rejected"),
        "in-progress": ("completed", "rejected", "requested"),
        "completed": ("requested",),
        "rejected": ("requested",),
    },
    {
        ("requested", "in-progress"): (APPROVE,),
        ("requested", "completed"): (APPROVE,),
        ("requested", "rejected"): (REFUSE,),
        ("in-progress", "completed"): (APPROVE,),
        ("in-progress", "rejected"): (REFUSE,),
        ("in-progress", "requested"): (APPLY, REVALIDATE, EXPIRE),
        ("completed", "requested"): (APPLY, REVALIDATE, EXPIRE),
        ("rejected", "requested"): (APPLY, REVALIDATE, EXPIRE),
    },
    mistaken=False,
)


def claim_rule(write: Write) -> Json | None:
    """A claim of this process goes its way; people write none by hand.

    Raises:
        ForbiddenError: 403; somebody writes one by hand.
        UnprocessableError: 422; the state does not follow.
    """
    if not is_claim(write.old) and not is_claim(write.new):
        return write.new
    _require_operation(write, "A claim is decided on by $approve, $refuse and $revalidate alone.", "VerificationResult")
    return CLAIM.rule(write)


def application_rule(write: Write) -> Json | None:
    """An application goes its way; people write none by hand.

    Raises:
        ForbiddenError: 403; somebody writes one by hand.
        UnprocessableError: 422; the state does not follow.
    """
    if not is_application(write.old) and not is_application(write.new):
        return write.new
    _require_operation(write, "An application is made by $apply, and changed by deciding on it, alone.", "Task")
    return APPLICATION.rule(write)


def _require_operation(write: Write, told: str, place: str) -> None:
    if write.by not in BY and write.caller.identity.role not in SYSTEMS:
        raise ForbiddenError(told, key="HS-VERIFY-HAND", expression=place)


def practitioner_rule(write: Write) -> Json | None:
    """Who is hidden is marked, and people make nobody active and no licence by hand.

    What programs import is believed: a Practitioner that comes active counts as verified by where it comes from, while
    one of the licences that it names holds.

    Raises:
        UnprocessableError: 422; somebody makes a Practitioner active, or changes qualifications, by hand.
    """
    new = write.new
    if new is None or write.by == EXPIRE:  # which marks by the clock of timers
        return new
    if write.by not in BY and write.caller.identity.role not in SYSTEMS:
        new = _by_hand(write.old, new)
    return marked(new, is_hidden(new, now_us()))


def _by_hand(old: Json | None, new: Json) -> Json:
    if new.get("active") is not False and (old is None or old.get("active") is False):
        if old is None and "active" not in new:
            return {**new, "active": False}
        raise UnprocessableError(
            "A Practitioner becomes active when two people have approved their claims: create them with `active` "
            "false, then use Practitioner/[id]/$apply.",
            key="HS-VERIFY-ACTIVE",
            expression="Practitioner.active",
        )
    if old is not None and old.get("qualification") != new.get("qualification"):
        raise UnprocessableError(
            "Qualifications are claims that others approve: hand them in with Practitioner/[id]/$apply.",
            key="HS-VERIFY-QUALIFICATION",
            expression="Practitioner.qualification",
        )
    return new
