"""UCUM as a code system: its codes come from a grammar, so each can be judged and none listed.

Spec: https://ucum.org/ucum, https://hl7.org/fhir/R4/ucum.html
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from decimal import Decimal
from functools import partial

from fhir_server.search.ucum import canonical, name_of
from fhir_server.terminology.concepts import Concept
from fhir_server.terminology.conditions import (
    Condition,
    Filtered,
    Leaf,
    Listed,
    Unknown,
    judged,
    leaves,
    parts_listed,
)
from fhir_server.terminology.system import About, Wanted
from fhir_server.terminology.words import has_words

UCUM = "http://unitsofmeasure.org"

#: All of UCUM, as R4 names it.
ALL_UNITS = "http://hl7.org/fhir/ValueSet/ucum-units"

_CANONICAL = "canonical"
_FACTOR = "factor"


class Ucum:
    """The one code system of units; a concept has as properties its canonical unit, and the factor to that."""

    about = About(
        UCUM,
        name="Unified Code for Units of Measure (UCUM)",
        properties={_CANONICAL: "The unit in base units", _FACTOR: "How many of those it is"},
    )

    async def concept(self, code: str) -> Concept | None:
        return concept_of(code)

    async def has(self, code: str, condition: Condition) -> bool | None:
        concept = concept_of(code)
        return False if concept is None else judged(condition, lambda leaf: _leaf(concept, leaf))

    async def count(self, wanted: Wanted, most: int | None = None) -> int | None:
        return None if await self.unanswerable(wanted.condition) else len(await self._listed(wanted))

    async def page(self, wanted: Wanted, offset: int, most: int) -> Sequence[Concept]:
        return (await self._listed(wanted))[offset : offset + most]

    async def _listed(self, wanted: Wanted) -> list[Concept]:
        found = []
        for code, row in wanted.listed.items():
            concept = concept_of(code)
            if concept is None or not has_words(wanted.words, (code, row.get("display") or concept.display)):
                continue
            if judged(wanted.condition, partial(_leaf, concept)):
                found.append(concept)
        return found

    async def related(self, code: str, *, above: bool, most: int | None = None) -> frozenset[str]:
        return frozenset() if concept_of(code) is None else frozenset((code,))

    async def displays(self, codes: Collection[str]) -> dict[str, str]:
        return {code: concept.display for code in codes if (concept := concept_of(code)) is not None}

    async def children(self, code: str) -> Sequence[str]:
        return ()

    async def unanswerable(self, condition: Condition) -> str:
        for leaf in leaves(condition):
            if isinstance(leaf, Unknown):
                return f"it draws on the value set {leaf.value_set!r}, which is not held here"
        if judged(condition, lambda leaf: False if isinstance(leaf, Listed) else None) is not False:
            return "the units of UCUM cannot be listed: there is no end of them"
        return ""


def concept_of(code: str) -> Concept | None:
    """A unit; None for a code that is none."""
    found = canonical(Decimal(1), code)
    if found is None:
        return None
    factor, unit = found
    properties = (
        {"code": _CANONICAL, "valueString": unit},
        {"code": _FACTOR, "valueDecimal": factor},
    )
    return Concept(code, name_of(code) or code, properties=properties)


def _leaf(concept: Concept, leaf: Leaf) -> bool | None:
    match leaf:
        case Listed(codes):
            return concept.code in codes
        case Unknown():
            return None
        case Filtered(name, op, value):
            return _filtered(concept, name, op, value)
    return True


def _filtered(concept: Concept, name: str, op: str, value: str) -> bool | None:
    """UCUM filters by `canonical`: https://hl7.org/fhir/R4/ucum.html."""
    found = concept.texts(name)
    if name not in (_CANONICAL, "code", "concept"):
        return None
    match op:
        case "=":
            return value in found
        case "in":
            return not parts_listed(value).isdisjoint(found)
        case "not-in":
            return parts_listed(value).isdisjoint(found)
    return None
