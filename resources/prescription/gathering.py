"""What the checks need, read from the records: as much of the patient's as the caller may see."""

from __future__ import annotations

from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.model import codec
from fhir_server.model.errors import FhirError
from resources.dispensing.codes import reference_in
from resources.prescription.doses import strength_in
from resources.prescription.findings import OVER, Allergy, Line, Report, report_of
from resources.prescription.medicines import Meant, medicines

Json = dict[str, Any]

#: So many allergies and medicines of a patient are looked at.
MOST = 500

#: SNOMED CT: there is no allergy, or none to medicines.
NO_ALLERGY = frozenset({"716186003", "409137002", "428607008"})


async def checked(context: Context, orders: list[Json]) -> Report:
    """Look at prescriptions of one patient that are to be signed together."""
    patient = str(reference_in(orders[0].get("subject")))
    lines = [await line_of(context, order) for order in orders]
    found = await context.searcher.matches("AllergyIntolerance", f"patient={patient}", limit=MOST)
    allergies = [one for version in found if (one := allergy_of(codec.decode(version.body or b""))) is not None]
    current = await context.searcher.matches(
        "MedicationRequest", f"patient={patient}&status=active,on-hold", limit=MOST
    )
    own = {line.reference for line in lines}
    others = [
        await line_of(context, codec.decode(version.body or b""))
        for version in current
        if f"MedicationRequest/{version.id}" not in own
    ]
    report = report_of(medicines(), lines, allergies, others)
    extra: list[str] = []
    if await hidden(context):
        extra.append("what your access does not show of the patient's allergies and medicines")
    if MOST in (len(found), len(current)):
        extra.append(f"allergies and medicines beyond the first {MOST}")
    return Report(report.findings, (*extra, *report.unchecked))


async def hidden(context: Context) -> bool:
    """Whether the caller's access may leave some of it out."""
    store = context.repository.store
    return await store.limits("AllergyIntolerance", "s") or await store.limits("MedicationRequest", "s")


async def line_of(context: Context, order: Json) -> Line:
    """A MedicationRequest as the checks see it."""
    reference = f"MedicationRequest/{order['id']}" if "id" in order else ""
    concepts, strength = await medicine_of(context, order)
    meant = medicines().meant_by(concepts)
    if strength is None and len(meant.ingredients) == 1:
        strength = strength_in(meant.label)
    return Line(reference, meant, order.get("dosageInstruction", ()), strength)


async def medicine_of(context: Context, order: Json) -> tuple[list[Json], Json | None]:
    """The concepts that name what is prescribed, and what one piece holds where a Medication says it."""
    if "medicationCodeableConcept" in order:
        return [order["medicationCodeableConcept"]], None
    medication = await _medication(context, order)
    if medication is None:
        named = order.get("medicationReference", {}).get("display")
        return ([{"text": named}] if named else []), None
    concepts = [medication["code"]] if "code" in medication else []
    ingredients = medication.get("ingredient", [])
    concepts += [row["itemCodeableConcept"] for row in ingredients if "itemCodeableConcept" in row]
    strength = None
    if len(ingredients) == 1 and "strength" in ingredients[0]:
        ratio = ingredients[0]["strength"]
        above, below = ratio.get("numerator", {}), ratio.get("denominator", {"value": 1})
        if "value" in above and "code" in above and str(below.get("value", 1)) in ("1", "1.0"):
            strength = above
    return concepts, strength


async def _medication(context: Context, order: Json) -> Json | None:
    reference = reference_in(order.get("medicationReference")) or ""
    if reference.startswith("#"):
        inside = (one for one in order.get("contained", ()) if f"#{one.get('id')}" == reference)
        return next(inside, None)
    if not reference.startswith("Medication/"):
        return None
    try:
        version = await context.repository.read("Medication", reference.partition("/")[2])
    except FhirError:
        return None
    found: Json = codec.decode(version.body or b"")
    return found


def allergy_of(resource: Json) -> Allergy | None:
    """An AllergyIntolerance as the checks see it; None of one that is over, or says that there is none."""
    states = {
        coding.get("code")
        for element in ("clinicalStatus", "verificationStatus")
        for coding in resource.get(element, {}).get("coding", ())
    }
    if states & OVER:
        return None
    concepts = [resource["code"]] if "code" in resource else []
    concepts += [row["substance"] for row in resource.get("reaction", ()) if "substance" in row]
    meant: Meant = medicines().meant_by(concepts)
    if {code for _, code in meant.codings} & NO_ALLERGY:
        return None
    return Allergy(f"AllergyIntolerance/{resource['id']}", meant, tuple(resource.get("category", ())))
