"""Whose identifiers are whose, after a merge.

Spec: https://hl7.org/fhir/R4/patient-definitions.html#Patient.identifier
"""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.matching.facts import rows, text

Json = dict[str, Any]


def without_borrowed(patient: Json, lender: Json, own: Json) -> Json:
    """A patient without the identifiers that a merge took over from another: old ones that it did not have itself."""
    lent = {(text(row, "system"), text(row, "value")) for row in rows(lender, "identifier")}
    lent -= {(text(row, "system"), text(row, "value")) for row in rows(own, "identifier")}
    kept = [
        row
        for row in rows(patient, "identifier")
        if row.get("use") != "old" or (text(row, "system"), text(row, "value")) not in lent
    ]
    rest = {name: value for name, value in patient.items() if name != "identifier"}
    return {**rest, "identifier": kept} if kept else rest
