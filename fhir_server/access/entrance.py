"""The server as each caller sees it: one guarded store for each policy, kept while the policy is in use."""

from __future__ import annotations

from fhir_server.access.compiled import Compiler
from fhir_server.access.guard import Guard
from fhir_server.access.store import GuardedStore
from fhir_server.model.access import AccessPolicy
from fhir_server.search.index import Indexer
from fhir_server.storage.store import Store

#: Policies that are kept compiled; the one that was made first goes first.
KEPT = 2_000


class Entrance:
    """Gives the store that holds to a policy. The same policy object always gets the same store."""

    def __init__(self, store: Store, compiler: Compiler, indexer: Indexer, base_url: str) -> None:
        self._store = store
        self._compiler = compiler
        self._indexer = indexer
        self._base_url = base_url
        self._doors: dict[int, tuple[AccessPolicy, GuardedStore]] = {}

    def store_for(self, policy: AccessPolicy) -> GuardedStore:
        known = self._doors.get(id(policy))
        if known is None:
            if len(self._doors) >= KEPT:
                self._doors.pop(next(iter(self._doors)))
            door = GuardedStore(self._store, Guard(policy, self._compiler, self._indexer), self._base_url)
            known = self._doors[id(policy)] = (policy, door)  # holding the policy keeps its id its own
        return known[1]
