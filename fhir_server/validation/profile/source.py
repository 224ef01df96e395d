"""The port to the definitions that are stored on this server.

Spec: https://hl7.org/fhir/R4/structuredefinition.html
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fhir_server.validation.profile.shelf import Held

STRUCTURES = "StructureDefinition"
VALUE_SETS = "ValueSet"
QUESTIONNAIRES = "Questionnaire"
CODE_SYSTEMS = "CodeSystem"

#: A code system of some ten thousand concepts.
BIG_BYTES = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Which version of a definition is current, made by which write; `size_bytes` where it is known.

    What was removed for good can be made again under its id and with the same version: the write tells them apart.
    """

    type: str
    id: str
    version: int
    write: bytes = b""
    size_bytes: int = field(default=0, compare=False)

    @property
    def is_big(self) -> bool:
        """Whether it is held otherwise than by reading it."""
        return self.type == CODE_SYSTEMS and self.size_bytes >= BIG_BYTES


class Membership(Protocol):
    """Knows of value sets what is not held with the definitions: another terminology, or a server elsewhere."""

    async def member_of(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a value set (a canonical, with a version or without) has a code; None where it is not known."""


class Source(Protocol):
    """Finds stored definitions by their canonical URLs (without a version)."""

    async def stamps(self, resource_type: str, urls: Collection[str]) -> Sequence[Stamp]:
        """The current versions of all definitions of a type with one of the URLs."""

    async def read(self, stamps: Collection[Stamp]) -> Sequence[Held]:
        """The definitions themselves; one that has gone meanwhile is left out."""
