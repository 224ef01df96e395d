"""What interactions need of the world outside, as ports: `app` puts in what `integrations` have for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
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


class Tied(Protocol):
    """An account whose own resource is one that goes.

    Attributes:
        sessions, apps: how many it has
        others: for which patients it acts besides
    """

    @property
    def id(self) -> str: ...
    @property
    def fhir_user(self) -> str: ...
    @property
    def sessions(self) -> int: ...
    @property
    def apps(self) -> int: ...
    @property
    def others(self) -> tuple[str, ...]: ...


class Accounts(Protocol):
    """The accounts of people, for who erases their records; all of it can be done again."""

    async def tied(self, people: Sequence[str]) -> Sequence[Tied]:
        """The accounts whose own resource is one of these."""
        ...

    async def end(self, account_id: str) -> None:
        """End an account, with its sessions and what apps were allowed."""
        ...

    async def let_go(self, patient: str) -> int:
        """Nobody acts for a patient any more; how many did."""
        ...

    async def forget(self, account_ids: Sequence[str], people: Sequence[str]) -> None:
        """Remove all that names accounts that have ended, and people whose records go."""
        ...


@dataclass(slots=True)
class SignIn:
    """The sign-in side, which is made after the context: `accounts` is set as soon as there are any."""

    accounts: Accounts | None = None


class Standing(Protocol):
    """What goes by how doctors stand: their accounts."""

    async def follow(
        self, practitioner: str, state: str, decisions: Sequence[tuple[str, str, str, str]], version: int
    ) -> None:
        """Be told how somebody stands; more than once, and perhaps late.

        Args:
            practitioner: whom it is about, `Practitioner/1`
            state: `applied`, `verified` or `rejected`
            decisions: who (the id of an account), what, when and why
            version: goes up with each change
        """
        ...
