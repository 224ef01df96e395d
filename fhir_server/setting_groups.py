"""Settings that belong together, apart from the others: what is asked of the resources that come in, and care.

Spec: https://hl7.org/fhir/R4/validation.html, https://hl7.org/fhir/R4/packages.html
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

#: `name#version`, as the FHIR tools write it.
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,127}#[A-Za-z0-9][A-Za-z0-9.+\-]{0,63}")


class ValidationSettings(BaseSettings):
    """Profiles, packages, and which writes they refuse."""

    claimed_profiles: Literal["ignore", "warn", "refuse"] = Field(
        "ignore",
        description="What becomes of a write that does not conform to a profile which it claims (`meta.profile`): it "
        "is not looked at, it is told, or the write is refused.",
    )
    validation_file: Path = Field(
        Path(),
        description="TOML file with what writes must satisfy, by type and by client (see validation). Empty: none.",
    )
    package_registry: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Address of the package registry from which `healthsphere package add` may fetch. Empty: none.",
    )
    package_versions: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Packages, as `name#version`, separated by commas, whose definitions are meant where several "
        "versions are installed and none is named. Empty: the newest.",
    )

    @field_validator("package_versions", mode="before")
    @classmethod
    def _packages(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        named = tuple(part.strip() for part in value.split(",") if part.strip() not in ("", "none"))
        for one in named:
            if _PACKAGE.fullmatch(one) is None:
                raise ValueError(f"{one!r} is no package such as hl7.fhir.us.core#6.1.0")
        return named


class TerminologySettings(BaseSettings):
    """A terminology server for what is not held here."""

    terminology_server: str = Field(
        "",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="FHIR base of a terminology server that is asked for what is not held here. Empty: none.",
    )
    terminology_authorization: SecretStr | None = Field(
        None, description="The `Authorization` header for that server, such as `Bearer …`."
    )
    terminology_timeout_s: float = Field(
        5.0, ge=0.1, le=60, description="Seconds for which its answer is awaited; then what was asked is not known."
    )
    terminology_cache_size: int = Field(
        10_000, ge=0, le=1_000_000, description="How many of its answers each process keeps."
    )
    terminology_cache_minutes: int = Field(
        60, ge=0, le=43_200, description="Minutes for which an answer of it is kept."
    )


class CareSettings(BaseSettings):
    """Documents, prescriptions and what else patients and doctors do here."""

    clamd: str = Field("", description="Address of ClamAV's daemon: `tcp://127.0.0.1:3310`, `unix:///run/clamd.ctl`.")
    document_types: Annotated[tuple[str, ...], NoDecode] = Field(
        ("application/pdf", "image/*", "text/plain", "text/csv", "application/dicom"),
        description="Media types of documents that are taken; `image/*` is a group, `*/*` is any.",
    )
    if_match_types: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Resource types, separated by commas, of which a change must say by `If-Match` which version it is "
        "of (428 otherwise). `none`: none.",
    )
    prescription_collect_days: int = Field(
        14, ge=1, le=365, description="Days after which patient and prescriber are told that nothing was collected."
    )
    pharmacy_feed_days: int = Field(
        180,
        ge=1,
        le=3650,
        description="Days after which a pharmacy that has not asked what changed starts anew, with what is still open.",
    )
    retention_file: Path = Field(
        Path(), description="TOML file with what is kept although its erasure is asked for. Empty: the built-in one."
    )
