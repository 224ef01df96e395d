"""What the HTTP edge asks at the door: who sends this request, and the server as they see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from fhir_server.model.access import Caller


class Gate(Protocol):
    """Judges the `Authorization` header of every request."""

    async def caller_of(self, authorization: str | None) -> Caller:
        """Who calls.

        Raises:
            UnauthorizedError: 401; there is no token, or none that is good.
        """

    def noticed(self, types: Iterable[str], subject: str) -> None:
        """Somebody wrote resources of these types, of which access policies may be made."""
