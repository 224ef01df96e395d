"""Prescriptions, as the server joins them."""

from __future__ import annotations

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from resources.part import Part
from resources.prescription.rules import hold_to_prescriber, prescription_rule
from resources.prescription.sign import check, sign
from resources.prescription.verify import verify

ORDERS = ("MedicationRequest",)

PART = Part(
    "prescription",
    operations=(
        Operation("check", f"{OWN}:prescription-check", check, types=ORDERS, type=True, instance=True),
        Operation(
            "sign",
            f"{OWN}:prescription-sign",
            sign,
            types=ORDERS,
            type=True,
            instance=True,
            affects_state=True,
            elevated=True,
            needs=(("MedicationRequest", "u"),),
        ),
        Operation("verify", f"{OWN}:prescription-verify", verify, types=ORDERS, instance=True, elevated=True),
    ),
    rules=(("MedicationRequest", prescription_rule),),
    companions=(("MedicationRequest", hold_to_prescriber),),
)
