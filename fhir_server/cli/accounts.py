"""The accounts, opened for one command: the same rules and the same records as in the server, without its pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fhir_server.accounts import account_side_of
from fhir_server.app import definitions_of, indexer_of, store_of
from fhir_server.cli.trail import trail_of
from fhir_server.records import RepositoryRecords
from fhir_server.repository.integrity import Integrity
from fhir_server.repository.repository import Repository
from fhir_server.settings import Settings
from fhir_server.validation import Validator
from profiles.registry import registry
from profiles.terminology import terminology
from smart_auth.account_side import AccountSide, Neighbours, NoApps, no_bearer
from smart_auth.authorizations import Authorizations
from smart_auth.revocations import Revocations
from smart_auth.store import AuthStore
from smart_auth.vault import Vault, load_or_create


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
    authorizations = Authorizations(rows, Revocations(rows))

    async def revoke_account(account_id: str) -> None:
        """End what the account has allowed to apps; a running server hears of it within a second."""
        await asyncio.to_thread(authorizations.revoke_account, account_id)

    def end_session(session_id: str) -> None:
        authorizations.end_session(session_id)

    try:
        await store.open()
        await asyncio.to_thread(authorizations.open)
        async with trail_of(settings) as trail:
            neighbours = Neighbours(
                RepositoryRecords(repository), trail, revoke_account, NoApps(), no_bearer, session_ended=end_session
            )
            side = account_side_of(settings, rows, Vault(load_or_create(settings.vault_key_file)), neighbours)
            try:
                await side.open()
                yield side
            finally:
                await side.close()
    finally:
        rows.close()
        await close()
