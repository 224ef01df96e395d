"""`healthsphere audit verify` and `healthsphere audit export`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from fhir_server.cli.database import with_database
from fhir_server.cli.say import err, out, plain_faults, say_error, say_warning, settings_of
from fhir_server.logging import configure_logging

BROKEN = 3

audit = typer.Typer(
    name="audit", help="The audit trail: prove that it is whole, take it out.", no_args_is_help=True
)  # fmt: skip

DataDir = Annotated[Path | None, typer.Option(help="Folder of the server's own data.")]


@audit.command()
def verify(
    data_dir: DataDir = None,
    resources: Annotated[bool, typer.Option(help="Compare the AuditEvents with the chain, too.")] = True,
) -> None:
    """Walk the chain and name the first batch that is not as it was written; status 3 when there is one.

    With the embedded MongoDB the server must be stopped; with MONGODB_URI it may run.
    """
    with plain_faults(), ExitStack() as stack:
        settings = settings_of(data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        settings = stack.enter_context(with_database(settings))
        from fhir_server.offline import verify_audit  # noqa: PLC0415  (heavy: only when it is used)

        with err.status("Walking the chain"):
            report = verify_audit(settings, resources=resources)
    span = f"batches {report.first:,} to {report.last:,}" if report.last >= report.first else "no batch"
    for what in report.differing:
        say_error(f"{what}.")
    if report.differences > len(report.differing):
        say_error(f"{report.differences - len(report.differing):,} further AuditEvents are not as they were made.")
    if report.fault:
        place = f"At batch {report.broken_at}: " if report.broken_at is not None else ""
        say_error(f"{place}{report.fault}. Whole before that: {span}, {report.events:,} events.")
    if not report.whole:
        raise typer.Exit(BROKEN)
    if not settings.audit_key_file.exists():
        say_warning(f"The seals were not looked at: there is no key file {settings.audit_key_file}.")
    compared = f", {report.resources:,} AuditEvents compared" if resources else ""
    out.print(f"The audit trail is whole: {span}, {report.events:,} events{compared}.", highlight=False)
    if report.last:
        out.print(f"Its head is {report.digest.hex()}.", highlight=False, soft_wrap=True)


@audit.command()
def export(
    data_dir: DataDir = None,
    start: Annotated[int, typer.Option(min=1, help="The first batch that is written.")] = 1,
) -> None:
    """Write the AuditEvents of the chain as NDJSON to standard output, in its order, made of the batches themselves."""
    with plain_faults(), ExitStack() as stack:
        settings = settings_of(data_dir=data_dir)
        configure_logging("warning", settings.log_format)
        settings = stack.enter_context(with_database(settings))
        from fhir_server.offline import export_audit  # noqa: PLC0415  (heavy: only when it is used)

        export_audit(settings, start, lambda line: sys.stdout.buffer.write(line + b"\n"))
        sys.stdout.buffer.flush()
