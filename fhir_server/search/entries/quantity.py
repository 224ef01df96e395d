"""Index entries of quantity parameters: the value as written with its units, and in canonical units where it is UCUM.

Spec: https://hl7.org/fhir/R4/search.html#quantity
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

from fhir_server.search.entries import Further, Make
from fhir_server.search.entries.number import HIGHEST, LOWEST, clipped
from fhir_server.search.ucum import canonical

UCUM = "http://unitsofmeasure.org"
CURRENCY = "urn:iso:std:iso:4217"

#: Ends of what is stated: `<5` is anything up to 5.
Ends = tuple[Decimal | int | None, Decimal | int | None]


def maker_of(type_name: str) -> Make | None:
    """The maker for `Quantity` and its kinds, `Money` or `Range`; SampledData holds no single quantity."""
    match type_name:
        case "Quantity" | "Age" | "Duration" | "Distance" | "Count":
            return _quantity
        case "Money":
            return _money
        case "Range":
            return _range
    return None


def _quantity(value: Any, main: list[Any], further: Further) -> None:
    number = value.get("value")
    if number is None:
        return
    comparator = value.get("comparator")
    if comparator is None:
        ends: Ends = (number, number)
    else:
        ends = (None, number) if comparator[0] == "<" else (number, None)
    main.append(_entry(ends, value.get("system"), value.get("code"), value.get("unit")))


def _money(value: Any, main: list[Any], further: Further) -> None:
    number, currency = value.get("value"), value.get("currency")
    if number is not None:
        main.append(_entry((number, number), CURRENCY if currency else None, currency, None))


def _range(value: Any, main: list[Any], further: Further) -> None:
    """A Range is one entry; its ends in different units are one only where canonical units make them comparable."""
    low, high = value.get("low", {}), value.get("high", {})
    ends = (low.get("value"), high.get("value"))
    if ends == (None, None):
        return
    units = [(end.get("system"), end.get("code"), end.get("unit")) for end in (low, high) if "value" in end]
    if units[0] == units[-1]:
        main.append(_entry(ends, *units[0]))
        return
    lower, upper = _canonical(low), _canonical(high)
    if lower is not None and upper is not None and lower[1] == upper[1]:
        main.append({"l": lower[0], "h": upper[0], "u": [], "cl": lower[0], "ch": upper[0], "cu": lower[1]})


def _entry(ends: Ends, system: str | None, code: str | None, unit: str | None) -> dict[str, Any]:
    low, high = ends
    lower = LOWEST if low is None else clipped(low)
    upper = lower if high is low else HIGHEST if high is None else clipped(high)
    entry = {"l": lower, "h": upper, "u": list(_units(system, code, unit))}
    first = canonical(lower, code) if system == UCUM and code else None
    if first is not None and code:
        last = first if upper is lower else canonical(upper, code) or first
        entry["cl"] = LOWEST if low is None else clipped(first[0])
        entry["ch"] = HIGHEST if high is None else clipped(last[0])
        entry["cu"] = first[1]
    return entry


@lru_cache(maxsize=4096)
def _units(system: str | None, code: str | None, unit: str | None) -> tuple[str, ...]:
    found = [f"{system}|{code}"] if system and code else []
    found += [f"={text}" for text in (code, unit) if text]
    return tuple(dict.fromkeys(found))


def _canonical(end: dict[str, Any]) -> tuple[Decimal, str] | None:
    value, code = end.get("value"), end.get("code")
    if value is None or code is None or end.get("system") != UCUM:
        return None
    found = canonical(clipped(value), code)
    return (clipped(found[0]), found[1]) if found else None
