"""Which types have resources that contain others: nobody looks inside resources of a type that has none.

A type is noted before the first resource of it that contains others is written, and stays noted. Every process looks
every second what others have noted; the one that writes knows at once.

Spec: https://hl7.org/fhir/R4/references.html#contained
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from fhir_server.model.clock import now_us
from fhir_server.model.errors import FhirError
from fhir_server.storage.rows import Rows

CONTAINING = "_containing"

POLL_S = 1.0

_log = logging.getLogger("healthsphere.containing")


class Containing:
    """The types that are noted."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._types: frozenset[str] = frozenset()

    def __call__(self) -> frozenset[str]:
        return self._types

    async def note(self, resource_types: Iterable[str]) -> None:
        """Resources of these types that contain others are about to be written."""
        for name in set(resource_types) - self._types:
            await self._rows.put(name, {"t": now_us()})
            self._types |= {name}

    async def refresh(self) -> None:
        """See what other processes have noted."""
        self._types |= frozenset(await self._rows.ids())

    async def watch(self) -> None:
        """Refresh for as long as the server runs."""
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
            except FhirError as error:
                _log.warning("the types that contain others could not be read: %s", error)
