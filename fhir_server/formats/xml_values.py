"""Values of primitives as they stand in XML, made into what JSON has for them.

Spec: https://hl7.org/fhir/R4/json.html#primitive, https://hl7.org/fhir/R4/datatypes.html#primitive
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from fhir_server.model import codec
from fhir_server.model.errors import InvalidError

Value = str | bool | int | Decimal

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})", re.ASCII)
DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)

#: More than any validator lets pass; beyond it a number would cost more to read than it can mean.
MAX_DIGITS = 1000


def boolean(text: str) -> bool:
    """`true` or `false`.

    Raises:
        ValueError: it is neither; the text tells what was expected.
    """
    if text == "true":
        return True
    if text == "false":
        return False
    raise ValueError("true or false")


def integer(text: str) -> int:
    if INTEGER.fullmatch(text) is None:
        raise ValueError("a whole number")
    return int(text)


def decimal(text: str) -> Decimal | int:
    """The exact decimal; one without a fraction is an int, as the JSON decoder gives it."""
    if len(text) > MAX_DIGITS or DECIMAL.fullmatch(text) is None:
        raise ValueError("a decimal number")
    if text != "-0" and text.lstrip("-").isdigit():
        return int(text)
    try:
        return codec.decimal_of(text)
    except InvalidError:
        raise ValueError("a decimal number that can be represented") from None


#: By type code; the other types are strings.
CONVERSIONS: dict[str, Callable[[str], Value]] = {
    "boolean": boolean,
    "integer": integer,
    "unsignedInt": integer,
    "positiveInt": integer,
    "decimal": decimal,
}
