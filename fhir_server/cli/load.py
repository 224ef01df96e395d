"""`healthsphere load`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from fhir_server.cli.say import plain_faults, settings_of
from fhir_server.load.options import LoadOptions
from fhir_server.settings import Settings, is_loopback
from smart_auth.operator_token import load_or_create


def load(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…", help="Files (.json, .ndjson, either with .gz), folders of them, or `-` for standard input."
        ),
    ],
    base_url: Annotated[
        str | None, typer.Option(help="FHIR base of the running server; by default the one that `make run` starts.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="Requests under way at once.")] = 4,
    rejects: Annotated[Path | None, typer.Option(help="File for what the server refused, with the reasons.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on where an interrupted load of the same files stopped.")] = True,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="HEALTHSPHERE_TOKEN",
            help="Access token (better in the environment than here, where others see it). "
            "For a server on this machine it is read from the data folder.",
        ),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Data folder of a server on this machine.")] = None,
) -> None:
    """Send files of FHIR resources into a running server. The exit status is 1 when anything was rejected."""
    with plain_faults():
        settings = settings_of(data_dir=data_dir)
        target = (base_url or settings.base_url).rstrip("/")
        bearer = token or own_token(settings, target)
    from fhir_server.load import run  # noqa: PLC0415  (heavy: only when it is used)

    report = run(
        LoadOptions(paths=tuple(paths), base_url=target, jobs=jobs, rejects=rejects, resume=resume, token=bearer)
    )
    raise typer.Exit(report.exit_code)


def own_token(settings: Settings, base_url: str) -> str | None:
    """The operator's token when the server is on this machine; another machine must never see it."""
    if is_loopback(urlsplit(base_url).hostname or "") and settings.access_token_file.is_file():
        return load_or_create(settings.access_token_file)
    return None
