"""`$break-glass` and `$mend-glass`: a clinician opens the record of a patient in an emergency, and closes it again.

For the session of the token, not for the user: no new token is needed, and other apps of the user see nothing of it.
Scopes hold as before. The reason is kept, the audit trail has start and end, and a review task waits for the privacy
officer before the record opens.

Our own operations; the purpose of use is `BTG` of http://terminology.hl7.org/CodeSystem/v3-ActReason.
"""

from __future__ import annotations

from fhir_server.interactions.context import Context
from fhir_server.interactions.parameters import Inputs, answered, parameters_of
from fhir_server.model.clock import instant_of
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.model.exchange import Answer, Request
from fhir_server.policies.glass import BreakGlass, Glass, Json


async def break_glass(context: Context, request: Request) -> Answer:
    """Open a record: `patient`, `reason` and, if need be, `minutes`.

    Raises:
        InvalidError: 400; no patient, no reason worth the name, or too long a time.
        NotFoundError: 404; there is no such patient.
        UnprocessableError: 422; nothing is hidden from the caller.
    """
    glass = glass_of(context)
    inputs = Inputs.of(request)
    inputs.only("patient", "reason", "minutes")
    patient = patient_in(inputs, request.base_url)
    reason = str(inputs.required("reason", inputs.text("reason")))
    broken = await glass.start(context.caller.identity, patient, reason, inputs.whole("minutes", least=1))
    return answered(parameters_of(told(broken)))


async def mend_glass(context: Context, request: Request) -> Answer:
    """Close what this session has open, or only what `id` names.

    Raises:
        NotFoundError: 404; nothing of it is open.
        UnprocessableError: 422; nothing is hidden from the caller.
    """
    glass = glass_of(context)
    inputs = Inputs.of(request)
    inputs.only("id")
    mended = await glass.stop(context.caller.identity, inputs.text("id"))
    return answered(parameters_of(*map(told, mended)))


def glass_of(context: Context) -> BreakGlass:
    if context.break_glass is None or context.caller.policy.everything:
        raise UnprocessableError("Nothing is hidden from you: there is no glass to break.", key="HS-GLASS-OPEN")
    return context.break_glass


def patient_in(inputs: Inputs, base_url: str) -> str:
    """The patient, from a Reference or from its text."""
    given = inputs.required("patient", inputs.one("patient"))
    reference = given.get("reference") if isinstance(given, dict) else given
    text = str(reference).removeprefix(f"{base_url}/")
    if not text.startswith("Patient/") or text.count("/") != 1:
        raise InvalidError(
            f"'patient' is {text[:80]!r}; a reference to a Patient of this server was expected.",
            code="value",
            expression="Parameters.parameter.where(name='patient')",
            key="HS-OP-PARAMETER",
        )
    return text


def told(glass: Glass) -> Json:
    """A broken glass as a parameter of the answer."""
    return {
        "name": "glass",
        "part": [
            {"name": "id", "valueString": glass.id},
            {"name": "patient", "valueReference": {"reference": glass.patient}},
            {"name": "started", "valueInstant": instant_of(glass.started_us)},
            {"name": "ends", "valueInstant": instant_of(glass.until_us)},
        ],
    }
