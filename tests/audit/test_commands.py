"""`healthsphere audit verify` and `audit export`, and what other commands put on the trail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from typer.testing import CliRunner, Result

from fhir_server.audit.trail import Trail, behind
from fhir_server.cli import app
from fhir_server.cli.trail import operating_user, tell
from fhir_server.model.happening import Happening
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


# --- what commands change ---------------------------------------------------------------------------------------------


def command(*arguments: str, said: str = "") -> Result:
    result = CliRunner().invoke(app, list(arguments), input=said)
    assert result.exit_code == 0, result.output + result.stderr
    return result


def told(server: InProcessServer, code: str) -> list[dict[str, Any]]:
    """The AuditEvents of a kind of happening, the oldest first, as the running server shows them."""
    found = server.client.get(f"AuditEvent?subtype={code}&_sort=date").json()
    return [entry["resource"] for entry in found.get("entry", [])]


def test_what_commands_change_is_on_the_trail_of_the_server_that_runs_beside_them(server: InProcessServer) -> None:
    added = ("user", "add", "root@example.org", "--name", "Rosa Root")
    command(*added, said="tangerine gravel kazoo\n")
    server.client.put("Patient/p0", json={"resourceType": "Patient", "id": "p0", "active": True})
    command("client", "add", "My app", "--redirect-uri", "https://app.example.org/cb", "--id", "my-app")
    command("client", "disable", "my-app")
    command("keys", "rotate")
    command("token", "patient/*.rs", "--patient", "p1", "--user", "Patient/p1")
    (account,) = told(server, "110137")
    configured = told(server, "110129")
    (token,) = told(server, "ITI-71")
    details = [e["entity"][0]["description"] for e in (account, *configured)]
    assert details[0].startswith("account ")
    assert details[0].endswith(": added as administrator by operator")
    assert details[1:] == [
        "client my-app: registered by operator",
        "client my-app: disabled by operator",
        "signing keys rotated by operator, in good order",
    ]
    assert "patient/*.rs" in str(token["entity"])
    assert [e["what"]["reference"] for e in token["entity"] if "what" in e] == ["Patient/p1", "Patient/p1"]
    # Who did it is the user of the operating system: by name, with no account and no resource.
    for event in (account, *configured, token):
        program, _, person = event["agent"]
        assert program["who"] == {"identifier": {"value": "command-line"}}
        assert program["requestor"] is False
        assert (person["name"], person["requestor"]) == (operating_user(), True)
        assert "who" not in person
    whole = run("verify")
    assert whole.exit_code == 0, whole.output + whole.stderr


def test_commands_and_a_server_that_write_at_the_same_time_make_one_chain(server: InProcessServer) -> None:
    def write(number: int) -> None:
        for version in range(5):
            patient = {"resourceType": "Patient", "id": f"at-once-{number}", "active": version % 2 == 0}
            assert server.client.put(f"Patient/at-once-{number}", json=patient).status_code in (200, 201)

    settings = server.settings.model_copy(update={"audit": "on"})
    happenings = [Happening("client", client_id=f"app-{n}", detail="registered by operator") for n in range(10)]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(tell, settings, happening) for happening in happenings]
        waiting += [pool.submit(write, number) for number in range(4)]
        for future in waiting:
            future.result(timeout=120)
    named = [event["entity"][0]["description"] for event in told(server, "110129")]
    assert sorted(named) == sorted(f"client app-{n}: registered by operator" for n in range(10))
    whole = run("verify")
    assert whole.exit_code == 0, whole.output + whole.stderr


def test_a_command_says_when_its_record_is_not_confirmed(
    server: InProcessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: Trail, event: object) -> None:
        raise behind("The request was carried out")

    monkeypatch.setattr(Trail, "record", refuse)
    result = CliRunner().invoke(app, ["keys", "rotate"])
    assert result.exit_code == 1
    assert "its record on the audit trail is not confirmed" in result.stderr
    assert "Traceback" not in result.output


def test_where_the_trail_is_switched_off_a_command_writes_none(
    server: InProcessServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEALTHSPHERE_AUDIT", "off")
    command("keys", "rotate")
    assert told(server, "110129") == []
