"""How the command line speaks: answers on standard output, everything else on standard error, faults in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict, Unpack

import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from rich.console import Console
from rich.table import Table

from fhir_server.secret_files import PREFIX, SecretFileError, variable_of
from fhir_server.settings import Settings, secret_settings
from fhir_server.storage.setup import SetupError
from smart_auth.operator_token import TokenFileError
from smart_auth.vault import VaultError

out = Console()
err = Console(stderr=True)

SETUP_FAULT, WRONG_SETTING = 1, 2


def say_error(text: str) -> None:
    """One line on standard error, not broken by the width of the terminal."""
    err.print(f"[bold red]Error:[/] {_escaped(text)}", highlight=False, soft_wrap=True)


def say_warning(text: str) -> None:
    err.print(f"[bold yellow]Warning:[/] {_escaped(text)}", highlight=False, soft_wrap=True)


def table_of(*columns: str) -> Table:
    """An empty table, which breaks long words rather than leave them out."""
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


@contextmanager
def plain_faults() -> Iterator[None]:
    """Turn what a person can put right into one line and an exit status; a fault of ours keeps its traceback."""
    try:
        yield
    except (SetupError, TokenFileError, VaultError) as error:
        say_error(str(error))
        raise typer.Exit(SETUP_FAULT) from None
    except SecretFileError as error:
        say_error(f"{error}.")
        raise typer.Exit(WRONG_SETTING) from None
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            say_error(_sentence(detail))
        raise typer.Exit(WRONG_SETTING) from None


def _sentence(detail: ErrorDetails) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return f"{message}."
    field = str(detail["loc"][0])
    variable = field if field.startswith(PREFIX) else variable_of(field)
    secret = field.lower().removeprefix(PREFIX.lower()) in (*secret_settings(), "mongodb_uri")
    found = "" if secret or "URI" in variable else f" (found {str(detail['input'])[:80]!r})"
    return f"{variable} or --{field.lower().removeprefix(PREFIX.lower()).replace('_', '-')}: {message}{found}."


class Given(TypedDict, total=False):
    """Settings that the command line may give."""

    host: str | None
    port: int | None
    workers: int | None
    data_dir: object | None
    base_url: str | None
    auth: str | None
    log_level: str | None
    log_format: str | None


def settings_of(**given: Unpack[Given]) -> Settings:
    """The settings: what the command line gives, then the environment, then the defaults."""
    return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
