"""People and medicines in words, for the paper."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fhir_server.interactions.context import Context
from resources.dispensing.codes import reference_in
from resources.prescription.gathering import medicine_of
from resources.prescription.medicines import medicines

Json = dict[str, Any]


def name_of(person: Json) -> str:
    """The name that somebody goes by; empty where none is known."""
    names = [name for name in person.get("name", ()) if isinstance(name, dict) and name.get("use") != "old"]
    if not names:
        return ""
    name = next((one for one in names if one.get("use") == "official"), names[0])
    parts = [*name.get("prefix", ()), *name.get("given", ()), name.get("family"), *name.get("suffix", ())]
    return str(name.get("text") or " ".join(part for part in parts if part))


def address_of(person: Json) -> str:
    for address in person.get("address", ()):
        parts = [*address.get("line", ()), address.get("postalCode"), address.get("city"), address.get("country")]
        return str(address.get("text") or ", ".join(part for part in parts if part))
    return ""


def patient_lines(patient: Json) -> list[str]:
    return [line for line in (name_of(patient), patient.get("birthDate", ""), address_of(patient)) if line]


def prescriber_lines(prescriber: Json) -> list[str]:
    numbers = [
        f"{one.get('type', {}).get('text') or one.get('system', '')} {one['value']}".strip()
        for one in prescriber.get("identifier", ())[:2]
        if "value" in one
    ]
    return [line for line in (name_of(prescriber), address_of(prescriber), *numbers) if line]


async def person_of(read: Callable[[str], Awaitable[Json]], reference: str) -> Json:
    """The Practitioner behind a requester, which may be one of their roles."""
    found = await read(reference)
    if found.get("resourceType") == "PractitionerRole":
        person = reference_in(found.get("practitioner"))
        return await read(person) if person else {}
    return found


async def medicine_lines(context: Context, order: Json) -> tuple[str, list[str]]:
    """The name of what is prescribed, and how it is taken, how much there is, and for how long."""
    concepts, _ = await medicine_of(context, order)
    name = medicines().meant_by(concepts).label
    lines = [text for row in order.get("dosageInstruction", ()) if (text := dosage_text(row))]
    asked = order.get("dispenseRequest", {})
    if (quantity := asked.get("quantity")) is not None:
        lines.append(f"Quantity: {quantity_text(quantity)}")
    if repeats := asked.get("numberOfRepeatsAllowed"):
        lines.append(f"Repeats: {repeats}")
    if end := asked.get("validityPeriod", {}).get("end"):
        lines.append(f"Valid until {end}")
    if order.get("substitution", {}).get("allowedBoolean") is False:
        lines.append("No substitution")
    lines += [note["text"] for note in order.get("note", ()) if "text" in note]
    return name, lines


def dosage_text(row: Json) -> str:
    """How it is taken: as the prescriber says it, or as the structure does."""
    if text := row.get("text") or row.get("patientInstruction"):
        return str(text)
    parts = [quantity_text(dose["doseQuantity"]) for dose in row.get("doseAndRate", ()) if "doseQuantity" in dose]
    timing = row.get("timing", {})
    repeat = timing.get("repeat", {})
    if "period" in repeat:
        parts.append(
            f"{repeat.get('frequency', 1)} times every {repeat['period']} {repeat.get('periodUnit', '')}".strip()
        )
    codes = [coding.get("display") or coding.get("code") for coding in timing.get("code", {}).get("coding", ())]
    parts += [str(timing["code"]["text"])] if "text" in timing.get("code", {}) else [str(c) for c in codes[:1] if c]
    return ", ".join(parts)


def quantity_text(quantity: Json) -> str:
    return f"{quantity.get('value', '')} {quantity.get('unit') or quantity.get('code') or ''}".strip()
