"""What is known of common measurements: the unit that goes with a LOINC code, and what no living person can have.

The bounds are far outside of what is worth an alarm: they tell a slip of the finger (a temperature of 986, a weight in
grams called kilograms) from a measurement. What is not in the table is not judged.

Spec: https://hl7.org/fhir/R4/observation-vitalsigns.html, https://hl7.org/fhir/us/physical-activity/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from fhir_server.interactions.stats import scale_of

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


#: The parts of a log, by which apps show and search it (`Observation?category=`).
Kind = Literal["vital", "glucose", "activity", "exercise", "sleep", "symptom"]

#: The code system of these.
KINDS = "urn:healthsphere:CodeSystem:log-kind"

#: FHIR's own categories of them (http://terminology.hl7.org/CodeSystem/observation-category), where there is one.
CATEGORIES = "http://terminology.hl7.org/CodeSystem/observation-category"
CATEGORY: dict[Kind, str] = {
    "vital": "vital-signs",
    "activity": "activity",
    "exercise": "activity",
    "sleep": "activity",
    "symptom": "survey",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of measurement.

    Attributes:
        kind: what part of a log it belongs to
        unit: a UCUM code; any unit of the same dimension will do
        least, most: what is possible at all, in that unit
    """

    kind: Kind
    name: str
    unit: str
    least: Decimal
    most: Decimal


def _of(kind: Kind, name: str, unit: str, least: str, most: str) -> Measure:
    return Measure(kind, name, unit, Decimal(least), Decimal(most))


#: By LOINC code.
MEASURES: dict[str, Measure] = {
    "8867-4": _of("vital", "heart rate", "/min", "0", "400"),
    "9279-1": _of("vital", "respiratory rate", "/min", "0", "150"),
    "2708-6": _of("vital", "oxygen saturation", "%", "0", "100"),
    "59408-5": _of("vital", "oxygen saturation by pulse oximetry", "%", "0", "100"),
    "8310-5": _of("vital", "body temperature", "Cel", "10", "50"),
    "8480-6": _of("vital", "systolic blood pressure", "mm[Hg]", "0", "400"),
    "8462-4": _of("vital", "diastolic blood pressure", "mm[Hg]", "0", "300"),
    "8302-2": _of("vital", "body height", "cm", "10", "300"),
    "9843-4": _of("vital", "head circumference", "cm", "10", "100"),
    "29463-7": _of("vital", "body weight", "kg", "0.1", "700"),
    "39156-5": _of("vital", "body mass index", "kg/m2", "3", "300"),
    "2339-0": _of("glucose", "glucose in blood, mass", "mg/dL", "1", "3000"),
    "2345-7": _of("glucose", "glucose in serum or plasma, mass", "mg/dL", "1", "3000"),
    "41653-7": _of("glucose", "glucose by glucometer, mass", "mg/dL", "1", "3000"),
    "15074-8": _of("glucose", "glucose in blood, amount", "mmol/L", "0.1", "170"),
    "82290-8": _of("exercise", "moderate to vigorous exercise a week", "min/wk", "0", "10080"),
    "89555-7": _of("exercise", "days of exercise a week", "d/wk", "0", "7"),
    "68516-4": _of("exercise", "exercise on a day of exercise", "min/d", "0", "1440"),
    "55411-3": _of("exercise", "duration of exercise", "min", "0", "1440"),
    "55423-8": _of("activity", "steps", "{steps}", "0", "200000"),
    "41950-7": _of("activity", "steps in a day", "{steps}/d", "0", "200000"),
    "41953-1": _of("activity", "distance walked in a day", "km/d", "0", "300"),
    "41981-2": _of("activity", "energy used", "kcal", "0", "30000"),
    "93832-4": _of("sleep", "sleep", "h", "0", "24"),
    "93831-6": _of("sleep", "deep sleep", "h", "0", "24"),
    "93830-8": _of("sleep", "light sleep", "h", "0", "24"),
    "93829-0": _of("sleep", "REM sleep", "h", "0", "24"),
    "72514-3": _of("symptom", "pain", "{score}", "0", "10"),
}

#: What such a log holds that is no number: by LOINC code.
SYMPTOM = "75325-1"
CODED: dict[str, Kind] = {
    "85354-9": "vital",  # blood pressure, whose components are numbers
    "73985-4": "exercise",  # which exercise
    SYMPTOM: "symptom",
}


def kind_of(codes: Iterable[str]) -> Kind | None:
    """The part of a log that the first LOINC code belongs to of which it is known."""
    for code in codes:
        if code in MEASURES:
            return MEASURES[code].kind
        if code in CODED:
            return CODED[code]
    return None


def in_unit(value: Decimal, given: str, wanted: str) -> Fraction | None:
    """A value in another unit, exactly; None where the two are of different dimensions or no units of UCUM."""
    if given == wanted:
        return Fraction(value)
    own, other = scale_of((UCUM, given)), scale_of((UCUM, wanted))
    if own is None or other is None or own[2] != other[2]:
        return None
    return (Fraction(value) * own[0] + own[1] - other[1]) / other[0]
