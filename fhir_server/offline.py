"""What the command line does to a database by itself, without a server: index entries again, the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from fhir_server.app import WITNESS, definitions_of, indexer_of, store_of
from fhir_server.audit.chain import Link
from fhir_server.audit.keys import load_or_create_keys, seal_keys
from fhir_server.audit.materialize import Materializer
from fhir_server.audit.resource import Maker
from fhir_server.audit.trail import Trail, read_witness
from fhir_server.audit.verify import Report, links, verify
from fhir_server.repository.containing import CONTAINING, Containing
from fhir_server.repository.definitions import Definitions
from fhir_server.repository.reindex import Progress, reindex_all
from fhir_server.settings import Settings
from fhir_server.storage.document import Version
from fhir_server.validating import packages_of


def reindex(settings: Settings, types: Iterable[str], progress: Progress) -> None:
    """Make the index entries of stored resources again (`healthsphere reindex`); all types when none is named."""

    async def run() -> None:
        known = definitions_of(settings)
        store, close = store_of(settings, known)
        indexer = indexer_of(settings, known)
        definitions = Definitions(store, known, indexer, packages_of(settings, store))
        named = tuple(types)
        try:
            await store.open()
            await definitions.refresh(at_once=True)
            prints = definitions.prints_for(named)
            await reindex_all(store, indexer, named, progress, Containing(store.rows(CONTAINING)))
            await definitions.mark_ready(prints)
        finally:
            await close()

    asyncio.run(run())


def verify_audit(settings: Settings, *, resources: bool) -> Report:
    """Walk the audit trail (`healthsphere audit verify`), and compare the AuditEvents with it."""

    async def run() -> Report:
        known = definitions_of(settings)
        store, close = store_of(settings, known)
        known_keys = load_or_create_keys(settings.audit_key_file) if settings.audit_key_file.exists() else ()
        trail = Trail(store.batches, settings.base_url)
        ledger = Materializer(store, indexer_of(settings, known), trail)

        def versions_of(link: Link) -> list[Version]:
            return list(ledger.versions_of(link))

        try:
            witness = read_witness(settings.data_dir / WITNESS)
            return await verify(store, seal_keys(known_keys), witness, versions_of if resources else None)
        finally:
            await close()

    return asyncio.run(run())


def export_audit(settings: Settings, start: int, write: Callable[[bytes], object]) -> None:
    """Hand the AuditEvents of the chain to `write`, one by one (`healthsphere audit export`)."""

    async def run() -> None:
        store, close = store_of(settings, definitions_of(settings))
        maker = Maker()
        try:
            async for link in links(store.batches, start - 1):
                for made in maker.made_of(link):
                    write(made.body)
        finally:
            await close()

    asyncio.run(run())
