"""The definitions that this server carries, as searches find them: rows like those that are stored.

They have no versions and no `_lastUpdated`, so whatever asks for a moment does not find them; in an order by that they
are the oldest. What is stored under the same id, a deletion too, takes their place.

Spec: https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fhir_server.model import codec
from fhir_server.search.execute import SearchStore
from fhir_server.search.index import Indexer
from fhir_server.search.matching import UnknownConditionError, predicate_of
from fhir_server.search.types.conditions import any_of
from profiles.registry import own_definitions

#: The types of which this server carries definitions that searches find.
CARRIED: Final = frozenset({"StructureDefinition", "CodeSystem", "ValueSet"})

Row = dict[str, Any]


class Carried:
    """What is carried, indexed by the search parameters in force."""

    types = CARRIED

    def __init__(self, indexer: Indexer) -> None:
        self._indexer = indexer
        #: By type, the revision of the search parameters, and the rows by it.
        self._made: dict[str, tuple[int, list[Row]]] = {}

    async def found(self, resource_type: str, condition: Mapping[str, Any], store: SearchStore | None) -> list[Row]:
        """What of a type meets a filter of the database, as rows of a page.

        Args:
            store: where what has the same id may be; None where nothing of the type is
        """
        try:
            meets = predicate_of(condition)
            rows = [row for row in await self._rows(resource_type) if meets(row)]
        except UnknownConditionError:  # what cannot be judged is not found
            return []
        hidden: set[str] = set()
        if rows and store is not None:
            ids = any_of("_id", [row["_id"] for row in rows])
            stored = await store.find(resource_type, ids, sort=[("_id", 1)], limit=len(rows), fields={"_id": 1})
            hidden = {row["_id"] for row in stored}
        return [{**row, "t": 0} for row in rows if row["_id"] not in hidden]

    async def _rows(self, resource_type: str) -> list[Row]:
        revision = self._indexer.registry.revision
        made = self._made.get(resource_type)
        if made is None or made[0] != revision:
            made = self._made[resource_type] = revision, await asyncio.to_thread(self._indexed, resource_type)
        return made[1]

    def _indexed(self, resource_type: str) -> list[Row]:
        return [
            {"_id": one["id"], "v": 1, "x": self._indexer.entries_of(one), "r": codec.encode(one)}
            for one in own_definitions(resource_type)
        ]
