"""The sign-in side's accounts, built from the settings: for the server and for the command line alike."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import cast

import msgspec

from fhir_server.model.access import Role
from fhir_server.settings import Settings
from fhir_server.storage.setup import SetupError
from smart_auth.account_side import AccountSide, Neighbours
from smart_auth.mail import Smtp
from smart_auth.outside import Provider
from smart_auth.parts import AccountRules
from smart_auth.store import AuthStore
from smart_auth.vault import Vault


def account_side_of(settings: Settings, store: AuthStore, vault: Vault, neighbours: Neighbours) -> AccountSide:
    """Accounts as the settings say.

    Raises:
        SetupError: the file of outside providers cannot be used.
    """
    return AccountSide(
        store,
        vault,
        neighbours,
        settings.base_url,
        rules=rules_of(settings),
        smtp=smtp_of(settings),
        providers=providers_of(settings),
    )


def rules_of(settings: Settings) -> AccountRules:
    return AccountRules(
        self_registration=settings.self_registration == "on",
        applications=settings.doctor_applications == "on",
        second_factor_roles=frozenset(cast("tuple[Role, ...]", settings.second_factor_roles)),
        session_idle=timedelta(minutes=settings.session_idle_minutes),
        session_lasts=timedelta(hours=settings.session_hours),
        open_mail=settings.auth == "off",
    )


def smtp_of(settings: Settings) -> Smtp | None:
    """How mails leave; None when no SMTP server is set."""
    if not settings.smtp_host:
        return None
    return Smtp(
        host=settings.smtp_host,
        port=settings.smtp_port,
        sender=settings.mail_from,
        security=settings.smtp_security,
        user=settings.smtp_user,
        password=settings.smtp_password.get_secret_value() if settings.smtp_password else "",
    )


def providers_of(settings: Settings) -> tuple[Provider, ...]:
    """The outside providers: a list of objects with the members of `Provider`.

    Raises:
        SetupError: the file cannot be read, or is no such list.
    """
    path = settings.openid_providers_file
    if path == Path():
        return ()
    try:
        providers = msgspec.convert(json.loads(path.read_text("utf-8")), tuple[Provider, ...])
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SetupError(f"The file of OpenID providers {path} cannot be used ({reason}): correct it.") from error
    if len({provider.id for provider in providers}) < len(providers) or not all(
        provider.id.isascii() and provider.id.replace("-", "").isalnum() for provider in providers
    ):
        raise SetupError(f"The file of OpenID providers {path} needs a different id of letters and digits for each.")
    return providers
