"""The search parameters that are in force: those of the specification, the active SearchParameters stored here, and
those of installed packages, whose codes nothing else has.

Every process looks every second whether a SearchParameter was written or a package installed, by whichever process; the
one that did it knows at once. A parameter is ready when `$reindex` has been over what was stored before it; until then
a search by it finds only what came later, and says so.

Spec: https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from fhir_server.model import codec
from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError
from fhir_server.repository.packages import Packages
from fhir_server.search.custom import definition_of, packaged_definition
from fhir_server.search.index import Indexer
from fhir_server.storage.rows import Row
from fhir_server.storage.store import Store
from profiles.registry import Registry, SearchParameter

TYPE = "SearchParameter"
STATES = "_search_parameters"

#: The row that tells when a SearchParameter was removed for good; no URL.
_REMOVED = "-"

POLL_S = 1.0

#: What was written in the same moment as the newest that was seen is looked at again for so long.
_SETTLING_US = 5_000_000

#: A portion of what may be many; all of them stay in memory.
MOST = 2000

#: A parameter's URL, and what tells two definitions of it apart.
Print = tuple[str, str]

_log = logging.getLogger("healthsphere.definitions")


class Definitions:
    """Keeps a registry and its indexer up to date with what is stored."""

    def __init__(self, store: Store, registry: Registry, indexer: Indexer, packages: Packages | None = None) -> None:
        self._store = store
        self._packages = packages
        self._resources = store.rows(TYPE)
        self._states = store.rows(STATES)
        self._registry = registry
        self._indexer = indexer
        self._seen: tuple[int, int, int] = (0, 0, 0)
        self._turn = asyncio.Lock()
        #: The definitions as they were made last, and what of.
        self._made: list[SearchParameter] = []
        self._made_of: tuple[object, object] = ((), ())

    def require_usable(self, resource: dict[str, Any]) -> None:
        """Refuse a SearchParameter that is active and cannot be searched by.

        Raises:
            UnprocessableError: 422; with the reasons.
        """
        definition_of(resource, self._registry)

    async def watch(self) -> None:
        """Refresh for as long as the server runs."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
            except FhirError as error:
                _log.warning("search parameters could not be read: %s", error)

    async def refresh(self, *, at_once: bool = False) -> None:
        """Put in force what is stored now, where that has changed."""
        async with self._turn:
            packaged = self._packages
            packages_us = await packaged.changed_us() if packaged is not None else 0
            seen = (await self._resources.newest("t"), await self._states.newest("t"), packages_us)
            if seen == self._seen and not at_once and max(seen) < now_us() - _SETTLING_US:
                return
            if packaged is not None and (at_once or packages_us > now_us() - _SETTLING_US or seen[2] != self._seen[2]):
                await packaged.refresh()
                self._registry.support(packaged.catalogue.supported(), packaged.catalogue.guides())
            found = tuple(await self._stored()) if seen != (0, 0, 0) else ()
            self._seen = seen
            if found == self._registry.own:
                return
            bases = [base for parameter in (*found, *self._registry.own) for base in parameter.base]
            gone = set(_prints_of(self._registry.own)) - set(_prints_of(found))
            self._registry.adopt(found)
            self._indexer.renew()
            self._store.forget(self._registry.concrete(bases))
            for url, one in gone:  # what is written from now on lacks its entries: should it come back, it is not ready
                await self._states.remove_all({"_id": url, "h": one})

    async def removed(self) -> None:
        """Some SearchParameters were removed for good: no process finds that by what is newest."""
        await self._states.put(_REMOVED, {"h": "", "t": now_us()})
        await self.refresh(at_once=True)

    async def settle(self) -> None:
        """Wait until every process has seen the newest SearchParameter."""
        packages_us = await self._packages.changed_us() if self._packages is not None else 0
        age_s = (now_us() - max(await self._resources.newest("t"), packages_us)) / 1_000_000
        await asyncio.sleep(max(0.0, 2.5 * POLL_S - age_s))

    def prints_for(self, types: tuple[str, ...]) -> list[Print]:
        """Which parameters are ready once all resources of some types have been indexed (none named: of all types).

        Of the definitions as they are in force now: one that changes meanwhile is not ready then.
        """
        return _prints_of(p for p in self.in_force() if not types or set(self.types_of(p)) <= set(types))

    async def mark_ready(self, prints: Iterable[Print]) -> None:
        """All resources have been indexed by the definitions with these prints."""
        for url, one in prints:
            await self._states.put(url, {"h": one, "t": now_us()})
        await self.refresh(at_once=True)

    def in_force(self) -> tuple[SearchParameter, ...]:
        """The operator's own parameters."""
        return self._registry.own

    def types_of(self, parameter: SearchParameter) -> tuple[str, ...]:
        """The resource types that a parameter is for."""
        return self._registry.concrete(parameter.base)

    async def _stored(self) -> list[SearchParameter]:
        rows = await self._store.find(
            TYPE, {"x.status": "=active"}, sort=[("_id", 1)], limit=MOST, fields={"w": 1, "r": 1}
        )
        packaged = self._packages.catalogue.chosen(TYPE) if self._packages is not None else []
        made_of = (tuple((row["_id"], row["w"]) for row in rows), tuple(entry.id for entry in packaged))
        if made_of != self._made_of:
            contents = [] if self._packages is None else await self._packages.contents(packaged)
            # Each expression is compiled for each of its types: other requests go on meanwhile.
            self._made = await asyncio.to_thread(self._definitions_of, rows, [content for _, content in contents])
            self._made_of = made_of
        states = {row["_id"]: row["h"] for row in await self._states.all(limit=MOST)}
        return [replace(one, ready=states.get(one.url) == _print_of(one)) for one in self._made]

    def _definitions_of(self, rows: Iterable[Row], packaged: Iterable[dict[str, Any]]) -> list[SearchParameter]:
        """What is stored, in the order of the ids, then what packages have for codes that are free."""
        trial = self._registry.copy()
        trial.adopt(())
        found: list[SearchParameter] = []
        for row in rows:
            try:
                definition = definition_of(codec.decode(row["r"]), trial)
            except FhirError as error:  # it was fine when it was stored; another one took its place since
                _log.warning("search parameter %s is not in force: %s", row["_id"], error)
                continue
            if definition is not None and definition.url not in {known.url for known in found}:
                found.append(definition)
                trial.adopt(tuple(found))
        for content in packaged:
            verdict = packaged_definition(content, trial)
            if verdict.parameter is not None:
                found.append(verdict.parameter)
                trial.adopt(tuple(found))
            elif verdict.fault:  # told when the package was installed
                _log.info("search parameter %s is not in force: %s", content.get("url"), verdict.fault)
        return found


def _prints_of(parameters: Iterable[SearchParameter]) -> list[Print]:
    return [(parameter.url, _print_of(parameter)) for parameter in parameters]


def _print_of(parameter: SearchParameter) -> str:
    """What two definitions share that index alike."""
    which = (parameter.code, parameter.type, parameter.base, parameter.target)
    return blake2b(repr((*which, parameter.expression, parameter.component)).encode(), digest_size=8).hexdigest()
