"""Settings: their order of precedence, what is derived, and that worker processes get the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from fhir_server.secret_files import SecretFileError, secret_file_variables
from fhir_server.settings import Settings, is_loopback, secret_settings


@pytest.fixture(autouse=True)
def _no_database_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGODB_URI", raising=False)


def test_what_is_given_goes_before_the_environment_and_that_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().port == 8000
    monkeypatch.setenv("HEALTHSPHERE_PORT", "9000")
    assert Settings().port == 9000
    assert Settings(port=9001).port == 9001


def test_an_empty_variable_is_as_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTHSPHERE_PORT", "")
    monkeypatch.setenv("HEALTHSPHERE_MONGODB_URI", "")
    assert Settings().port == 8000
    assert Settings().mongodb_uri is None


@pytest.mark.parametrize("variable", ["MONGODB_URI", "HEALTHSPHERE_MONGODB_URI"])
def test_the_database_may_be_named_by_either_variable(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "mongodb://me:sesame@db/")
    settings = Settings()
    assert settings.mongodb_uri == SecretStr("mongodb://me:sesame@db/")
    assert "sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/fhir"),
        ("::1", "http://[::1]:8000/fhir"),
        ("0.0.0.0", "http://127.0.0.1:8000/fhir"),
        ("fhir.example.org", "http://fhir.example.org:8000/fhir"),
    ],
)
def test_the_base_url_follows_host_and_port_when_it_is_not_given(host: str, base: str) -> None:
    assert Settings(host=host).base_url == base


def test_the_token_file_is_in_the_data_folder_unless_it_is_given(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).access_token_file == tmp_path / "access-token"
    assert Settings(data_dir=tmp_path, access_token_file=Path("/etc/token")).access_token_file == Path("/etc/token")


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"port": 9, "host": "::1", "auth": "off", "cors_origins": ()},
        {"cors_origins": "https://a.example, https://b.example/", "mongodb_uri": "mongodb://u:p@h/?replicaSet=rs0"},
    ],
)
def test_a_worker_process_makes_the_same_settings_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, object]
) -> None:
    settings = Settings(**given)  # type: ignore[arg-type]
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "fhir.example.org"])
def test_access_control_cannot_be_off_where_others_reach_the_server(host: str) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        Settings(host=host, auth="off")


@pytest.mark.parametrize("base", ["fhir", "ftp://x/fhir", "http:///fhir", "http://x/fhir?y", "http://x/fhir#y"])
def test_a_base_url_that_is_no_absolute_http_address_is_refused(base: str) -> None:
    with pytest.raises(ValidationError, match="must look like"):
        Settings(base_url=base)


def test_loopback_is_told_from_other_addresses() -> None:
    assert [host for host in ("localhost", "127.0.0.1", "127.8.8.8", "::1") if not is_loopback(host)] == []
    assert [
        host for host in ("0.0.0.0", "::", "10.0.0.1", "example.org", "127.0.0.1.example.org", "") if is_loopback(host)
    ] == []


def test_a_secret_may_come_from_a_file_and_its_own_variable_goes_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text("open sesame\n")
    monkeypatch.setenv("HEALTHSPHERE_SMTP_PASSWORD_FILE", str(secret))
    assert Settings().smtp_password == SecretStr("open sesame")
    assert "sesame" not in repr(Settings())
    monkeypatch.setenv("HEALTHSPHERE_SMTP_PASSWORD", "another")
    assert Settings().smtp_password == SecretStr("another")


@pytest.mark.parametrize("name", secret_settings())
def test_every_secret_may_come_from_a_file(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(secret_settings()) > 3
    (tmp_path / "secret").write_text("mongodb://me:a-secret-of-some-length@db/")
    for variable in secret_file_variables(name):
        monkeypatch.setenv(variable, str(tmp_path / "secret"))
        assert getattr(Settings(), name) == SecretStr("mongodb://me:a-secret-of-some-length@db/")
        monkeypatch.delenv(variable)
    assert getattr(Settings(), name) is None


def test_a_secret_whose_file_cannot_be_read_is_no_empty_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEALTHSPHERE_SMTP_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(SecretFileError, match=r"HEALTHSPHERE_SMTP_PASSWORD_FILE names .*none, which cannot be read"):
        Settings()


@pytest.mark.parametrize(("given", "kept"), [("none", ()), ("10.0.0.1, fd00::/8", ("10.0.0.1", "fd00::/8"))])
def test_trusted_proxies_are_addresses_and_networks(given: str, kept: tuple[str, ...]) -> None:
    assert Settings(trusted_proxies=given).trusted_proxies == kept  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["*", "proxy.example", "10.0.0.0/33", "10.0.0.1/8"])
def test_a_proxy_by_name_or_anybody_is_refused(given: str) -> None:
    with pytest.raises(ValidationError, match="neither an address nor a network"):
        Settings(trusted_proxies=given)  # type: ignore[arg-type]
