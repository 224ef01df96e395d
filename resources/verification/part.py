"""What the verification of doctors adds to the server."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Handler, Operation
from resources.part import Part
from resources.verification.calling import apply, approve, refuse, revalidate
from resources.verification.expiry import join
from resources.verification.marks import COMPANION, roles_marked
from resources.verification.states import application_rule, claim_rule, practitioner_rule

_changing = partial(Operation, instance=True, affects_state=True, elevated=True)


def _deciding(code: str, handle: Handler) -> Operation:
    """An operation on one claim, or on all that a Practitioner claims."""
    return _changing(code, f"{OWN}:verification-{code}", handle, types=("Practitioner", "VerificationResult"))


PART = Part(
    "verification",
    operations=(
        _changing("apply", f"{OWN}:verification-apply", apply, types=("Practitioner",)),
        _deciding("approve", approve),
        _deciding("refuse", refuse),
        _deciding("revalidate", revalidate),
    ),
    rules=(
        ("VerificationResult", claim_rule),
        ("Task", application_rule),
        ("Practitioner", practitioner_rule),
    ),
    companions=(("Practitioner", COMPANION),),
    completing=(("PractitionerRole", roles_marked),),
    join=join,
)
