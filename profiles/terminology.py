"""What the held code systems and value sets say: which codes a value set has, and how codes stand below each other.

Everything is computed when it is first asked for, from the digest, and kept. A value set whose codes cannot all be
known here (it draws on SNOMED CT, on LOINC, on a grammar such as UCUM) has no expansion: callers must not take that
for empty.

Spec: https://hl7.org/fhir/R4/terminology-module.html, https://hl7.org/fhir/R4/valueset.html#compositions
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from profiles.digest import code_system_of, value_set_of
from profiles.registry import digest, own_definitions

Row = dict[str, Any]
Pair = tuple[str, str]

UCUM = "http://unitsofmeasure.org"
FHIR_SYSTEMS = "http://hl7.org/fhir/"


class CodeSystem:
    """The concepts of one code system with their hierarchy; nesting and `subsumedBy` both make a parent."""

    def __init__(self, row: Row) -> None:
        self.url: str = row["url"]
        self.is_complete: bool = row["content"] == "complete"
        self.displays: dict[str, str] = {}
        self.abstract: frozenset[str] = frozenset(row.get("abstract", ()))
        self.parents: dict[str, list[str]] = {}
        self.children: dict[str, list[str]] = {}
        self._read(row["concepts"], None)
        for code, parents in row.get("parents", {}).items():
            for parent in parents:
                self._link(code, parent)
        self.selectable = self.displays.keys() - self.abstract

    def _read(self, concepts: list[Any], parent: str | None) -> None:
        for code, display, *below in concepts:
            self.displays[code] = display
            if parent is not None:
                self._link(code, parent)
            if below:
                self._read(below[0], code)

    def _link(self, code: str, parent: str) -> None:
        if parent not in self.parents.setdefault(code, []):
            self.parents[code].append(parent)
            self.children.setdefault(parent, []).append(code)

    def descendants(self, code: str) -> frozenset[str]:
        """The code and all below it; empty when the system has no such code."""
        return self._reachable(code, self.children)

    def ancestors(self, code: str) -> frozenset[str]:
        """The code and all above it; empty when the system has no such code."""
        return self._reachable(code, self.parents)

    def _reachable(self, code: str, steps: Mapping[str, list[str]]) -> frozenset[str]:
        if code not in self.displays:
            return frozenset()
        seen = {code}
        waiting = deque([code])
        while waiting:
            for other in steps.get(waiting.popleft(), ()):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(seen)

    def filtered(self, condition: Row) -> frozenset[str] | None:
        """The codes that meet one filter of a value set; None when it asks for a property that is not held.

        Spec: https://hl7.org/fhir/R4/valueset-filter-operator.html
        """
        operator, value = condition["op"], condition["value"]
        everything = frozenset(self.displays)
        match operator:
            case "is-a":
                return self.descendants(value)
            case "descendent-of":
                return self.descendants(value) - {value}
            case "is-not-a":
                return everything - self.descendants(value)
            case "generalizes":
                return self.ancestors(value)
        values_of = self._property(condition["property"])
        if values_of is None:
            return None
        test = _test_of(operator, value)
        return None if test is None else frozenset(c for c in everything if test(values_of(c)))

    def _property(self, name: str) -> Callable[[str], list[str]] | None:
        match name:
            case "code" | "concept":
                return lambda code: [code]
            case "display":
                return lambda code: [self.displays[code]]
            case "parent":
                return lambda code: self.parents.get(code, [])
            case "child":
                return lambda code: self.children.get(code, [])
            case "notSelectable" | "abstract":
                return lambda code: ["true" if code in self.abstract else "false"]
        return None


def _test_of(operator: str, value: str) -> Callable[[list[str]], bool] | None:
    if operator == "=":
        return lambda found: value in found
    if operator == "exists":
        wanted = value == "true"
        return lambda found: bool(found) is wanted
    if operator in ("in", "not-in"):
        listed = {part.strip() for part in value.split(",")}
        wanted = operator == "in"
        return lambda found: (not listed.isdisjoint(found)) is wanted
    if operator == "regex":
        try:
            pattern = re.compile(value)
        except re.error:
            return None
        return lambda found: any(pattern.fullmatch(text) for text in found)
    return None


class Terminology:
    """The code systems and value sets of the digest.

    Canonical URLs may carry `|version`; where that one is not held, the one that is answers.
    """

    def __init__(self, rows: Row | None = None) -> None:
        """`rows` has the shape of `digest("terminology")`, which is read (later, when needed) if none are given."""
        self._given = rows
        self._systems: dict[str, CodeSystem] = {}
        self._expansions: dict[str, frozenset[Pair] | None] = {}

    def with_own(self, systems: Iterable[Row], value_sets: Iterable[Row]) -> Terminology:
        """The same terminology with further code systems and value sets, in the form of the digest."""
        return Terminology(
            {
                "codeSystems": [*self._rows["codeSystems"], *systems],
                "valueSets": [*self._rows["valueSets"], *value_sets],
            }
        )

    @cached_property
    def _rows(self) -> Row:
        return _built_in() if self._given is None else self._given

    @cached_property
    def _system_rows(self) -> dict[str, Row]:
        # A supplement adds displays to a system of another URL; it has no codes of its own.
        return {row["url"]: row for row in self._rows["codeSystems"] if row["content"] != "supplement"}

    @cached_property
    def _value_set_rows(self) -> dict[str, Row]:
        """By URL, and by URL with version; where none is named, the last one of several is meant."""
        rows = self._rows["valueSets"]
        versioned = {f"{row['url']}|{row['version']}": row for row in rows if row.get("version")}
        return versioned | {row["url"]: row for row in rows}

    @cached_property
    def _case_sensitive(self) -> frozenset[str]:
        return frozenset(url for url, row in self._system_rows.items() if row.get("caseSensitive"))

    @property
    def code_systems(self) -> frozenset[str]:
        """The canonical URLs of the code systems that are held."""
        return frozenset(self._system_rows)

    @cached_property
    def value_sets(self) -> frozenset[str]:
        """The canonical URLs of the value sets that are held."""
        return frozenset(row["url"] for row in self._rows["valueSets"])

    def is_case_sensitive(self, system: str) -> bool:
        """Whether `A` and `a` are different codes of a system; False when nothing is known about it."""
        url = _without_version(system)
        return url == UCUM or url.startswith(FHIR_SYSTEMS) or url in self._case_sensitive

    def code_system(self, system: str) -> CodeSystem | None:
        """A code system whose codes are all held; None for any other."""
        url = _without_version(system)
        if (held := self._systems.get(url)) is not None:
            return held
        row = self._system_rows.get(url)
        if row is None or row["content"] != "complete" or not row["concepts"]:  # a placeholder is also `complete`
            return None
        # Two threads may both build it; either result serves.
        return self._systems.setdefault(url, CodeSystem(row))

    def descendants(self, system: str, code: str) -> frozenset[str] | None:
        """The code and every code below it (empty: no such code); None when the code system is not held."""
        held = self.code_system(system)
        return None if held is None else held.descendants(code)

    def ancestors(self, system: str, code: str) -> frozenset[str] | None:
        """The code and every code above it (empty: no such code); None when the code system is not held."""
        held = self.code_system(system)
        return None if held is None else held.ancestors(code)

    def expansion(self, value_set: str) -> frozenset[Pair] | None:
        """All `(system, code)` pairs of a value set; None when it is not held or cannot be enumerated here.

        Codes that are only headings (`notSelectable`) are no members, unless the value set lists them by name.
        """
        return self._expanded(self._held(value_set), ())

    def member(self, value_set: str, system: str | None, code: str) -> bool | None:
        """Whether a code is in a value set (without a system: a code that the element implies); None: not known.

        Of a value set that cannot be enumerated here, what is known of its parts may still tell.
        """
        pairs = self.expansion(value_set)
        if pairs is not None:
            return (system, code) in pairs if system is not None else any(own == code for _, own in pairs)
        return self._member(self._held(value_set), system, code, ())

    def _member(self, url: str, system: str | None, code: str, within: tuple[str, ...]) -> bool | None:
        row = self._value_set_rows.get(url)
        if row is None or "include" not in row or url in within:
            return None
        within = (*within, url)
        excluded = _any(self._part_has(part, system, code, within) for part in row.get("exclude", ()))
        if excluded:
            return False
        included = _any(self._part_has(part, system, code, within) for part in row["include"])
        return None if included and excluded is None else included

    def _part_has(self, part: Row, system: str | None, code: str, within: tuple[str, ...]) -> bool | None:
        """Whether a code is in one include or exclude: of its system, and in every value set that it imports."""
        verdicts: list[bool | None] = []
        if "system" in part:
            if system is None:
                return None
            if system != part["system"]:
                return False
            listed = part.get("concepts")
            if listed is not None:
                verdicts.append(any(row[0] == code for row in listed))
            else:
                pairs = self._of_system(part, with_headings=False)
                verdicts.append(None if pairs is None else (system, code) in pairs)
        verdicts += [self._member(self._held(one), system, code, within) for one in part.get("valueSet", ())]
        return False if False in verdicts else None if None in verdicts else True

    def _held(self, canonical: str) -> str:
        """The version that is named where it is held, else the URL alone."""
        return canonical if canonical in self._value_set_rows else _without_version(canonical)

    def _expanded(self, url: str, within: tuple[str, ...]) -> frozenset[Pair] | None:
        if url in self._expansions:
            return self._expansions[url]
        row = self._value_set_rows.get(url)
        if row is None or "include" not in row or url in within:  # one that includes itself has no finite meaning
            return None
        within = (*within, url)
        included = self._union(row["include"], within)
        excluded = self._union(row.get("exclude", ()), within, with_headings=True)
        result = None if included is None or excluded is None else frozenset(included - excluded)
        self._expansions[url] = result
        return result

    def _union(self, parts: Iterable[Row], within: tuple[str, ...], *, with_headings: bool = False) -> set[Pair] | None:
        pairs: set[Pair] = set()
        for part in parts:
            found = self._part(part, within, with_headings)
            if found is None:
                return None
            pairs |= found
        return pairs

    def _part(self, part: Row, within: tuple[str, ...], with_headings: bool) -> frozenset[Pair] | None:
        """One include or exclude: its system's codes, cut down to those in every value set that it imports."""
        result: frozenset[Pair] | None = None
        for found in self._constraints(part, within, with_headings):
            if found is None:
                return None
            result = found if result is None else result & found
        return result

    def _constraints(self, part: Row, within: tuple[str, ...], with_headings: bool) -> Iterator[frozenset[Pair] | None]:
        if "system" in part:
            yield self._of_system(part, with_headings)
        for imported in part.get("valueSet", ()):
            yield self._expanded(self._held(imported), within)

    def _of_system(self, part: Row, with_headings: bool) -> frozenset[Pair] | None:
        system = part["system"]
        if "concepts" in part:
            return frozenset((system, row[0]) for row in part["concepts"])
        held = self.code_system(system)
        if held is None:
            return None
        codes = frozenset(held.displays if with_headings else held.selectable)
        for condition in part.get("filter", ()):
            met = held.filtered(condition)
            if met is None:
                return None
            codes &= met
        return frozenset((system, code) for code in codes)


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    """Whether one of some is so; None where none is, and of some it is not known."""
    found = list(verdicts)
    return True if True in found else None if None in found else False


def _without_version(canonical: str) -> str:
    return canonical.partition("|")[0]


def _built_in() -> Row:
    """What the specification has, and this server's own code systems and value sets."""
    rows: Row = digest("terminology")
    return {
        "codeSystems": [*rows["codeSystems"], *map(code_system_of, own_definitions("CodeSystem"))],
        "valueSets": [*rows["valueSets"], *map(value_set_of, own_definitions("ValueSet"))],
    }


@cache
def terminology() -> Terminology:
    """The terminology of the digest and of this server, made once."""
    return Terminology()
