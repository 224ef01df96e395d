"""What the directory adds to the server."""

from __future__ import annotations

from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from resources.directory.finding import find_doctor
from resources.part import Part

PART = Part(
    "directory",
    operations=(Operation("find-doctor", f"{OWN}:find-doctor", find_doctor, types=("PractitionerRole",), type=True),),
)
