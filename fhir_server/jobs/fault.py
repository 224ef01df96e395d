"""What may be kept of a failure: what it was and where, never its text, which may quote a record."""

from __future__ import annotations

import traceback
from pathlib import PurePath

from fhir_server.model.errors import FhirError


def fault_of(error: BaseException) -> str:
    """`KeyError in booked (reminders.py:12)`; of the kinds that clients see also the key, `GoneError HS-READ-GONE`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {frames[-1].name} ({PurePath(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    key = f" {error.issues[0].key}" if isinstance(error, FhirError) and error.issues else ""
    return f"{type(error).__name__}{key}{where}"
