"""A code system as the terminology operations ask it, however it is held.

Spec: https://hl7.org/fhir/R4/codesystem.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fhir_server.terminology.concepts import Concept
from fhir_server.terminology.conditions import Condition

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What a code system says of itself.

    Attributes:
        whole: whether every code that it has is held
        hierarchy: what its hierarchy means, as `CodeSystem.hierarchyMeaning` says
        properties: the descriptions of its properties, by code
    """

    url: str
    version: str = ""
    name: str = ""
    whole: bool = True
    case_sensitive: bool = True
    hierarchy: str = ""
    language: str = ""
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Some codes of a code system.

    Attributes:
        condition: which
        listed: concepts that a value set names one by one, with the displays that it gives them, in its order
        words: the text must have words that begin with each of these; see `words_of`
    """

    condition: Condition
    listed: Mapping[str, Json] = field(default_factory=dict)
    words: tuple[str, ...] = ()


class System(Protocol):
    """One version of a code system."""

    @property
    def about(self) -> About: ...

    async def concept(self, code: str) -> Concept | None:
        """A concept; None where the system has none, or none is held."""

    async def has(self, code: str, condition: Condition) -> bool | None:
        """Whether a code meets a condition; None where it is not known."""

    async def count(self, wanted: Wanted, most: int | None = None) -> int | None:
        """How many codes are wanted; None where they cannot be listed. Many are counted no further than `most`."""

    async def page(self, wanted: Wanted, offset: int, most: int) -> Sequence[Concept]:
        """Some of the wanted codes, which can be listed, in their order."""

    async def related(self, code: str, *, above: bool, most: int | None = None) -> frozenset[str]:
        """The code and all above it, or all below it, no more than `most`; empty where there is no such code."""

    async def displays(self, codes: Collection[str]) -> dict[str, str]:
        """What those of some codes that it has are called."""

    async def children(self, code: str) -> Sequence[str]:
        """The codes right below one."""

    async def unanswerable(self, condition: Condition) -> str:
        """Why codes by a condition cannot be listed, in a few words; empty where they can."""
