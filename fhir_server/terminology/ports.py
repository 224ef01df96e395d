"""What terminology needs of the world outside.

Spec: https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Json = dict[str, Any]


class Listing(Protocol):
    """Tells what is stored here and comes in packages."""

    async def code_systems(self) -> Sequence[tuple[str, str]]:
        """The canonical URLs of the code systems, with their versions where these are known."""


class Remote(Protocol):
    """A terminology server elsewhere, for what is not held here."""

    async def ask(self, operation: str, parameters: Json) -> Json | None:
        """What it answers to an operation, such as `CodeSystem/$lookup`.

        Returns:
            None where it does not know, does not answer, or is not asked at present because it did not answer before.
        """

    async def close(self) -> None:
        """Let go of its connections."""
