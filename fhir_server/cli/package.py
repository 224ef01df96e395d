"""`healthsphere package`: definitions of others, such as US Core, put beside the server's own."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from fhir_server.cli.database import reached_database
from fhir_server.cli.reindex import indexed
from fhir_server.cli.say import SETUP_FAULT, err, out, plain_faults, say_error, say_warning, settings_of, table_of
from fhir_server.logging import configure_logging
from fhir_server.package_sources import Sources, read_file
from profiles.package import Package, PackageError

if TYPE_CHECKING:
    from fhir_server.packages import Report
    from fhir_server.settings import Settings

package = typer.Typer(name="package", help="Install FHIR packages: profiles, value sets, search parameters.")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]

#: Of the problems of a package so many are shown.
_MAX_SHOWN = 10


@package.command()
def add(
    named: Annotated[str, typer.Argument(metavar="FILE.tgz|NAME#VERSION", help="The package.")],
    data_dir: DataDir = None,
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder with packages: of this one by name, and of what it needs.")
    ] = None,
    reindex: Annotated[bool, typer.Option(help="Index what is stored for the search parameters that come.")] = True,
) -> None:
    """Install a package and what it depends on; a running server knows it within a second."""
    with plain_faults(), ExitStack() as stack:
        settings = settings_of(data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        try:
            wanted, sources = _found(named, folder, settings.package_registry)
            settings = stack.enter_context(reached_database(settings))
            from fhir_server.packages import add_package, settle  # noqa: PLC0415  (heavy: only when it is used)

            with err.status(f"Installing {wanted.id}") as status:
                report = add_package(settings, wanted, sources, status.update)
        except PackageError as error:
            say_error(f"{named}: {error}")
            raise typer.Exit(SETUP_FAULT) from None
        _tell(report)
        if report.types and reindex:
            with err.status("Waiting until every process knows the search parameters"):
                settle(settings)
            indexed(settings, report.types)
        elif report.types:
            say_warning(
                f"Run `healthsphere reindex {' '.join(report.types)}`: until then searches find later ones only."
            )


def _found(named: str, folder: Path | None, registry: str) -> tuple[Package, Sources]:
    """The package that is meant, and where what it needs is looked for."""
    path = Path(named)
    name, sign, version = named.partition("#")
    if path.is_file() or not sign or "/" in name:
        found = read_file(path)
        return found, Sources([*([folder] if folder else []), path.parent], registry)
    sources = Sources([folder] if folder else [], registry)
    wanted = sources.find(name, version)
    if wanted is None:
        places = [*([str(folder)] if folder else []), *([registry] if registry else [])]
        raise PackageError(
            f"there is none in {' and '.join(places)}."
            if places
            else "say where it is: --from FOLDER, or HEALTHSPHERE_PACKAGE_REGISTRY."
        )
    return wanted, sources


def _tell(report: Report) -> None:
    for one in report.installed:
        counted = ", ".join(f"{count} {name}" for name, count in one.counts.items())
        out.print(f"Installed {escape(one.id)}: {counted}.", highlight=False, soft_wrap=True)
        if one.missing:
            say_warning(
                f"{one.id} needs what is not there: {', '.join(one.missing)}. What it takes from there is told "
                "as not checked."
            )
        for problem in one.problems[:_MAX_SHOWN]:
            say_warning(f"{one.id}: {problem}")
        if len(one.problems) > _MAX_SHOWN:
            say_warning(f"{one.id}: {len(one.problems) - _MAX_SHOWN} more; `healthsphere package list --problems`.")
    if report.parameters:
        out.print(f"Search parameters: {', '.join(report.parameters)}.", highlight=False, soft_wrap=True)


@package.command("list")
def list_packages(
    data_dir: DataDir = None,
    problems: Annotated[bool, typer.Option(help="Show what was told when each was installed.")] = False,
) -> None:
    """List the packages that are installed."""
    with plain_faults(), ExitStack() as stack:
        settings: Settings = stack.enter_context(reached_database(settings_of(data_dir=data_dir)))
        from fhir_server.packages import installed_packages  # noqa: PLC0415  (heavy: only when it is used)

        found = installed_packages(settings)
    if not found:
        out.print("No package is installed.")
        return
    table = table_of("Package", "Title", "Definitions", "Needs, and is not there")
    for one in found:
        table.add_row(*map(escape, (one.id, one.title, str(sum(one.counts.values())), ", ".join(one.missing))))
    out.print(table, highlight=False)
    for one in found if problems else ():
        for problem in one.problems:
            out.print(f"{escape(one.id)}: {escape(problem)}", highlight=False, soft_wrap=True)


@package.command()
def remove(
    named: Annotated[str, typer.Argument(metavar="NAME#VERSION", help="The package.")],
    data_dir: DataDir = None,
    force: Annotated[bool, typer.Option("--force", help="Also where other packages need it.")] = False,
) -> None:
    """Take a package out of force; a running server knows it within a second. What is stored stays as it is."""
    with plain_faults(), ExitStack() as stack:
        settings: Settings = stack.enter_context(reached_database(settings_of(data_dir=data_dir)))
        from fhir_server.packages import remove_package  # noqa: PLC0415  (heavy: only when it is used)

        try:
            remove_package(settings, named, force=force)
        except PackageError as error:
            say_error(str(error))
            raise typer.Exit(SETUP_FAULT) from None
    out.print(f"Removed {escape(named)}.", highlight=False)
