"""Lets `python -m fhir_server.cli` stand for `healthsphere`, for child processes that must use the same Python."""

from fhir_server.cli import app

app(prog_name="healthsphere")
