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


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature under a PDF, judged.

    Attributes:
        valid: whether it is of a certificate that this server believes, and what it covers is as it was
        whole: whether it covers all of the file
        signed_by: the name in the certificate
        reason: as the signature says
    """

    valid: bool
    whole: bool
    signed_by: str
    reason: str


class PdfSigner(Protocol):
    """Signs PDFs in the name of the server."""

    async def sign_pdf(self, data: bytes, reason: str) -> bytes:
        """The PDF with a signature that covers all of it."""
        ...

    async def verify_pdf(self, data: bytes) -> list[Signature]:
        """The signatures of a PDF, the first one first."""
        ...
