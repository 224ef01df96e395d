"""`healthsphere version`."""

from __future__ import annotations

import platform

from fhir_server.cli.say import out
from fhir_server.version import VERSION


def version() -> None:
    """Tell the version of HealthSphere, of FHIR, and of Python."""
    out.print(f"HealthSphere {VERSION} · FHIR 4.0.1 · Python {platform.python_version()}", highlight=False)
