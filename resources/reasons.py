"""Reasons that are asked for where somebody decides what cannot be taken back."""

from __future__ import annotations

from typing import Final

from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import UnprocessableError

#: So many letters make a reason.
LEAST_LETTERS: Final = 10


def weighed_reason(inputs: Inputs, key: str) -> str:
    """The `reason` of a call.

    Args:
        key: of the message, when it is none worth the name

    Raises:
        UnprocessableError: 422; it is none worth the name.
    """
    reason = str(inputs.required("reason", inputs.text("reason"))).strip()
    if len(reason) < LEAST_LETTERS:
        raise UnprocessableError(
            f"The reason needs at least {LEAST_LETTERS} letters.",
            key=key,
            expression="Parameters.parameter.where(name='reason')",
        )
    return reason
