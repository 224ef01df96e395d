"""What profiles add to the server."""

from __future__ import annotations

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from resources.part import Part
from resources.profile.doctor import directory_profile
from resources.profile.patient import profile

PART = Part(
    "profile",
    operations=(
        Operation("profile", f"{OWN}:patient-profile", profile, types=("Patient",), instance=True),
        Operation(
            "directory-profile",
            f"{OWN}:directory-profile",
            directory_profile,
            types=("Practitioner", "PractitionerRole"),
            instance=True,
        ),
    ),
)
