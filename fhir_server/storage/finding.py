"""Where documents are found: what stores and transactions have in common, for those who take either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fhir_server.storage.document import FIELDS


class Finds(Protocol):
    """A store, or a transaction; see `Store.find`."""

    async def find(
        self,
        resource_type: str,
        filter: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]],
        limit: int,
        fields: Mapping[str, Any] = FIELDS,
        shared: bool = False,
    ) -> list[dict[str, Any]]: ...
