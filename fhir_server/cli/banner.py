"""What the person who started the server sees first: where it is, and what to open and try."""

from __future__ import annotations

import sys

from rich.console import Group, RenderableType
from rich.text import Text

from fhir_server.settings import Settings
from fhir_server.storage.check import host_of
from fhir_server.storage.embedded import EmbeddedMongo
from fhir_server.version import VERSION


def banner_of(settings: Settings, embedded: EmbeddedMongo | None) -> RenderableType:
    """The greeting; lines are never broken, so that commands can be copied."""
    root = settings.local_url
    token = f' -H "Authorization: Bearer $(cat {settings.access_token_file})"' if settings.auth == "on" else ""
    if embedded is not None:
        database = f"embedded, process {embedded.pid}, data in {settings.data_dir / 'mongodb'}"
    else:
        database = host_of(settings.mongodb_uri.get_secret_value() if settings.mongodb_uri else "")
    rows = [
        ("FHIR base", settings.base_url),
        ("MongoDB", database),
        ("", ""),
        ("Capabilities", f"curl {root}/fhir/metadata"),
        ("Patients", f"curl{token} '{root}/fhir/Patient?_count=3&_pretty=true'"),
        ("Start page", f"{root}/"),
        ("Health", f"{root}/health/ready"),
        ("Metrics", f"{root}/metrics"),
        ("Load files", f"{_command()} load --base-url {root}/fhir PATH…"),
        ("Stop", "Ctrl-C"),
    ]
    lines: list[Text] = [Text(f"\nHealthSphere {VERSION}, FHIR R4", style="bold green")]
    for name, value in rows:
        lines.append(Text.assemble((f"  {name:<13}", "bold"), value, no_wrap=True, overflow="ignore"))
    if settings.auth == "off":
        warning = "  Access control is OFF: every program on this machine can read and change all records.  "
        lines.append(Text(f"\n{warning}", style="bold black on yellow"))
    return Group(*lines, Text())


def _command() -> str:
    """How the command line was called, so that what is shown can be typed as it is."""
    return sys.argv[0] if sys.argv[0].endswith("healthsphere") else "healthsphere"
