"""Reasons, quantities and medicines as callers give them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_server.interactions.parameters import Inputs
from fhir_server.model.errors import InvalidError, UnprocessableError
from fhir_server.search.ucum import canonical

Json = dict[str, Any]

UCUM = "http://unitsofmeasure.org"


def reason_in(inputs: Inputs, name: str = "reason") -> str:
    """A reason in words, or the words of a concept.

    Raises:
        InvalidError: 400; there is none.
    """
    given = inputs.required(name, inputs.one(name))
    if isinstance(given, dict):
        codings = given.get("coding") or [{}]
        given = given.get("text") or codings[0].get("display") or codings[0].get("code")
    if not isinstance(given, str) or not given.strip():
        raise InvalidError(
            f"{name!r} needs words.",
            code="value",
            expression=f"Parameters.parameter.where(name='{name}')",
            key="HS-OP-PARAMETER",
        )
    return given.strip()


def number_of(quantity: Json) -> Decimal:
    value = quantity.get("value")
    return value if isinstance(value, Decimal) else Decimal(str(value))


def in_unit_of(quantity: Json, wanted: Json) -> Decimal:
    """The value of a quantity in the unit of another one.

    Raises:
        UnprocessableError: 422; the units measure different things.
    """
    value = number_of(quantity)
    if _unit(quantity) == _unit(wanted) or not _unit(quantity):
        return value
    ours, theirs = quantity.get("code"), wanted.get("code")
    if quantity.get("system") == wanted.get("system") == UCUM and ours and theirs:
        one, given = canonical(Decimal(1), theirs), canonical(value, ours)
        if one is not None and given is not None and one[1] == given[1] and one[0]:
            return given[0] / one[0]
    raise UnprocessableError(
        f"The quantity is in {_unit(quantity)!r}, what is prescribed in {_unit(wanted)!r}.",
        key="HS-RX-UNIT",
        expression="Parameters.parameter.where(name='quantity')",
    )


def _unit(quantity: Json) -> str:
    return str(quantity.get("code") or quantity.get("unit") or "")
