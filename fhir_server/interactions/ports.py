"""What interactions need of the world outside, as ports: `app` puts in what `integrations` have for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scanner says of a content.

    Attributes:
        found: nothing harmful, a virus, or that it could not look at all of it
        detail: the name of the virus, or why it could not look
    """

    found: Literal["clean", "infected", "unscannable"]
    detail: str = ""


class Scanner(Protocol):
    """Looks for viruses."""

    async def scan(self, pieces: AsyncIterator[bytes]) -> Verdict:
        """Look through a content.

        Raises:
            UnavailableError: the scanner does not answer; trying again may help.
        """
        ...
