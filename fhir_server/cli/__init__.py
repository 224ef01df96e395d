"""The command line `healthsphere`: serve, load, reindex, package, terminology, client, user, audit, feed, and so on."""

from __future__ import annotations

import typer

from fhir_server.cli.audit import audit
from fhir_server.cli.client import client
from fhir_server.cli.config import config
from fhir_server.cli.examples import examples
from fhir_server.cli.feed import feed
from fhir_server.cli.keys import keys
from fhir_server.cli.load import load
from fhir_server.cli.package import package
from fhir_server.cli.reindex import reindex
from fhir_server.cli.serve import serve
from fhir_server.cli.terminology import terminology
from fhir_server.cli.token import token
from fhir_server.cli.user import user
from fhir_server.cli.version import version

app = typer.Typer(
    name="healthsphere",
    help="HealthSphere: a FHIR R4 server that takes real health records in and gives them back exactly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (serve, load, examples, reindex, token, config, version):
    app.command()(command)
for group in (client, keys, package, terminology, user, audit, feed):
    app.add_typer(group)
