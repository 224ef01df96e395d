"""The definitions stored here, as the validation against profiles asks for them.

They are read past any access policy: what a profile demands is no health data, and who may validate may know it.

Spec: https://hl7.org/fhir/R4/structuredefinition.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fhir_server.model import codec
from fhir_server.search.execute import SearchStore
from fhir_server.search.types.conditions import any_of
from fhir_server.validation.profile.shelf import Held
from fhir_server.validation.profile.source import Stamp

#: No more definitions than this are looked at for one profile.
MOST = 10_000

_STAMPED = {"v": 1, "w": 1, "n": {"$binarySize": {"$ifNull": ["$r", b""]}}}


class StoredDefinitions:
    """Finds definitions by their canonical URLs; one command for each kind."""

    def __init__(self, store: SearchStore) -> None:
        self._store = store

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        rows = await self._store.find(
            resource_type, any_of("x.url", sorted(urls)), sort=[("_id", 1)], limit=MOST, fields=_STAMPED
        )
        return [Stamp(resource_type, row["_id"], row["v"], row.get("w", b""), row["n"]) for row in rows]

    async def urls(self, resource_type: str) -> list[str]:
        """The canonical URLs of all definitions of a type."""
        rows = await self._store.find(resource_type, {"d": None}, sort=[("_id", 1)], limit=MOST, fields={"x.url": 1})
        found = [(row.get("x") or {}).get("url") for row in rows]
        return [str(url[0] if isinstance(url, list) else url) for url in found if url]

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        by_type: dict[str, list[str]] = {}
        for stamp in stamps:
            by_type.setdefault(stamp.type, []).append(stamp.id)
        found = []
        for resource_type, ids in by_type.items():
            rows = await self._store.find(
                resource_type,
                any_of("_id", sorted(ids)),
                sort=[("_id", 1)],
                limit=len(ids),
                fields={"v": 1, "w": 1, "r": 1},
            )
            found += [held_of(row["_id"], row) for row in rows if row.get("r") is not None]
        return found


def held_of(resource_id: str, row: Mapping[str, Any]) -> Held:
    """The definition that a document of the current ones, or of the history, holds."""
    content = codec.decode(row["r"])
    return Held(resource_id, row["v"], str(content.get("url") or ""), content, write=row.get("w", b""))
