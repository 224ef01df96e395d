"""Index entries of number parameters: `{"l": …, "h": …}`, the same twice for a single number.

Spec: https://hl7.org/fhir/R4/search.html#number
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

from fhir_server.search.entries import Further, Make

#: Beyond every number that is measured, within the 34 digits and the exponents of a Decimal128.
LOWEST = Decimal("-1E+300")
HIGHEST = Decimal("1E+300")

_DECIMAL128 = Context(prec=34, Emin=-6143, Emax=6144, clamp=1, traps=[])


def clipped(value: Decimal | int) -> Decimal:
    """A number as Decimal128 can hold it: rounded to 34 digits; what lies beyond its range becomes an open end."""
    number = _DECIMAL128.create_decimal(value)
    if number.is_finite():
        return number
    return LOWEST if number.is_signed() else HIGHEST


def maker_of(type_name: str) -> Make | None:
    """The maker for `decimal`, the integer types or `Range`."""
    if type_name == "Range":
        return _range
    return _number if type_name in ("decimal", "integer", "positiveInt", "unsignedInt") else None


def _number(value: Any, main: list[Any], further: Further) -> None:
    number = clipped(value)
    main.append({"l": number, "h": number})


def _range(value: Any, main: list[Any], further: Further) -> None:
    low, high = value.get("low", {}).get("value"), value.get("high", {}).get("value")
    if low is None and high is None:
        return
    main.append({"l": LOWEST if low is None else clipped(low), "h": HIGHEST if high is None else clipped(high)})
