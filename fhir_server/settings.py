"""Every setting of the server, each of them an environment variable `HEALTHSPHERE_…`.

One table for people, `docs/settings.md`, holds the same names, defaults and descriptions; a test compares the two.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from fhir_server.model.access import Role
from fhir_server.secret_files import PREFIX, SecretFiles, secrets_of, variable_of
from fhir_server.setting_groups import CareSettings, TerminologySettings, ValidationSettings


class Settings(CareSettings, TerminologySettings, ValidationSettings):
    """What an operator can choose; command-line options go before the environment, the environment before defaults."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_by_name=True
    )

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="Server processes; several use several processor cores.")
    base_url: str = Field(
        "",
        description="Address of the FHIR base as clients see it, when a proxy stands in front. "
        "Empty: `http://<host>:<port>/fhir`, or `https` with a certificate.",
    )
    tls_cert_file: Path = Field(
        Path(), description="File with the server's certificate and those above it (PEM): the server then speaks https."
    )
    tls_key_file: Path = Field(
        Path(), description="File with the private key of the certificate (PEM). Empty: it is in `tls_cert_file`."
    )
    tls_key_password: SecretStr | None = Field(None, description="Password of the private key's file.")
    plain_http: Literal["refuse", "allow"] = Field(
        "refuse",
        description="Whether others on the network may reach the server without TLS. With `refuse` it does not start "
        "on such an address unless it has a certificate, or `base_url` is https by a proxy.",
    )
    hsts_seconds: int = Field(
        15_552_000,
        ge=0,
        le=63_072_000,
        description="Seconds for which browsers use https alone after a visit (HSTS), when `base_url` is https. "
        "0: nothing is said.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Addresses or networks of the proxies in front, separated by commas; who they say sends a request "
        "(`X-Forwarded-For`, `X-Forwarded-Proto`) is believed. `none`: nobody is.",
    )
    auth: Literal["on", "off"] = Field(
        "on", description="Whether requests need an access token. `off` is possible on a loopback address only."
    )
    access_token_file: Path = Field(
        Path(),
        description="File with the operator's access token, made at the first start. "
        "Empty: `access-token` in the data folder.",
    )
    access_token_minutes: int = Field(
        60, ge=1, le=1440, description="Minutes for which an access token of an app with a user is good."
    )
    refresh_token_days: int = Field(
        180,
        ge=1,
        le=3650,
        description="Days for which an app keeps the access that a user gave it, when the user chose no shorter time.",
    )
    signing_key_days: int = Field(
        90, ge=1, le=3650, description="Days after which the keys that sign tokens are replaced."
    )
    client_registration: Literal["off", "open", "token"] = Field(
        "off",
        description="Whether apps may register themselves: not at all, anybody's that users authorize one by one, or "
        "those with `client_registration_token`.",
    )
    client_registration_token: SecretStr | None = Field(
        None, min_length=20, description="Initial access token with which apps register themselves."
    )
    audit: Literal["on", "off"] = Field(
        "on", description="Whether requests are put on the audit trail. `off` is possible on a loopback address only."
    )
    audit_days: int = Field(
        2555, ge=0, le=36_500, description="Days that the audit trail is kept; 0 keeps it for ever."
    )
    audit_key_file: Path = Field(
        Path(),
        description="File with the keys that seal the audit trail, one a line, made at the first start; the first one "
        "seals. Empty: `audit-key` in the data folder.",
    )
    data_dir: Path = Field(Path("data"), description="Folder of the server's own data: embedded MongoDB, token, logs.")
    mongodb_uri: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices(f"{PREFIX}MONGODB_URI", "MONGODB_URI"),
        description="Connection string of a MongoDB replica set or sharded cluster; `MONGODB_URI` works too. "
        "Empty: an embedded MongoDB in the data folder.",
    )
    mongodb_database: str = Field("healthsphere", pattern=r"^[A-Za-z0-9_-]{1,60}$", description="Name of the database.")
    mongodb_cache_mb: int = Field(
        1024, ge=256, le=1_048_576, description="Memory that the embedded MongoDB may use as its cache, in MiB."
    )
    max_body_bytes: int = Field(256 * 2**20, ge=1024, description="Largest request body that is read, in bytes.")
    max_binary_bytes: int = Field(
        2**30, ge=1024, description="Largest content of a Binary that is sent as it is, in bytes."
    )
    max_resource_bytes: int = Field(
        14 * 2**20, ge=1024, le=15 * 2**20, description="Largest resource, as JSON, in bytes; MongoDB ends at 16 MiB."
    )
    max_url_bytes: int = Field(32 * 1024, ge=256, le=2**20, description="Longest address of a request, in bytes.")
    max_header_bytes: int = Field(
        64 * 1024, ge=1024, le=2**20, description="Most bytes that a request's headers may have."
    )
    max_concurrent_requests: int = Field(
        500, ge=1, description="Requests that one process works on at once; further ones are sent away with 503."
    )
    client_requests_per_minute: int = Field(
        60_000,
        ge=0,
        description="Requests a minute that one process takes from one app with one user; 0: any number. "
        "Further ones are sent away with 429.",
    )
    address_requests_per_minute: int = Field(
        120_000, ge=0, description="The same for one network address; 0: any number."
    )
    auth_requests_per_minute: int = Field(
        1200,
        ge=0,
        description="Requests a minute that one process takes for signing in, tokens and registrations from one "
        "network address, and for tokens from one app with a secret or a key; 0: any number.",
    )
    messages_per_minute: int = Field(
        60, ge=0, description="Messages a minute that one person may write; 0: any number."
    )
    sms_webhook: SecretStr | None = Field(None, description="Address to which SMS are handed as JSON. Empty: no SMS.")
    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts at private addresses that the server may fetch key sets from, separated by commas. `none`: "
        "it connects to public addresses only.",
    )
    metrics_access: Literal["local", "open"] = Field(
        "local",
        description="Who may read `/metrics` while `auth` is on: programs on this machine and the operator's token, or "
        "everybody.",
    )
    max_bundle_entries: int = Field(50_000, ge=1, description="Most entries that a batch or transaction may have.")
    default_page_size: int = Field(20, ge=1, description="Matches on a page when the request has no `_count`.")
    max_page_size: int = Field(1000, ge=1, description="Most matches on a page, whatever `_count` asks for.")
    text_search: Literal["off", "narrative", "all"] = Field(
        "narrative",
        description="Words that are indexed: of narratives, for `_text`, or of all content, for `_text` and "
        "`_content`. After a change, run `healthsphere reindex`.",
    )
    max_search_parameters: int = Field(100, ge=1, le=1000, description="Most parameters of one search.")
    max_search_values: int = Field(5000, ge=1, description="Most values of one search, over all its parameters.")
    max_chain_depth: int = Field(
        5, ge=1, le=20, description="Most steps from resource to resource in one search parameter (chains, `_has`)."
    )
    max_includes: int = Field(1000, ge=1, description="Most resources that are included with one page of matches.")
    max_include_rounds: int = Field(
        8, ge=1, le=50, description="How often `:iterate` goes on from what was included to further resources."
    )
    query_time_ms: int = Field(
        60_000, ge=1, le=3_600_000, description="Longest time that one query may take in the database, in milliseconds."
    )
    referential_integrity: Literal["allow", "refuse"] = Field(
        "allow",
        description="Whether references may lead nowhere. `refuse` refuses to write such references, and to delete "
        "what others refer to.",
    )
    conditional_delete_limit: int = Field(
        1, ge=1, le=10_000, description="Most resources that one conditional delete may delete."
    )
    cascade_limit: int = Field(
        1000, ge=1, le=100_000, description="Most resources that a delete with `_cascade=delete` may delete."
    )
    job_lease_s: int = Field(
        30,
        ge=1,
        le=3600,
        description="Seconds after which the background jobs of a process that says nothing any more are taken over.",
    )
    job_days: int = Field(
        30, ge=1, le=3650, description="Days for which it can be asked what came of a background job that has ended."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        ("auto",),
        description="Origins whose web pages may call the server, separated by commas; `*` is any, `none` is none. "
        "`auto` is any while `auth` is on, and pages of this machine while it is off.",
    )
    gzip_min_bytes: int = Field(1024, ge=0, description="Smallest answer that is compressed, in bytes.")
    shutdown_grace_s: int = Field(
        15, ge=0, le=3600, description="Seconds that running requests may take to finish when the server stops."
    )
    vault_key_file: Path = Field(
        Path(),
        description="File with the key that encrypts stored secrets, made at the first start; back it up apart from "
        "the database. Empty: `vault-key` in the data folder.",
    )
    self_registration: Literal["on", "off"] = Field("on", description="Whether patients may register by themselves.")
    doctor_applications: Literal["on", "off"] = Field("on", description="Whether doctors may apply for an account.")
    doctor_approvals: int = Field(
        2, ge=1, le=5, description="How many administrators must verify a doctor before the account is active."
    )
    second_factor_roles: Annotated[tuple[str, ...], NoDecode] = Field(
        ("administrator",),
        description="Roles that may not sign in with a password alone, separated by commas; `none` is none.",
    )
    session_idle_minutes: int = Field(
        60, ge=1, le=1440, description="Minutes without use after which somebody is signed out."
    )
    session_hours: int = Field(12, ge=1, le=168, description="Hours after which somebody is signed out in any case.")
    smtp_host: str = Field(
        "", description="SMTP server for mails. Empty: mails are kept for administrators to read at `/auth/admin/mail`."
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the SMTP server.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="How mails are encrypted on their way to the SMTP server."
    )
    smtp_user: str = Field("", description="User at the SMTP server; empty for none.")
    smtp_password: SecretStr | None = Field(None, description="Password at the SMTP server.")
    mail_from: str = Field(
        "HealthSphere <no-reply@localhost.localdomain>", min_length=3, description="Sender of mails."
    )
    openid_providers_file: Path = Field(
        Path(),
        description="JSON file with outside OpenID providers by which people may sign in (see accounts). Empty: none.",
    )
    roles_file: Path = Field(
        Path(),
        description="TOML file with the table of roles, in place of the built-in one. Empty: the built-in one.",
    )
    consent_default: Literal["permit", "deny"] = Field(
        "permit", description="Whether treatment may see what no Consent of the patient speaks of."
    )
    break_glass_minutes: int = Field(
        240, ge=1, le=10_080, description="Longest time for which a record can be opened by breaking the glass."
    )
    brand_name: str = Field(
        "HealthSphere", min_length=1, description="Name of who runs the server, as apps show it to people."
    )
    brand_website: str = Field(
        "", description="Website of who runs the server; it names the brand. Empty: the server's own address."
    )
    brand_file: Path = Field(
        Path(), description="JSON file with more about the brand: logo, addresses, portal (see smart). Empty: none."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Form of the log lines; `auto` is `console` on a terminal and `json` elsewhere."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A variable goes before a file that another variable names."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @field_validator("second_factor_roles", mode="before")
    @classmethod
    def _roles(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        roles = tuple(part.strip() for part in value.split(",") if part.strip() not in ("", "none"))
        if unknown := [role for role in roles if role not in get_args(Role)]:
            raise ValueError(f"{unknown[0]!r} is no role: it is one of {', '.join(get_args(Role))}")
        return roles

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        if isinstance(value, str):
            parts = (part.strip().rstrip("/") for part in value.split(","))
            return tuple(part for part in parts if part and part != "none")
        return value

    @field_validator("trusted_proxies", "outbound_allow", "document_types", "if_match_types", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip() not in ("", "none"))
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ipaddress.ip_network(text)
            except ValueError:
                raise ValueError(f"{text!r} is neither an address nor a network such as 10.0.0.0/8") from None
        return value

    @field_validator("base_url")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must look like https://fhir.example.org/fhir: scheme, host and path, nothing after it")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.auth == "off" and not is_loopback(self.host):
            raise ValueError(
                f"auth=off is possible on a loopback address only, and host is {self.host}: "
                "anybody on the network could read and change every record"
            )
        if self.audit == "off" and not is_loopback(self.host):
            raise ValueError(
                f"audit=off is possible on a loopback address only, and host is {self.host}: "
                "nobody could tell who saw what"
            )
        if self.tls_key_file != Path() and self.tls_cert_file == Path():
            raise ValueError("tls_key_file is set and tls_cert_file is not: a key alone proves nothing")
        if self.default_page_size > self.max_page_size:
            raise ValueError(
                f"default_page_size ({self.default_page_size}) is above max_page_size ({self.max_page_size})"
            )
        derived: dict[str, object] = {
            "data_dir": self.data_dir.expanduser().absolute(),
            "base_url": self.base_url or f"{self.local_url}/fhir",
        }
        own = {"access_token_file": "access-token", "vault_key_file": "vault-key", "audit_key_file": "audit-key"}
        for name in ("tls_cert_file", "tls_key_file", *own):
            path: Path = getattr(self, name)
            if path != Path():
                derived[name] = path.expanduser().absolute()
            elif name in own:
                derived[name] = self.data_dir.expanduser().absolute() / own[name]
        for name, value in derived.items():
            object.__setattr__(self, name, value)  # the model is frozen for everybody else
        return self

    @property
    def local_url(self) -> str:
        """Address by which a program on this machine reaches the server, without a path."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        scheme = "https" if self.tls_cert_file != Path() else "http"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    @property
    def is_https(self) -> bool:
        """Whether clients reach the server by https, here or at a proxy."""
        return urlsplit(self.base_url).scheme == "https"

    def as_environment(self) -> dict[str, str]:
        """The settings as environment variables, from which `Settings()` in a worker process makes the same again.

        Holds secrets in the clear: hand it to child processes, never to a log.
        """
        values: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            match value:
                case SecretStr():
                    text = value.get_secret_value()
                case tuple():
                    text = ",".join(value) or "none"
                case None:
                    continue
                case _:
                    text = str(value)
            values[variable_of(name)] = text
        return values


def secret_settings() -> tuple[str, ...]:
    """The settings that are secrets."""
    return secrets_of(Settings)


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
