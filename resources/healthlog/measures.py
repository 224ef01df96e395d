"""What is known of common measurements: the unit that goes with a LOINC code, and what no living person can have.

The bounds are far outside of what is worth an alarm: they tell a slip of the finger (a temperature of 986, a weight in
grams called kilograms) from a measurement. What is not in the table is not judged.

Spec: https://hl7.org/fhir/R4/observation-vitalsigns.html, https://hl7.org/fhir/us/physical-activity/
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from fhir_server.interactions.stats import scale_of

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Measure:
    """A kind of measurement.

    Attributes:
        unit: a UCUM code; any unit of the same dimension will do
        least, most: what is possible at all, in that unit
    """

    name: str
    unit: str
    least: Decimal
    most: Decimal


def _of(name: str, unit: str, least: str, most: str) -> Measure:
    return Measure(name, unit, Decimal(least), Decimal(most))


#: By LOINC code.
MEASURES: dict[str, Measure] = {
    "8867-4": _of("heart rate", "/min", "0", "400"),
    "9279-1": _of("respiratory rate", "/min", "0", "150"),
    "2708-6": _of("oxygen saturation", "%", "0", "100"),
    "59408-5": _of("oxygen saturation by pulse oximetry", "%", "0", "100"),
    "8310-5": _of("body temperature", "Cel", "10", "50"),
    "8480-6": _of("systolic blood pressure", "mm[Hg]", "0", "400"),
    "8462-4": _of("diastolic blood pressure", "mm[Hg]", "0", "300"),
    "8302-2": _of("body height", "cm", "10", "300"),
    "9843-4": _of("head circumference", "cm", "10", "100"),
    "29463-7": _of("body weight", "kg", "0.1", "700"),
    "39156-5": _of("body mass index", "kg/m2", "3", "300"),
    "2339-0": _of("glucose in blood, mass", "mg/dL", "1", "3000"),
    "2345-7": _of("glucose in serum or plasma, mass", "mg/dL", "1", "3000"),
    "41653-7": _of("glucose by glucometer, mass", "mg/dL", "1", "3000"),
    "15074-8": _of("glucose in blood, amount", "mmol/L", "0.1", "170"),
    "82290-8": _of("moderate to vigorous exercise a week", "min/wk", "0", "10080"),
    "89555-7": _of("days of exercise a week", "d/wk", "0", "7"),
    "68516-4": _of("exercise on a day of exercise", "min/d", "0", "1440"),
    "55411-3": _of("duration of exercise", "min", "0", "1440"),
    "55423-8": _of("steps", "{steps}", "0", "200000"),
    "41950-7": _of("steps in a day", "{steps}/d", "0", "200000"),
    "41981-2": _of("energy used", "kcal", "0", "30000"),
    "93832-4": _of("sleep", "h", "0", "24"),
    "93831-6": _of("deep sleep", "h", "0", "24"),
    "93829-0": _of("REM sleep", "h", "0", "24"),
    "72514-3": _of("pain", "{score}", "0", "10"),
}


def in_unit(value: Decimal, given: str, wanted: str) -> Fraction | None:
    """A value in another unit, exactly; None where the two are of different dimensions or no units of UCUM."""
    if given == wanted:
        return Fraction(value)
    own, other = scale_of((UCUM, given)), scale_of((UCUM, wanted))
    if own is None or other is None or own[2] != other[2]:
        return None
    return (Fraction(value) * own[0] + own[1] - other[1]) / other[0]
