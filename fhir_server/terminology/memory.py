"""A code system in memory, and one of which nothing is held but what value sets list.

Spec: https://hl7.org/fhir/R4/valueset-filter-operator.html
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from threading import Lock
from typing import Any

from fhir_server.fhirpath.items import Fault
from fhir_server.fhirpath.patterns import matches_whole
from fhir_server.terminology.concepts import BUILT_IN, Concept, concepts_of
from fhir_server.terminology.conditions import (
    HIERARCHICAL,
    OPERATORS,
    Active,
    Condition,
    Everything,
    Filtered,
    Leaf,
    Listed,
    Selectable,
    Unknown,
    judged,
    leaves,
    parts_listed,
)
from fhir_server.terminology.system import About, Wanted
from fhir_server.terminology.words import has_words

Json = dict[str, Any]

#: No code of any system: what holds of it holds of codes that nobody has listed.
_STRANGER = "\0"

#: So many filters and listings of one code system are kept.
_MOST_KEPT = 64


class MemorySystem:
    """A code system whose concepts are all in memory; `about.whole` tells whether there may be others."""

    def __init__(self, about: About, concepts: Iterable[tuple[Concept, list[str]]] = ()) -> None:
        self._about = about
        self._concepts: dict[str, Concept] = {}
        narrower: list[tuple[str, str]] = []
        for concept, below in concepts:
            self._concepts.setdefault(concept.code, concept)
            narrower += [(concept.code, code) for code in below]
        for above, code in narrower:
            found = self._concepts.get(code)
            if found is not None and above not in found.parents:
                found.parents = (*found.parents, above)
        for concept in self._concepts.values():
            for parent in concept.parents:
                if parent in self._concepts:
                    self._concepts[parent].children.append(concept.code)
        self._folded = (
            {} if about.case_sensitive else {code.casefold(): code for code in reversed(self._concepts.keys())}
        )
        self._used = frozenset(str(one.get("code")) for c in self._concepts.values() for one in c.properties)
        self._sets: dict[Filtered, frozenset[str] | None] = {}
        self._pages: dict[tuple[Condition, tuple[str, ...]], list[Concept]] = {}
        self._lock = Lock()

    @property
    def about(self) -> About:
        return self._about

    @property
    def size(self) -> int:
        return len(self._concepts)

    def known(self, code: str) -> str:
        """The code as the system spells it."""
        return code if code in self._concepts else self._folded.get(code.casefold(), code) if self._folded else code

    async def concept(self, code: str) -> Concept | None:
        return self._concepts.get(self.known(code))

    async def has(self, code: str, condition: Condition) -> bool | None:
        return self.judge(self.known(code), condition)

    async def count(self, wanted: Wanted, most: int | None = None) -> int | None:
        if await self.unanswerable(wanted.condition):
            return None
        return len(self._found(wanted))

    async def page(self, wanted: Wanted, offset: int, most: int) -> Sequence[Concept]:
        return self._found(wanted)[offset : offset + most]

    async def related(self, code: str, *, above: bool, most: int | None = None) -> frozenset[str]:
        return self.reached(self.known(code), above=above)

    async def displays(self, codes: Collection[str]) -> dict[str, str]:
        return {code: self._concepts[code].display for code in codes if code in self._concepts}

    async def children(self, code: str) -> Sequence[str]:
        found = self._concepts.get(self.known(code))
        return found.children if found is not None else ()

    async def unanswerable(self, condition: Condition) -> str:
        """As `System.unanswerable`: a filter is not understood, or there may be codes that nobody here knows of."""
        for leaf in leaves(condition):
            if isinstance(leaf, Filtered) and self.filtered(leaf) is None:
                return f"its filter {leaf} on {self._about.url!r} cannot be evaluated here"
            if isinstance(leaf, Unknown):
                return f"it draws on the value set {leaf.value_set!r}, which is not held here"
        if self.judge(_STRANGER, condition) is not False:
            return f"the codes of {self._about.url!r} are not held here"
        return ""

    def judge(self, code: str, condition: Condition) -> bool | None:
        """The verdict of a code, which is spelled as the system does."""
        concept = self._concepts.get(code)
        if concept is None and self._about.whole:
            return False
        return judged(condition, lambda leaf: self._leaf(code, concept, leaf))

    def _leaf(self, code: str, concept: Concept | None, leaf: Leaf) -> bool | None:
        match leaf:
            case Listed(codes):
                return code in codes or (bool(self._folded) and any(self.known(one) == code for one in codes))
            case Unknown():
                return None
            case Everything():
                return True if concept is not None else None
            case Selectable():
                return not concept.abstract if concept is not None else True
            case Active():
                return not concept.inactive if concept is not None else True
            case Filtered():
                found = self.filtered(leaf)
                return None if found is None or concept is None else code in found

    def filtered(self, condition: Filtered) -> frozenset[str] | None:
        """The codes that meet a filter; None where it asks for what is not held."""
        with self._lock:
            if condition in self._sets:
                return self._sets[condition]
        found = self._codes_by(condition)
        with self._lock:
            if len(self._sets) >= _MOST_KEPT:
                self._sets.pop(next(iter(self._sets)))
            self._sets[condition] = found
        return found

    def _codes_by(self, condition: Filtered) -> frozenset[str] | None:
        op, value = condition.op, condition.value
        if op not in OPERATORS:
            return None
        if op in HIERARCHICAL:
            return self._by_hierarchy(op, self.known(value))
        if condition.property not in BUILT_IN | self._used | self._about.properties.keys():
            return None
        test = test_of(op, value)
        try:
            return frozenset(code for code, one in self._concepts.items() if test(one.texts(condition.property)))
        except Fault:  # a pattern that is none, or would take too long
            return None

    def _by_hierarchy(self, op: str, code: str) -> frozenset[str]:
        match op:
            case "is-a":
                return self.reached(code, above=False)
            case "descendent-of":
                return self.reached(code, above=False) - {code}
            case "generalizes":
                return self.reached(code, above=True)
        return frozenset(self._concepts) - self.reached(code, above=False)

    def reached(self, code: str, *, above: bool) -> frozenset[str]:
        """As `related`, of a code that is spelled as the system does."""
        if code not in self._concepts:
            return frozenset()
        seen, waiting = {code}, deque([code])
        while waiting:
            found = self._concepts[waiting.popleft()]
            for other in found.parents if above else found.children:
                if other not in seen and other in self._concepts:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(seen)

    def _found(self, wanted: Wanted) -> list[Concept]:
        """What is wanted, in order: what is listed first, in the order of the list."""
        key = (wanted.condition, wanted.words)
        with self._lock:
            kept = self._pages.get(key) if not wanted.listed else None
        if kept is not None:
            return kept
        rows = {self.known(code): row for code, row in wanted.listed.items()}
        order = dict.fromkeys([*rows, *self._concepts])
        found: list[Concept] = []
        for code in order:
            if self.judge(code, wanted.condition):
                concept = self._concepts.get(code) or Concept(code, number=len(found))
                row = rows.get(code, {})
                texts = (row.get("display") or concept.display, *_values(concept.designations, row))
                if has_words(wanted.words, (code, *texts)):
                    found.append(concept)
        if not wanted.listed:
            with self._lock:
                if len(self._pages) >= _MOST_KEPT:
                    self._pages.pop(next(iter(self._pages)))
                self._pages[key] = found
        return found


def _values(designations: Iterable[Json], row: Json) -> list[str]:
    return [str(one.get("value", "")) for one in (*designations, *(row.get("designation") or ()))]


def test_of(op: str, value: str) -> Callable[[list[str]], bool]:
    """The test of a property's values; of `regex` it raises a Fault where the pattern is none."""
    match op:
        case "=":
            return lambda found: value in found
        case "exists":
            wanted = value == "true"
            return lambda found: bool(found) is wanted
        case "in":
            listed = parts_listed(value)
            return lambda found: not listed.isdisjoint(found)
        case "not-in":
            listed = parts_listed(value)
            return listed.isdisjoint
    return lambda found: any(matches_whole(value, text) for text in found)


def system_of(resource: Json) -> MemorySystem:
    """A CodeSystem resource as a code system."""
    return MemorySystem(about_of(resource), concepts_of(resource))


def about_of(resource: Json) -> About:
    url = str(resource.get("url") or "")
    rows = resource.get("property") or ()
    return About(
        url=url,
        version=str(resource.get("version") or ""),
        name=str(resource.get("title") or resource.get("name") or url),
        # One that says it is complete and has no concept is a placeholder.
        whole=resource.get("content") == "complete" and bool(resource.get("concept")),
        case_sensitive=resource.get("caseSensitive") is not False,
        hierarchy=str(resource.get("hierarchyMeaning") or ""),
        language=str(resource.get("language") or ""),
        properties={str(row.get("code")): str(row.get("description") or "") for row in rows},
    )


def unheld(url: str, version: str = "") -> MemorySystem:
    """A code system of which nothing is held."""
    return MemorySystem(About(url, version, url, whole=False))
