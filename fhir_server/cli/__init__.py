"""The command line `healthsphere`: serve, load, examples, reindex, audit, config, version."""

from __future__ import annotations

import typer

from fhir_server.cli.audit import audit
from fhir_server.cli.config import config
from fhir_server.cli.examples import examples
from fhir_server.cli.load import load
from fhir_server.cli.reindex import reindex
from fhir_server.cli.serve import serve
from fhir_server.cli.version import version

app = typer.Typer(
    name="healthsphere",
    help="HealthSphere: a FHIR R4 server that takes real health records in and gives them back exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, load, examples, reindex, config, version):
    app.command()(command)
app.add_typer(audit)
