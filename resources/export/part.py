"""What exports add to the server."""

from __future__ import annotations

from functools import partial

from fhir_server.interactions.context import Context
from fhir_server.interactions.operations import OWN
from fhir_server.interactions.registration import Operation
from resources.export.archives import ENDS, KIND, ended
from resources.export.make import carry_on
from resources.export.requests import export_file, export_my_data, export_status
from resources.part import Part

TYPES = ("Patient",)


def join(context: Context) -> None:
    context.jobs.register(KIND, partial(carry_on, context))
    context.timers.register(ENDS, partial(ended, context))


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
