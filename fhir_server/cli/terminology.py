"""`healthsphere terminology`: code systems from files, such as those that are too large for a resource."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.progress import Progress

from fhir_server.cli.database import reached_database
from fhir_server.cli.say import SETUP_FAULT, err, out, plain_faults, say_error, say_warning, settings_of, table_of
from fhir_server.logging import configure_logging

if TYPE_CHECKING:
    from fhir_server.settings import Settings

terminology = typer.Typer(name="terminology", help="Code systems from files, beside those that are stored.")

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]

#: Of the parents that are missing so many are shown.
_MAX_SHOWN = 5


@terminology.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="UTF-8; the first line names the columns.")],
    system: Annotated[str, typer.Option(help="Canonical URL of the code system.")],
    version: Annotated[str, typer.Option(help="Its version.")] = "",
    name: Annotated[str, typer.Option(help="What it is called; its URL where nothing is said.")] = "",
    language: Annotated[str, typer.Option(help="Language of the displays, such as en.")] = "",
    ignore_case: Annotated[bool, typer.Option("--ignore-case", help="`A` and `a` are the same code.")] = False,
    part: Annotated[bool, typer.Option("--part", help="The file has not all codes of the code system.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Put the concepts of a file in force; a running server knows them at once, and the earlier ones until then."""
    with plain_faults(), ExitStack() as stack:
        settings = settings_of(data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        from fhir_server.code_systems import import_csv  # noqa: PLC0415  (heavy: only when it is used)
        from fhir_server.terminology.csv_concepts import CsvError  # noqa: PLC0415
        from fhir_server.terminology.system import About  # noqa: PLC0415

        if not file.is_file():
            say_error(f"{file}: there is no such file.")
            raise typer.Exit(SETUP_FAULT)
        about = About(system, version, name or system, not part, not ignore_case, "", language)
        settings = stack.enter_context(reached_database(settings))
        progress = stack.enter_context(Progress(console=err, transient=True))
        task = progress.add_task("Concepts", total=None)
        try:
            done = import_csv(
                settings, file, about, lambda count, total: progress.update(task, completed=count, total=total)
            )
        except CsvError as error:
            say_error(f"{file}: {error}.")
            raise typer.Exit(SETUP_FAULT) from None
    out.print(f"{done.concepts} concepts of {escape(system)} are in force.", highlight=False, soft_wrap=True)
    if done.strangers:
        shown = ", ".join(done.strangers[:_MAX_SHOWN]) + (", …" if len(done.strangers) > _MAX_SHOWN else "")
        say_warning(f"{len(done.strangers)} parents are no codes of the file, and do not count: {shown}")


@terminology.command("list")
def list_systems(data_dir: DataDir = None) -> None:
    """List the code systems whose concepts are kept one by one: those of files, and big ones that are stored."""
    with plain_faults(), ExitStack() as stack:
        settings: Settings = stack.enter_context(reached_database(settings_of(data_dir=data_dir)))
        from fhir_server.code_systems import big_code_systems  # noqa: PLC0415  (heavy: only when it is used)

        rows = big_code_systems(settings)
    if not rows:
        out.print("There is none.")
        return
    table = table_of("Code system", "Version", "Concepts", "From", "State")
    for row in rows:
        origin = "a file" if row["o"].startswith("file:") else row["o"]
        table.add_row(*map(escape, (row["u"], row["v"], str(row["n"]), origin, row["state"])))
    out.print(table, highlight=False)


@terminology.command()
def remove(
    system: Annotated[str, typer.Argument(help="Canonical URL of the code system.")],
    version: Annotated[str | None, typer.Option(help="Its version; all versions where nothing is said.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Take what came from files out of force. Code systems that are stored as resources are deleted as these are."""
    with plain_faults(), ExitStack() as stack:
        settings: Settings = stack.enter_context(reached_database(settings_of(data_dir=data_dir)))
        from fhir_server.code_systems import remove_code_system  # noqa: PLC0415  (heavy: only when it is used)

        removed = remove_code_system(settings, system, version)
    if not removed:
        say_error(f"No file of {system} is in force.")
        raise typer.Exit(1)
    out.print(f"Removed {removed} of {escape(system)}.", highlight=False, soft_wrap=True)
