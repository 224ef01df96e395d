"""`healthsphere user`: accounts from the command line, on a database of their own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from fhir_server.accounts import providers_of, smtp_of
from fhir_server.cli import app
from fhir_server.settings import Settings
from fhir_server.storage.embedded import EmbeddedMongo
from fhir_server.storage.running import running_uri
from fhir_server.storage.setup import SetupError
from smart_auth.accounts import Accounts
from smart_auth.authorizations import Authorizations
from smart_auth.mail import Smtp
from smart_auth.model import Authorization, LaunchContext
from smart_auth.outside import Provider
from smart_auth.revocations import Revocations
from smart_auth.rows import now
from smart_auth.store import AuthStore

PASSWORD = "tangerine gravel kazoo"


@pytest.fixture
def user(mongodb_uri: str, mongodb_database: str, tmp_path: Path) -> Callable[..., Any]:
    """Runs `healthsphere user` with these arguments."""

    def run(*arguments: str, said: str = "", **environment: str) -> Any:
        known = {
            "COLUMNS": "200",
            "MONGODB_URI": mongodb_uri,
            "HEALTHSPHERE_MONGODB_DATABASE": mongodb_database,
            "HEALTHSPHERE_DATA_DIR": str(tmp_path),
        }
        return CliRunner().invoke(app, ["user", *arguments], input=said, env={**known, **environment})

    return run


def test_the_first_administrator_is_made_invites_lists_and_cannot_be_disabled(
    user: Callable[..., Any], mongodb_uri: str, mongodb_database: str
) -> None:
    made = user("add", "root@example.org", "--name", "Rosa Root", said=f"{PASSWORD}\n")
    assert made.exit_code == 0, made.output
    assert "root@example.org can sign in now as administrator." in made.output
    again = user("add", "ROOT@example.org", "--name", "Rosa Root", said=f"{PASSWORD}\n")
    assert (again.exit_code, "Another account has this address." in again.output) == (1, True)
    invited = user("invite", "dora@example.org", "--name", "Dora Doc", "--role", "practitioner")
    assert re.search(r"^http://127\.0\.0\.1:8000/auth/invitation\?token=\S{43}$", invited.output, re.MULTILINE)
    link = user("reset-password", "root@example.org", "--base-url", "https://fhir.example.org/fhir")
    assert re.search(r"^https://fhir\.example\.org/auth/reset\?token=\S{43}$", link.output, re.MULTILINE)
    listed = user("list").output
    assert re.search(r"root@example\.org.*Rosa Root.*administrator.*active", listed)
    assert re.search(r"dora@example\.org.*Dora Doc.*practitioner.*unverified", listed)
    assert "root" not in user("list", "dora").output
    refused = user("disable", "root@example.org")
    assert (refused.exit_code, "last administrator" in refused.output) == (1, True)
    assert user("disable", "dora@example.org").exit_code == 0
    store = AuthStore.connect(mongodb_uri, mongodb_database)
    row = Accounts(store).row_of_email("root@example.org")
    store.close()
    assert row is not None
    assert row["password"].startswith("$argon2id$")


def test_a_disabled_account_loses_what_it_had_allowed_to_apps(
    user: Callable[..., Any], mongodb_uri: str, mongodb_database: str
) -> None:
    assert user("add", "root@example.org", "--name", "Rosa Root", said=f"{PASSWORD}\n").exit_code == 0
    assert user("add", "aud@example.org", "--name", "A", "--role", "auditor", said=f"{PASSWORD}\n").exit_code == 0
    store = AuthStore.connect(mongodb_uri, mongodb_database)
    try:
        account_id = Accounts(store).row_of_email("aud@example.org")["_id"]  # type: ignore[index]
        revocations = Revocations(store)
        grants = Authorizations(store, revocations)
        grants.add(Authorization("grant-1", "app", account_id, "offline_access", LaunchContext(), now()))
        made_ms = int(now().timestamp() * 1000)
        assert user("disable", "aud@example.org").exit_code == 0
        assert grants.get("grant-1").revoked_at is not None  # type: ignore[union-attr]
        revocations.refresh()  # as a running server does, every so often
        assert revocations.meets("another-grant", "token", account_id, "app", made_ms)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("arguments", "said", "status", "says"),
    [
        (["add", "no-address", "--name", "X"], PASSWORD, 2, "This is no e-mail address."),
        (["add", "x@example.org", "--name", "X"], "short", 1, "at least 10 characters"),
        (
            ["add", "x@example.org", "--name", "X", "--role", "practitioner", "--fhir-user", "Practitioner/none"],
            PASSWORD,
            2,
            "There is no Practitioner/none.",
        ),
        (["disable", "nobody@example.org"], "", 1, "There is no account with the address nobody@example.org."),
        (["reset-password", "nobody@example.org"], "", 1, "There is no account"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    user: Callable[..., Any], arguments: list[str], said: str, status: int, says: str
) -> None:
    result = user(*arguments, said=f"{said}\n")
    assert result.exit_code == status
    assert says in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_command_finds_the_embedded_database_of_a_server_that_is_running(tmp_path: Path) -> None:
    assert running_uri(tmp_path) is None
    with EmbeddedMongo.start(tmp_path, cache_mb=256) as embedded:
        assert running_uri(tmp_path) == embedded.uri
    assert running_uri(tmp_path) is None


# --- settings ---------------------------------------------------------------------------------------------------------


def test_mails_leave_by_smtp_only_where_a_server_is_set() -> None:
    assert smtp_of(Settings()) is None
    settings = Settings(
        smtp_host="mail.example.org", smtp_user="me", smtp_password=SecretStr("sesame"), mail_from="a@example.org"
    )
    assert smtp_of(settings) == Smtp("mail.example.org", 587, "a@example.org", "starttls", "me", "sesame")
    assert "sesame" not in repr(settings)


def test_outside_providers_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "providers.json"
    path.write_text('[{"id":"nhl","name":"Health","issuer":"https://x","client_id":"c","client_secret":"s"}]')
    assert providers_of(Settings(openid_providers_file=path)) == (Provider("nhl", "Health", "https://x", "c", "s"),)
    assert providers_of(Settings()) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '[{"id":"nhl"}]',
        '[{"id":"a/b","name":"H","issuer":"i","client_id":"c","client_secret":"s"}]',
        '[{"id":"a","name":"H","issuer":"i","client_id":"c","client_secret":"s"},'
        '{"id":"a","name":"H","issuer":"i","client_id":"c","client_secret":"s"}]',
    ],
)
def test_a_file_of_providers_that_cannot_be_used_stops_the_start_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "providers.json"
    path.write_text(text)
    with pytest.raises(SetupError, match="providers"):
        providers_of(Settings(openid_providers_file=path))


def test_a_role_that_needs_a_second_factor_must_be_one() -> None:
    assert Settings(second_factor_roles="none").second_factor_roles == ()  # type: ignore[arg-type]
    assert Settings(second_factor_roles="auditor, pharmacy").second_factor_roles == ("auditor", "pharmacy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is no role"):
        Settings(second_factor_roles="king")  # type: ignore[arg-type]
