"""`healthsphere version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from fhir_server.cli.say import out


def version() -> None:
    """Tell the version of HealthSphere, of FHIR, and of Python."""
    out.print(f"HealthSphere {own_version()} · FHIR 4.0.1 · Python {platform.python_version()}", highlight=False)


def own_version() -> str:
    """The installed version; `unreleased` in a checkout that is not installed."""
    try:
        return version_of("healthsphere")
    except PackageNotFoundError:
        return "unreleased"
