"""How much of an ingredient a dosage comes to in a day, as far as it says so in ways that a program understands.

Spec: https://hl7.org/fhir/R4/dosage.html, https://hl7.org/fhir/R4/datatypes.html#Timing
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from fhir_server.search.ucum import canonical

Json = dict[str, Any]

#: Days in a unit of time, as `Timing.repeat.periodUnit` has it.
_DAYS = {
    "s": Fraction(1, 86_400),
    "min": Fraction(1, 1_440),
    "h": Fraction(1, 24),
    "d": Fraction(1),
    "wk": Fraction(7),
    "mo": Fraction(30),
    "a": Fraction(365),
}

#: Times a day of the codes of `Timing.code`.
_CODES = {
    "QD": Fraction(1),
    "AM": Fraction(1),
    "PM": Fraction(1),
    "BED": Fraction(1),
    "BID": Fraction(2),
    "TID": Fraction(3),
    "QID": Fraction(4),
    "QOD": Fraction(1, 2),
    "WK": Fraction(1, 7),
    "MO": Fraction(1, 30),
    "Q1H": Fraction(24),
    "Q2H": Fraction(12),
    "Q3H": Fraction(8),
    "Q4H": Fraction(6),
    "Q6H": Fraction(4),
    "Q8H": Fraction(3),
}

#: Units that count pieces, not substance.
_PIECES = {
    "",
    "1",
    "{tbl}",
    "{tablet}",
    "{capsule}",
    "tab",
    "tabs",
    "tablet",
    "tablets",
    "cap",
    "capsule",
    "capsules",
    "tbl",
}

_STRENGTH = re.compile(r"(?<![\d.,/])(\d+(?:\.\d+)?) ?(mg|g|mcg|ug)\b(?!/)", re.IGNORECASE)


class UnclearError(Exception):
    """A dosage does not tell; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Daily:
    """An amount in a day, in UCUM's base units."""

    value: Decimal
    unit: str

    def exceeds(self, most: tuple[Decimal, str]) -> bool:
        """Whether it is more than the most.

        Raises:
            UnclearError: the two measure different things.
        """
        limit = canonical(*most)
        if limit is None or limit[1] != self.unit:
            raise UnclearError("the dose is in a unit that cannot be compared with the highest dose of the table")
        return self.value > limit[0]


def strength_in(label: str) -> Json | None:
    """The strength of one piece, where the name of a medicine tells exactly one (`Ibuprofen 400 MG Oral Tablet`)."""
    found = _STRENGTH.findall(label)
    if len(found) != 1:
        return None
    unit = {"mcg": "ug"}.get(found[0][1].lower(), found[0][1].lower())
    return {"value": Decimal(found[0][0]), "code": unit}


def daily(instructions: Sequence[Json], strength: Json | None) -> Daily:
    """The highest amount in a day of some instructions; those that follow each other are not added up.

    Args:
        strength: what one piece holds, for doses in tablets

    Raises:
        UnclearError: an instruction does not tell.
    """
    if not instructions:
        raise UnclearError("there is no dosage")
    steps: dict[int, list[Daily]] = {}
    for instruction in instructions:
        steps.setdefault(int(instruction.get("sequence", 1)), []).append(_of_one(instruction, strength))
    sums = []
    for amounts in steps.values():
        if len({amount.unit for amount in amounts}) > 1:
            raise UnclearError("its doses are in units that cannot be added up")
        sums.append(Daily(sum((a.value for a in amounts), Decimal(0)), amounts[0].unit))
    if len({amount.unit for amount in sums}) > 1:
        raise UnclearError("its doses are in units that cannot be compared")
    return max(sums, key=lambda amount: amount.value)


def _of_one(instruction: Json, strength: Json | None) -> Daily:
    dose = _dose_of(instruction)
    amount, unit = _in_base(dose, strength)
    times = times_a_day(instruction)
    return Daily(amount * times.numerator / times.denominator, unit)


def _dose_of(instruction: Json) -> Json:
    for row in instruction.get("doseAndRate", ()):
        if "doseQuantity" in row:
            quantity: Json = row["doseQuantity"]
            return quantity
        if "doseRange" in row:
            high: Json = row["doseRange"].get("high", {})
            return high
    raise UnclearError("its dose is in words only")


def _in_base(dose: Json, strength: Json | None) -> tuple[Decimal, str]:
    if "value" not in dose:
        raise UnclearError("its dose has no number")
    value, unit = Decimal(str(dose["value"])), str(dose.get("code") or dose.get("unit") or "")
    if unit.casefold() in _PIECES:
        if strength is None:
            raise UnclearError("its dose is in pieces, and what one piece holds is not said")
        value, unit = value * Decimal(str(strength["value"])), str(strength["code"])
    based = canonical(value, unit)
    if based is None:
        raise UnclearError(f"the unit of its dose, {unit!r}, is none of UCUM")
    return based


def times_a_day(instruction: Json) -> Fraction:
    """How often a dose is taken in a day, at most.

    Raises:
        UnclearError: it is not said.
    """
    timing = instruction.get("timing", {})
    repeat = timing.get("repeat", {})
    if "period" in repeat and repeat.get("periodUnit") in _DAYS:
        often = Fraction(int(repeat.get("frequencyMax") or repeat.get("frequency") or 1))
        days = Fraction(Decimal(str(repeat["period"]))) * _DAYS[repeat["periodUnit"]]
        if days <= 0:
            raise UnclearError("its timing has a period of nothing")
        return often / days
    if places := repeat.get("timeOfDay") or repeat.get("when"):
        return Fraction(len(places))
    for coding in timing.get("code", {}).get("coding", ()):
        if coding.get("code") in _CODES:
            return _CODES[coding["code"]]
    raise UnclearError("it does not say how often in a day, but in words")
