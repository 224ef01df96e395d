"""From a path and a maker to one closure that fills index entries in.

Paths start at a member of the resource, so that a resource costs what it has, not what its type could have: an
Observation has some forty search parameters and about a dozen members.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fhir_server.fhirpath.compile import Branch
from fhir_server.fhirpath.steps import Key, Nth, Visit, visit_from_member, visit_of
from fhir_server.search.entries import Further, Make

#: Marks a parameter whose element is there and leaves no entry (a reference by identifier alone, a concept in words):
#: it is not `:missing`. A field of its own, so that the partial indexes do not see it.
PRESENT = ":present"

Resource = dict[str, Any]
Entries = dict[str, Any]

#: Adds the entries that one member of a resource leaves: (resource, the member's value, entries).
Extract = Callable[[Resource, Any, Entries], None]

#: One way to the values of a composite's component: whether it starts at the resource, its path, its maker.
Part = tuple[bool, Visit, Make]


def first_member(branch: Branch) -> str | None:
    """The member of the resource that a path starts with; None for one that has to see the whole resource."""
    first = branch.steps[0] if branch.steps else None
    while isinstance(first, Nth):
        first = first.path[0] if first.path else None
    return first.name if isinstance(first, Key) else None


def simple_extract(
    branch: Branch, make: Make, codes: tuple[str, ...], bare: tuple[str, ...], *, merging: bool
) -> Extract:
    """The extraction of values along one path for parameters that index them alike.

    Args:
        branch: The path.
        make: Makes the entries of one value.
        codes: The search parameters that the entries are for.
        bare: Those that have no more than one entry, and have it as it is.
        merging: Whether another path leads to one of these parameters too.
    """
    put = _merge if merging else _set
    visit = _visit(branch)
    everyone = (*codes, *bare)
    marks = [code + PRESENT for code in everyone]

    def keep(main: list[Any], further: Further, entries: Entries) -> None:
        if main:
            put(entries, codes, "", main)
            for code in bare:
                entries.setdefault(code, main[0])
        for suffix, others in further.items():
            if others:
                put(entries, everyone, suffix, others)
        if not main:
            entries.update(dict.fromkeys(marks, True))

    def extract(resource: Resource, member: Any, entries: Entries) -> None:
        values: list[Any] = []
        visit(resource, member, values)
        if not values:
            return
        main: list[Any] = []
        further: Further = {}
        for value in values:
            make(value, main, further)
        keep(main, further, entries)

    def extract_one(resource: Resource, member: Any, entries: Entries) -> None:
        main: list[Any] = []
        further: Further = {}
        make(member, main, further)
        keep(main, further, entries)

    match branch.steps:
        case (Key(_, False),):
            return extract_one
    return extract


def special_extract(branch: Branch, make: Make, codes: tuple[str, ...]) -> Extract:
    """The extraction of the one value of a special parameter, bare: a geographic index takes no list of points."""
    visit = _visit(branch)

    def extract(resource: Resource, member: Any, entries: Entries) -> None:
        values: list[Any] = []
        visit(resource, member, values)
        main: list[Any] = []
        for value in values:
            make(value, main, {})
        if main:
            entries.update(dict.fromkeys(codes, main[0]))

    return extract


def composite_extract(
    branch: Branch, components: tuple[tuple[Part, ...], ...], codes: tuple[str, ...], *, merging: bool
) -> Extract:
    """The extraction of a composite: an entry for every instance that has a value for each component."""
    put = _merge if merging else _set
    visit = _visit(branch)

    def extract(resource: Resource, member: Any, entries: Entries) -> None:
        instances: list[Any] = []
        visit(resource, member, instances)
        found = [entry for instance in instances if (entry := _instance(resource, instance, components))]
        if found:
            put(entries, codes, "", found)

    return extract


def _visit(branch: Branch) -> Callable[[Resource, Any, list[Any]], None]:
    if branch.steps and isinstance(branch.steps[0], Key):
        below = visit_from_member(branch.steps)
        return lambda _, member, found: below(member, found)
    whole = visit_of(branch.steps)
    return lambda resource, _, found: whole(resource, found)


def _instance(resource: Resource, instance: Any, components: tuple[tuple[Part, ...], ...]) -> Entries:
    entry: Entries = {}
    for number, parts in enumerate(components):
        main: list[Any] = []
        for from_root, visit, make in parts:
            values: list[Any] = []
            visit(resource if from_root else instance, values)
            for value in values:
                make(value, main, {})
        if not main:
            return {}
        entry[str(number)] = distinct(main)
    return entry


def _set(entries: Entries, codes: Iterable[str], suffix: str, found: list[Any]) -> None:
    found = distinct(found)
    for code in codes:
        entries[code + suffix] = found


def _merge(entries: Entries, codes: Iterable[str], suffix: str, found: list[Any]) -> None:
    for code in codes:
        name = code + suffix
        entries[name] = distinct([*entries.get(name, ()), *found])


def distinct(found: list[Any]) -> list[Any]:
    """The entries without those that came before, in their order."""
    if len(found) == 1:
        return found
    if type(found[0]) is str:
        return list(dict.fromkeys(found))
    return list({repr(entry): entry for entry in found}.values())
