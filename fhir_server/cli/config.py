"""`healthsphere config`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr
from rich.table import Table

from fhir_server.cli.say import out, plain_faults, settings_of
from fhir_server.secret_files import secret_file_variables, variable_of
from fhir_server.settings import Settings, secret_settings
from fhir_server.storage.check import host_of


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show the settings in effect, and where each comes from; secrets are hidden."""
    with plain_faults():
        settings = settings_of()
    rows = {name: (_shown(getattr(settings, name)), _source(name)) for name in Settings.model_fields}
    if as_json:
        listed = {name: {"value": value, "source": source} for name, (value, source) in rows.items()}
        typer.echo(json.dumps(listed, indent=2))
        return
    table = Table(title="Settings in effect", title_justify="left")
    for column in ("Variable", "Value", "From"):
        table.add_column(column, overflow="fold", no_wrap=column == "Variable")
    for name, (value, source) in rows.items():
        table.add_row(variable_of(name), "" if value is None else str(value), source)
    out.print(table, highlight=False, markup=False)


def _shown(value: object) -> str | int | None:
    match value:
        case SecretStr() if (secret := value.get_secret_value()).startswith("mongodb"):
            return f"(hidden) {host_of(secret)}"
        case SecretStr():
            return "(hidden)"
        case tuple():
            return ",".join(value) or "none"
        case None | int():
            return value
        case _:
            return str(value)


def _source(name: str) -> str:
    variables = [variable_of(name)] + (["MONGODB_URI"] if name == "mongodb_uri" else [])
    variables += secret_file_variables(name) if name in secret_settings() else ()
    lower = {variable.lower(): variable for variable, value in os.environ.items() if value}
    return next((lower[variable.lower()] for variable in variables if variable.lower() in lower), "default")


def default_of(name: str) -> str:
    """The default of a setting, as the table of settings in the documentation shows it."""
    default = Settings.model_fields[name].default
    if default in (None, "", Path()):
        return "(empty)"
    return f"`{','.join(default) if isinstance(default, tuple) else default}`"
