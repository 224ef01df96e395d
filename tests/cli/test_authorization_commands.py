"""`healthsphere client`, `token` and `keys`, on a database of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from joserfc.jwk import ECKey
from typer.testing import CliRunner

from fhir_server.cli import app
from fhir_server.cli.authorization import with_authorization
from smart_auth.app_state import STATES

REDIRECT = "https://app.example.org/callback"


class Runner:
    """Runs commands with settings of this test."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "240", **self.environment})
        assert result.exit_code == status, result.output + result.stderr
        return result.output


@pytest.fixture
def run(mongodb_uri: str, mongodb_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    environment = {
        "MONGODB_URI": mongodb_uri,
        "HEALTHSPHERE_MONGODB_DATABASE": mongodb_database,
        "HEALTHSPHERE_DATA_DIR": str(tmp_path / "data"),
        "HEALTHSPHERE_BASE_URL": "http://127.0.0.1:8123/fhir",
    }
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Runner(environment)


def identified(token: str) -> Any:
    with with_authorization(None) as (server, _):
        return server.bearer.identify(f"Bearer {token.strip()}")


def test_an_app_is_added_shown_listed_and_disabled(run: Runner) -> None:
    made = json.loads(run("client", "add", "My app", "--redirect-uri", REDIRECT, "--id", "my-app"))
    assert made == {"client_id": "my-app"}
    shown = json.loads(run("client", "show", "my-app"))
    assert (shown["auth_method"], shown["redirect_uris"]) == ("none", [REDIRECT])
    assert "offline_access" in shown["scope"]
    assert "my-app" in run("client", "list")
    assert "disabled" in run("client", "disable", "my-app")
    assert json.loads(run("client", "show", "my-app"))["active"] is False


def test_a_system_gets_a_secret_which_is_shown_once_and_can_be_replaced(run: Runner) -> None:
    made = json.loads(run("client", "add", "My system"))
    assert len(made["client_secret"]) >= 43
    shown = run("client", "show", made["client_id"])
    assert "secret_hash" not in shown
    assert json.loads(shown)["grant_types"] == ["client_credentials"]
    new = run("client", "rotate-secret", made["client_id"]).strip()
    assert len(new) >= 43
    assert new != made["client_secret"]


def test_a_system_that_signs_is_added_with_its_public_keys(run: Runner, tmp_path: Path) -> None:
    key = ECKey.generate_key("P-384", {"kid": "k-1"}, private=True)
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(key.as_dict(private=False)))
    made = json.loads(run("client", "add", "My system", "--jwks", str(file), "--scope", "system/Patient.rs"))
    shown = json.loads(run("client", "show", made["client_id"]))
    assert (shown["auth_method"], shown["scope"]) == ("private_key_jwt", "system/Patient.rs")
    assert shown["jwks"]["keys"][0]["kid"] == "k-1"
    file.write_text(json.dumps(key.as_dict(private=True)))
    run("client", "add", "My system", "--jwks", str(file), status=1)
    file.write_text("nonsense")
    run("client", "add", "My system", "--jwks", str(file), status=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("client", "add", "My app", "--redirect-uri", "http://app.example.org/cb"),
        ("client", "add", "My app", "--redirect-uri", REDIRECT, "--scope", "nonsense"),
        ("client", "add", "My app", "--redirect-uri", REDIRECT, "--id", "with space"),
        ("client", "show", "unknown"),
        ("client", "disable", "unknown"),
        ("client", "rotate-secret", "unknown"),
        ("token", "nonsense"),
        ("token", "patient/*.rs"),
        ("token", "patient/Nonsense.rs", "--patient", "1"),
        ("token", "user/*.rs", "--user", "nonsense"),
        ("token", "patient/*.rs", "--patient", "Group/1"),
    ],
)
def test_what_is_wrong_ends_the_command_with_one_line(run: Runner, arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(arguments), env=run.environment)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.output


def test_a_token_for_scripts_is_one_of_the_servers(run: Runner) -> None:
    token = run("token", "openid", "patient/*.rs", "--patient", "7", "--user", "Patient/7", "--minutes", "5")
    who = identified(token)
    assert (who.role, who.patient, who.fhir_user, who.client_id) == (
        "patient",
        "Patient/7",
        "Patient/7",
        "command-line",
    )
    assert who.scope == "openid patient/*.rs"


@pytest.mark.parametrize(
    ("arguments", "role"),
    [
        ((), "system"),
        (("--user", "Practitioner/1", "--organization", "1"), "practitioner"),
        (("--user", "Practitioner/1", "--role", "pharmacy"), "pharmacy"),
        (("--user", "RelatedPerson/1"), "proxy"),
    ],
)
def test_the_role_of_a_token_follows_from_its_user(run: Runner, arguments: tuple[str, ...], role: str) -> None:
    who = identified(run("token", "user/*.rs", *arguments))
    assert who.role == role


def test_signing_keys_are_listed_and_rotated(run: Runner) -> None:
    before = run("keys", "list")
    assert before.count("signs") == 2
    token = run("token", "system/*.rs")
    assert "made" in run("keys", "rotate")
    after = run("keys", "list")
    assert (after.count("signs"), after.count("later")) == (2, 2)
    assert identified(token).role == "system", "the old key still signs, and verifies for a day after"


def test_compromised_keys_end_with_what_they_signed(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fhir_server.cli.keys"], "SPREAD_S", 0)
    token = run("token", "system/*.rs")
    run("keys", "rotate", "--compromised")
    with pytest.raises(Exception, match="none of this server"):
        identified(token)
    assert identified(run("token", "system/*.rs")).role == "system"


def test_a_new_vault_key_is_one_that_the_vault_takes(run: Runner, tmp_path: Path) -> None:
    run("keys", "list")
    new = run("keys", "new-vault-key").strip()
    assert Fernet(new)
    file = tmp_path / "data" / "vault-key"
    old = file.read_text()
    file.write_text(f"{new}\n{old}")
    assert run("keys", "list").count("signs") == 2
    file.write_text(new)
    result = CliRunner().invoke(app, ["keys", "list"], env=run.environment)
    assert result.exit_code == 1
    assert "vault key is not the one of this server" in result.stderr


# --- the vault's key --------------------------------------------------------------------------------------------------


def test_the_vaults_key_is_replaced_and_the_old_one_is_then_needed_by_nothing(run: Runner, tmp_path: Path) -> None:
    run("keys", "list")  # makes the vault's key and the signing keys
    path = tmp_path / "data" / "vault-key"
    old = path.read_text().strip()
    with with_authorization(None) as (server, _):
        server.store.rows("accounts").insert_one(
            {
                "_id": "ida",
                "totp": {"secret": server.vault.sealed("seed"), "last_step": 7},
                "totp_new": server.vault.sealed("new seed"),
            }
        )
        server.store.rows("accounts").insert_one({"_id": "uwe"})
        server.store.rows(STATES).insert_one({"_id": "state", "sealed": server.vault.sealed("{}")})
    new = run("keys", "new-vault-key").strip()
    path.write_text(f"{new}\n{old}\n")
    assert "5 stored secrets" in run("keys", "reseal")
    path.write_text(f"{new}\n")
    assert "signs" in run("keys", "list")
    with with_authorization(None) as (server, _):
        row = server.store.rows("accounts").find_one({"_id": "ida"})
        assert row is not None
        assert server.vault.opened(row["totp"]["secret"]) == "seed"
        assert server.vault.opened(row["totp_new"]) == "new seed"
        assert row["totp"]["last_step"] == 7
        state = server.store.rows(STATES).find_one({"_id": "state"})
        assert state is not None
        assert server.vault.opened(state["sealed"]) == "{}"
    path.write_text(f"{old}\n")
    assert "cannot be opened" in run("keys", "list", status=1)


def test_a_secret_of_an_unknown_key_stops_the_resealing_and_says_so(run: Runner) -> None:
    run("keys", "list")
    with with_authorization(None) as (server, _):
        foreign = Fernet(Fernet.generate_key()).encrypt(b"seed")
        server.store.rows("accounts").insert_one({"_id": "ida", "totp_new": foreign})
    assert "cannot be opened" in run("keys", "reseal", status=1)


def test_everything_that_is_sealed_is_resealed() -> None:
    """A new use of `vault.sealed` must be named in `smart_auth.resealing`."""
    root = Path(__file__).parents[2] / "smart_auth"
    uses = {
        path.name: path.read_text().count("vault.sealed(")
        for path in root.rglob("*.py")
        if "vault.sealed(" in path.read_text()
    }
    assert uses == {"keys.py": 1, "credentials.py": 1, "app_state.py": 1}
