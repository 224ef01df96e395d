"""`healthsphere audit verify` and `audit export`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner, Result

from fhir_server.cli import app
from tests.conftest import InProcessServer


@pytest.fixture
def server(make_server: Callable[..., InProcessServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessServer]:
    """A server with a few events on its trail, and the environment in which commands find it."""
    running = make_server(audit="on")
    for number in range(3):
        running.client.put(f"Patient/p{number}", json={"resourceType": "Patient", "id": f"p{number}"})
    running.client.get("AuditEvent?_summary=count")
    settings = running.settings
    assert settings.mongodb_uri is not None
    monkeypatch.setenv("MONGODB_URI", settings.mongodb_uri.get_secret_value())
    monkeypatch.setenv("HEALTHSPHERE_MONGODB_DATABASE", settings.mongodb_database)
    monkeypatch.setenv("HEALTHSPHERE_DATA_DIR", str(settings.data_dir))
    return running


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def database(server: InProcessServer) -> Any:
    assert server.settings.mongodb_uri is not None
    client: MongoClient[dict[str, Any]] = MongoClient(server.settings.mongodb_uri.get_secret_value())
    return client[server.settings.mongodb_database]


def test_verify_says_that_a_trail_is_whole(server: InProcessServer) -> None:
    result = run("verify")
    assert result.exit_code == 0, result.output
    assert "The audit trail is whole: batches 1 to" in result.stdout
    assert "AuditEvents compared" in result.stdout


def test_verify_names_the_batch_that_was_changed_and_ends_with_a_status_of_its_own(server: InProcessServer) -> None:
    with (found := database(server)).client:
        found["_audit"].update_one({"_id": 2}, {"$set": {"c": 7}})
    result = run("verify")
    assert result.exit_code == 3
    assert "At batch 2: its contents are not those that were written" in result.stderr


def test_verify_without_the_key_says_so(
    server: InProcessServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HEALTHSPHERE_AUDIT_KEY_FILE", str(tmp_path / "elsewhere"))
    result = run("verify", "--no-resources")
    assert result.exit_code == 0
    assert "The seals were not looked at" in result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_export_writes_the_audit_events_of_the_chain_in_its_order(server: InProcessServer) -> None:
    result = run("export")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout_bytes.splitlines()]
    assert {row["resourceType"] for row in rows} == {"AuditEvent"}
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    assert sum(row["action"] == "U" for row in rows) == 3
    later = [json.loads(line) for line in run("export", "--start", "2").stdout_bytes.splitlines()]
    expected = [row for row in rows if row["id"] >= "audit-0000000002"]
    assert later[: len(expected)] == expected, "the server goes on meanwhile"
