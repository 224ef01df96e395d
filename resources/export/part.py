"""What exports add to the server."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.purge import KIND as PURGE
from fhir_server.interactions.purge import carry_on as purge
from fhir_server.interactions.registration import Operation
from fhir_server.jobs.run import Run
from resources.export.archives import ENDS, KIND, ended, forget
from resources.export.make import carry_on
from resources.export.requests import export_file, export_my_data, export_status
from resources.part import Part

TYPES = ("Patient",)


def join(context: Context) -> None:
    context.jobs.register(KIND, partial(carry_on, context))
    context.jobs.register(PURGE, partial(purged, context))
    context.timers.register(ENDS, partial(ended, context))


async def purged(context: Context, run: Run) -> bytes:
    """A purge of a patient takes the archives about the patient along, which no resource names."""
    if run.wanted.get("scope") == "patient":
        await forget(context, f"Patient/{run.wanted['id']}")
    return await purge(context, run)


PART = Part(
    "export",
    operations=(
        Operation(
            "export-my-data", f"{OWN}:export-my-data", export_my_data, types=TYPES, instance=True, affects_state=True
        ),
        Operation("export-status", f"{OWN}:export-status", export_status, types=TYPES, instance=True),
        Operation("export-file", f"{OWN}:export-file", export_file, types=TYPES, instance=True),
    ),
    join=join,
)
