"""The index entries of a resource: what every search parameter of its type finds in it.

The expressions of a type are compiled when its first resource comes, and sorted by the member they start with; equal
paths of several parameters (`code` and `combo-code`) are walked once.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fhir_server.fhirpath.compile import Branch, compiled
from fhir_server.fhirpath.expression import Expression
from fhir_server.fhirpath.shapes import Shape, shape_of
from fhir_server.fhirpath.steps import Key, visit_of
from fhir_server.search.components import components_of
from fhir_server.search.custom import compiled_for
from fhir_server.search.dynamic import dynamic_extract
from fhir_server.search.entries import Make
from fhir_server.search.entries.makers import Makers
from fhir_server.search.extraction import (
    Extract,
    Part,
    composite_extract,
    first_member,
    simple_extract,
    special_extract,
)
from fhir_server.search.inside import rows_of
from fhir_server.search.parameters import table_of
from fhir_server.search.words import add_words
from profiles.registry import Registry, SearchParameter
from profiles.terminology import Terminology

#: These are fields of the stored document itself.
STORED_APART = frozenset({"_id", "_lastUpdated"})


@dataclass(slots=True)
class _Path:
    """One path with all parameters that index its values alike; `triggers` are the members that set it off."""

    kind: str
    branch: Branch
    triggers: tuple[str, ...]
    make: Make | None = None
    components: tuple[tuple[Part, ...], ...] = ()
    codes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Plan:
    by_member: dict[str, tuple[Extract, ...]]
    always: tuple[Extract, ...]


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a resource leaves in the index: its own entries, and a row for each resource that it contains."""

    entries: dict[str, Any] = field(default_factory=dict)
    contained: list[dict[str, Any]] = field(default_factory=list)


class Indexer:
    """Makes index entries. Keeps what it compiled; use one for all resources. Thread safe."""

    def __init__(self, registry: Registry, terminology: Terminology, base_url: str) -> None:
        self._registry = registry
        self._full_text = registry.full_text
        self.base_url = base_url
        self._makers = Makers(registry, terminology, base_url)
        self._plans: dict[str, _Plan] = {}

    @property
    def registry(self) -> Registry:
        return self._registry

    def indexed(self, resource: dict[str, Any]) -> Indexed:
        """The entries of a structurally valid resource, and of what it contains."""
        entries = self.entries_of(resource)
        contained = resource.get("contained")
        if not contained:
            return Indexed(entries)
        return Indexed(entries, rows_of(contained, map(self.entries_of, contained), entries))

    def entries_of(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The entries of a resource alone, by search parameter code and, for some, `code:suffix`.

        A value is a list that is not empty, or the bare entry of a parameter that can have but one: `near`, and a date
        or a reference that no resource has twice (`Parameter.bare`). Lists are many keys in an index, and no two of
        them go into one compound index; bare entries do, and have an order. Values may be shared by several codes
        and must not be changed. What cannot be indexed is passed over; a resource is stored all the same, and
        `code:present` says that there is something.
        """
        resource_type = resource["resourceType"]
        plan = self._plans.get(resource_type)
        if plan is None:
            plan = self._plans[resource_type] = self._plan(resource_type)
        entries: dict[str, Any] = {}
        by_member = plan.by_member
        for name, member in resource.items():
            for extract in by_member.get(name, ()):
                extract(resource, member, entries)
        for extract in plan.always:
            extract(resource, None, entries)
        if self._full_text:
            add_words(resource, entries, self._full_text)
        return entries

    def _plan(self, resource_type: str) -> _Plan:
        parameters = table_of(resource_type, self._registry).parameters
        paths = self._paths(resource_type)
        ways = Counter(code for path in paths for code in path.codes for _ in path.triggers or (None,))
        by_member: dict[str, list[Extract]] = {}
        always: list[Extract] = []
        for path in paths:
            codes = tuple(path.codes)
            merging = any(ways[code] > 1 for code in codes)
            if path.make is not None and path.kind == "special":
                extract = special_extract(path.branch, path.make, codes)
            elif path.make is not None:
                bare = tuple(code for code in codes if parameters[code].bare)
                listed = tuple(code for code in codes if not parameters[code].bare)
                extract = simple_extract(path.branch, path.make, listed, bare, merging=merging)
            else:
                extract = composite_extract(path.branch, path.components, codes, merging=merging)
            for trigger in path.triggers:
                by_member.setdefault(trigger, []).append(extract)
            if not path.triggers:
                always.append(extract)
        always += self._dynamic(resource_type)
        return _Plan({name: tuple(extracts) for name, extracts in by_member.items()}, tuple(always))

    def renew(self) -> None:
        """Take up the search parameters that the registry has now."""
        self._plans.clear()

    def _dynamic(self, resource_type: str) -> Iterator[Extract]:
        """The extractions of parameters whose expressions are more than paths."""
        parameters = table_of(resource_type, self._registry).parameters
        for definition in self._registry.parameters_of(resource_type).values():
            expression = compiled_for(self._registry, definition, resource_type) if definition.own else ()
            if isinstance(expression, Expression):
                bare = parameters[definition.code].bare
                yield dynamic_extract(expression, definition, self._makers, bare=bare)

    def _paths(self, resource_type: str) -> list[_Path]:
        root = shape_of(resource_type)
        paths: dict[object, _Path] = {}
        for parameter in self._registry.parameters_of(resource_type).values():
            if parameter.expression is None or parameter.code in STORED_APART:
                continue
            branches = compiled_for(self._registry, parameter, resource_type)
            for branch in branches if isinstance(branches, tuple) else ():
                key, path = (
                    self._composite(parameter, branch, root)
                    if parameter.type == "composite"
                    else self._simple(parameter, branch)
                )
                if path is not None and parameter.code not in (known := paths.setdefault(key, path)).codes:
                    known.codes.append(parameter.code)
        return list(paths.values())

    def _simple(self, parameter: SearchParameter, branch: Branch) -> tuple[object, _Path | None]:
        make = self._makers.maker_of(parameter, branch.type, branch.element)
        if make is None:
            return None, None
        first = first_member(branch)
        binding = branch.element.binding if branch.element else None
        targets = parameter.target if branch.type == "Resource" else ()
        key = (parameter.type, branch.steps, branch.type, binding, targets)
        return key, _Path(parameter.type, branch, (first,) if first else (), make)

    def _composite(self, parameter: SearchParameter, branch: Branch, root: Shape) -> tuple[object, _Path | None]:
        components: list[tuple[Part, ...]] = []
        key: list[object] = ["composite", branch.steps]
        triggers: tuple[str, ...] = ()
        for definition, expression in components_of(self._registry, parameter):
            below = compiled(self._registry, expression, branch.shape, root)
            made = [(b, self._makers.maker_of(definition, b.type, b.element)) for b in below]
            parts = [(b, make) for b, make in made if make is not None]
            if not parts:
                return None, None
            components.append(tuple((b.from_root, visit_of(b.steps), make) for b, make in parts))
            key.append((definition.type, tuple((b.from_root, b.steps, b.type) for b, _ in parts)))
            starts = [b.steps[0] for b, _ in parts if b.steps and isinstance(b.steps[0], Key)]
            # Every component must be there, so the last will do to set the composite off: it is the rarer one.
            triggers = tuple(dict.fromkeys(k.name for k in starts)) if len(starts) == len(parts) else ()
        if branch.steps:
            first = first_member(branch)
            triggers = (first,) if first else ()
        return tuple(key), _Path(parameter.type, branch, triggers, None, tuple(components))
