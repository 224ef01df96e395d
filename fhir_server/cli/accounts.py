"""The accounts, opened for one command: the same rules and the same records as in the server, without its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from fhir_server.accounts import account_side_of
from fhir_server.app import definitions_of, indexer_of, store_of
from fhir_server.records import RepositoryRecords
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.repository import Repository
from fhir_server.settings import Settings
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology
from smart_auth.account_side import AccountSide, Neighbours, NoApps, no_bearer
from smart_auth.ports import Happening
from smart_auth.store import AuthStore
from smart_auth.vault import Vault, load_or_create


class LoggedTrail:
    """Happenings as log lines."""

    async def happened(self, happening: Happening) -> None:
        structlog.get_logger("accounts").info(
            "happened", kind=happening.kind, outcome=happening.outcome, account=happening.account_id
        )


async def _ended_by_the_row(_: str) -> None:
    """Grants are judged by `credentials_changed_at` and the state of the account, both of which are in its row."""


@asynccontextmanager
async def with_account_side(settings: Settings) -> AsyncIterator[AccountSide]:
    """Accounts on the database that the settings name."""
    assert settings.mongodb_uri is not None, "`reached_database` has put the address of a MongoDB into the settings"
    known = definitions_of(settings)
    store, close = store_of(settings, known)
    repository = Repository(
        store,
        indexer_of(settings, known),
        Validator(registry(), terminology()),
        Integrity(store, known, settings.base_url, enforced=False),
    )
    rows = AuthStore.connect(settings.mongodb_uri.get_secret_value(), settings.mongodb_database)
    neighbours = Neighbours(RepositoryRecords(repository), LoggedTrail(), _ended_by_the_row, NoApps(), no_bearer)
    side = account_side_of(settings, rows, Vault(load_or_create(settings.vault_key_file)), neighbours)
    try:
        await store.open()
        await side.open()
        yield side
    finally:
        await side.close()
        rows.close()
        await close()
