"""Code systems from files: put in the database beside a running server (`healthsphere terminology`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fhir_server.settings import Settings
from fhir_server.storage.database import connect
from fhir_server.storage.rows import Row
from fhir_server.storage.store import Store
from fhir_server.terminology.big import BigHoldings
from fhir_server.terminology.big_build import (
    FILE,
    GRACE_S,
    Builder,
    Lineage,
    Origin,
    TooDeepError,
    discard,
    rows_of,
    sweep,
)
from fhir_server.terminology.csv_concepts import CsvError, concepts_in, outline_of
from fhir_server.terminology.system import About

#: Is told how many concepts of how many are written.
Say = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import: how many concepts, and parents that are no codes of the file."""

    concepts: int
    strangers: tuple[str, ...]


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[BigHoldings]:
    assert settings.mongodb_uri is not None, "`reached_database` has put the address of a MongoDB into the settings"
    client = connect(settings.mongodb_uri.get_secret_value())
    try:
        store = Store(client, settings.mongodb_database, lambda _: (), max_time_ms=settings.query_time_ms)
        holdings = BigHoldings(store)
        await holdings.open()
        yield holdings
    finally:
        await client.close()


def import_csv(settings: Settings, path: Path, about: About, say: Say, *, grace_s: float = GRACE_S) -> Imported:
    """Put the concepts of a file in force, in place of an earlier file's of the same code system and version.

    Raises:
        CsvError: the file cannot be read as concepts; nothing was changed.
    """

    async def run() -> Imported:
        outline = outline_of(path)
        lineage = Lineage(outline.parents, outline.codes.__contains__)
        parents = frozenset(code for found in outline.parents.values() for code in found)
        total = len(outline.codes)

        async def tell(count: int) -> None:
            say(count, total)

        async with _opened(settings) as holdings:
            builder = Builder(holdings, about, Origin(f"{FILE}{about.url}|{about.version}"), grace_s=grace_s)
            await builder.begin()
            try:
                rows = rows_of(builder.token, concepts_in(path), lineage, parents)
                count = await builder.write(rows, tell)
            except TooDeepError as error:
                await discard(holdings, builder.token)
                raise CsvError(str(error)) from None
            except BaseException:
                await discard(holdings, builder.token)
                raise
            await builder.finish(count, outline.properties)
            await sweep(holdings)
        return Imported(count, tuple(sorted(outline.strangers)))

    return asyncio.run(run())


def big_code_systems(settings: Settings) -> list[Row]:
    """All big code systems, by URL and version (`healthsphere terminology list`)."""

    async def run() -> list[Row]:
        async with _opened(settings) as holdings:
            return sorted(await holdings.systems.all(), key=lambda row: (row["u"], row["v"], row["t"]))

    return asyncio.run(run())


def remove_code_system(settings: Settings, url: str, version: str | None) -> int:
    """Take what came from files out of force; how many versions (`healthsphere terminology remove`)."""

    async def run() -> int:
        async with _opened(settings) as holdings:
            named = {} if version is None else {"v": version}
            found = await holdings.systems.all({"u": url, "o": {"$regex": f"^{FILE}"}, **named})
            for row in found:
                await discard(holdings, row["_id"])
            return len(found)

    return asyncio.run(run())
