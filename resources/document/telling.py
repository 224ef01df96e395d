"""How resources are told to people in a line: names, codes, dates, amounts."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.access_ledger import display_of

Json = dict[str, Any]


def name_of(resource: Json) -> str:
    """The name of a person, an organization or a place."""
    return display_of(resource) or f"{resource.get('resourceType', '')}/{resource.get('id', '')}"


def concept(value: Any) -> str:
    """A CodeableConcept or Coding in words."""
    if not isinstance(value, dict):
        return ""
    if text := value.get("text"):
        return str(text)
    for coding in value.get("coding", [value]):
        if found := coding.get("display") or coding.get("code"):
            return str(found)
    return ""


def span(value: Any) -> str:
    """A Period, or a moment, without the time where that is midnight of nowhere."""
    if isinstance(value, str):
        return value.replace("T", " ")[:16] if "T" in value else value
    if not isinstance(value, dict):
        return ""
    start, end = span(value.get("start")), span(value.get("end"))
    return f"{start} \N{EN DASH} {end}" if start and end else start or (f"until {end}" if end else "")


def amount(resource: Json) -> str:
    """The value of an Observation."""
    for name, value in resource.items():
        if not name.startswith("value"):
            continue
        if name == "valueQuantity":
            number = f"{value.get('comparator', '')}{value.get('value', '')}"
            return f"{number} {value.get('unit') or value.get('code', '')}".strip()
        if name == "valueCodeableConcept":
            return concept(value)
        if not isinstance(value, dict | list):
            return str(value)
    parts = [f"{concept(row.get('code'))} {amount(row)}" for row in resource.get("component", [])]
    return ", ".join(parts)


def medicine(resource: Json) -> str:
    """What a MedicationRequest or MedicationStatement is of, and how it is taken."""
    what = concept(resource.get("medicationCodeableConcept")) or str(
        resource.get("medicationReference", {}).get("display", "")
    )
    dosages: list[Json] = resource.get("dosageInstruction") or resource.get("dosage") or []
    how = "; ".join(str(row["text"]) for row in dosages if "text" in row)
    return f"{what or 'a medicine'}{': ' + how if how else ''}"
