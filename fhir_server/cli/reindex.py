"""`healthsphere reindex`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from fhir_server.cli.database import with_database
from fhir_server.cli.say import err, out, plain_faults, settings_of
from fhir_server.logging import configure_logging
from fhir_server.settings import Settings


def reindex(
    types: Annotated[list[str] | None, typer.Argument(metavar="[TYPE]…", help="Resource types; all when none.")] = None,
    base_url: Annotated[
        str | None, typer.Option(help="FHIR base as clients see it; references below it count as local.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the server's own data.")] = None,
) -> None:
    """Make the search index again from the resources, after a change of the base URL or of what is indexed.

    With the embedded MongoDB the server must be stopped; with MONGODB_URI it may run.
    """
    with plain_faults(), ExitStack() as stack:
        settings = settings_of(base_url=base_url, data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        settings = stack.enter_context(with_database(settings))
        done_of = indexed(settings, types or ())
    out.print(f"Indexed {sum(done_of.values()):,} resources of {len(done_of)} types.", highlight=False)


def indexed(settings: Settings, types: Iterable[str]) -> dict[str, int]:
    """Index again while bars show how far it is; how many resources of each type that was."""
    from fhir_server.offline import reindex as run  # noqa: PLC0415  (heavy: only when it is used)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    done_of: dict[str, int] = {}
    with Progress(*columns, console=err) as bars:

        def progress(resource_type: str, done: int, total: int) -> None:
            if resource_type not in tasks:
                tasks[resource_type] = bars.add_task(resource_type, total=total)
            done_of[resource_type] = done
            bars.update(tasks[resource_type], completed=done, total=total)

        run(settings, tuple(types), progress)
    return done_of
