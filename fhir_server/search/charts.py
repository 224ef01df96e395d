"""What is read of one patient again and again: the newest of a type, of a code or a category, by a date.

For each type named here, compound indexes lead to a page of such a search without a document that does not belong to
it: `(patient, date)`, and `(patient, code, date)` and `(patient, category, date)` for Observations, of which a patient
has thousands; of other types a patient has so few that filtering them costs less than those indexes would. The dates go
down. Patient and date are values and no arrays (see `search.index`), so that one of the three may be an array, as codes
are.

Spec: https://hl7.org/fhir/R4/search.html#sort
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chart:
    """How a type is read for one patient.

    Attributes:
        patient: the reference that it is read for; where `patient` is a part of another, such as `subject`, that one
        dates: what it is ordered by; the first is the one that goes with tokens
        tokens: what it is narrowed by so often that it has an index of its own
    """

    patient: str
    dates: tuple[str, ...]
    tokens: tuple[str, ...] = ()


CHARTS: dict[str, Chart] = {
    "AllergyIntolerance": Chart("patient", ("date",)),
    "Appointment": Chart("actor", ("date",)),
    "CarePlan": Chart("subject", ("date",)),
    "CareTeam": Chart("subject", ("date",)),
    "Claim": Chart("patient", ("created",)),
    "ClinicalImpression": Chart("subject", ("date",)),
    "Communication": Chart("subject", ("sent",)),
    "Composition": Chart("subject", ("date",)),
    "Condition": Chart("subject", ("recorded-date", "onset-date")),
    "DiagnosticReport": Chart("subject", ("date",)),
    "DocumentReference": Chart("subject", ("date",)),
    "Encounter": Chart("subject", ("date",)),
    "ExplanationOfBenefit": Chart("patient", ("created",)),
    "Immunization": Chart("patient", ("date",)),
    "MedicationAdministration": Chart("subject", ("effective-time",)),
    "MedicationDispense": Chart("subject", ("whenhandedover",)),
    "MedicationRequest": Chart("subject", ("authoredon",)),
    "MedicationStatement": Chart("subject", ("effective",)),
    "Observation": Chart("subject", ("date",), ("code", "category")),
    "Procedure": Chart("subject", ("date",)),
    "QuestionnaireResponse": Chart("subject", ("authored",)),
    "ServiceRequest": Chart("subject", ("authored",)),
    "Task": Chart("subject", ("authored-on",)),
}


def is_charted(resource_type: str, code: str) -> bool:
    """Whether a type is read in the order of this date."""
    chart = CHARTS.get(resource_type)
    return chart is not None and code in chart.dates
