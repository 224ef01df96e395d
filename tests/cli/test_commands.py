"""What the commands print and with which status they end, without a server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import fhir_server.load
from fhir_server.cli import app
from fhir_server.load import LoadOptions, LoadReport
from fhir_server.secret_files import variable_of
from fhir_server.settings import Settings

TOKEN = "a-token-of-more-than-twenty-characters"


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MONGODB_URI", raising=False)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[LoadOptions]:
    """The loads that were asked for; none is done."""
    asked: list[LoadOptions] = []

    def run(options: LoadOptions) -> LoadReport:
        asked.append(options)
        return LoadReport(rejected=len(options.paths) - 1)

    monkeypatch.setattr(fhir_server.load, "run", run)
    return asked


def run(*arguments: str, **environment: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


def test_help_lists_the_commands() -> None:
    text = run("--help").output
    for command in ("serve", "load", "examples", "reindex", "config", "version"):
        assert re.search(rf"\b{command}\b", text)


def test_version_tells_the_version_of_fhir_too() -> None:
    assert re.match(r"HealthSphere \S+ · FHIR 4\.0\.1 · Python 3\.", run("version").output)


def test_config_lists_every_setting_with_its_source() -> None:
    listed = json.loads(run("config", "--json", HEALTHSPHERE_PORT="9000", HEALTHSPHERE_HOST="").output)
    assert set(listed) == set(Settings.model_fields)
    assert listed["port"] == {"value": 9000, "source": "HEALTHSPHERE_PORT"}
    assert listed["host"] == {"value": "127.0.0.1", "source": "default"}
    assert listed["base_url"] == {"value": "http://127.0.0.1:9000/fhir", "source": "default"}


def test_config_shows_the_table_for_people() -> None:
    text = run("config").output
    assert all(variable_of(name) in text for name in Settings.model_fields)


@pytest.mark.parametrize("variable", ["MONGODB_URI", "HEALTHSPHERE_MONGODB_URI"])
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_config_hides_the_password_of_the_database(variable: str, form: list[str]) -> None:
    text = run(
        "config", *form, **{variable: "mongodb://me:sesame@db.example.org/?tlsCertificateKeyFilePassword=unlock-me"}
    ).output
    assert "sesame" not in text
    assert "unlock-me" not in text
    assert "(hidden) db.example.org" in text
    assert variable in text


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["serve", "--auth", "off", "--host", "0.0.0.0"], {}, "auth=off is possible on a loopback address only"),
        (["config"], {"HEALTHSPHERE_PORT": "http"}, "HEALTHSPHERE_PORT or --port: Input should be a valid integer"),
        (
            ["config"],
            {"HEALTHSPHERE_BASE_URL": "fhir.example.org"},
            "HEALTHSPHERE_BASE_URL or --base-url: must look like",
        ),
        (["config"], {"HEALTHSPHERE_MAX_PAGE_SIZE": "5"}, "default_page_size (20) is above max_page_size (5)"),
        (["config"], {"HEALTHSPHERE_MONGODB_DATABASE": "a b"}, "HEALTHSPHERE_MONGODB_DATABASE or --mongodb-database"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(arguments: list[str], environment: dict[str, str], said: str) -> None:
    result = run(*arguments, **environment)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_load_goes_to_the_server_of_make_run_when_nothing_is_said(loads: list[LoadOptions]) -> None:
    assert run("load", "a.json").exit_code == 0
    assert loads == [LoadOptions(paths=("a.json",))]


def test_load_ends_with_status_1_when_something_was_rejected(loads: list[LoadOptions]) -> None:
    assert run("load", "a.json", "b.ndjson.gz", "--jobs", "3", "--no-resume", "--rejects", "r.ndjson").exit_code == 1
    assert loads == [LoadOptions(paths=("a.json", "b.ndjson.gz"), jobs=3, resume=False, rejects=Path("r.ndjson"))]


def test_load_reads_the_token_of_a_server_on_this_machine(loads: list[LoadOptions]) -> None:
    Path("data").mkdir()
    Path("data/access-token").write_text(TOKEN)
    run("load", "a.json")
    run("load", "a.json", "--base-url", "http://[::1]:9000/fhir/")
    assert [(load.token, load.base_url) for load in loads] == [
        (TOKEN, "http://127.0.0.1:8000/fhir"),
        (TOKEN, "http://[::1]:9000/fhir"),
    ]


def test_load_never_sends_the_token_of_this_machine_elsewhere(loads: list[LoadOptions]) -> None:
    Path("data").mkdir()
    Path("data/access-token").write_text(TOKEN)
    run("load", "a.json", "--base-url", "https://fhir.example.org/fhir")
    run("load", "a.json", "--base-url", "https://127.0.0.1.example.org/fhir")
    run("load", "a.json", "--base-url", "https://fhir.example.org/fhir", HEALTHSPHERE_TOKEN="given")
    assert [load.token for load in loads] == [None, None, "given"]


def test_examples_are_generated_once_and_loaded_until_nothing_is_rejected(loads: list[LoadOptions]) -> None:
    for _ in range(2):
        assert run("examples", "--count", "2").exit_code == 0
    assert len(loads) == 1
    files = sorted(Path(loads[0].paths[0]).iterdir())
    assert len(files) == 2
    for file in files:
        bundle = json.loads(file.read_text())
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction")
        # Updates under ids of their own: a load that was interrupted goes on without making anything twice.
        for entry in bundle["entry"]:
            resource = entry["resource"]
            assert entry["fullUrl"] == f"urn:uuid:{resource['id']}"
            assert entry["request"] == {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
