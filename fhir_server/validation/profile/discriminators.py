"""Discriminators: by what an item belongs to a slice.

What tells the slices apart is read from the profile when it is compiled: the fixed value, pattern, value set, type,
profile or existence that a slice demands of the element at the discriminator's path.

Spec: https://hl7.org/fhir/R4/profiling.html#discriminator
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from fhir_server.fhirpath.engine import Compiler as PathCompiler
from fhir_server.fhirpath.functions.fhir import codings_of
from fhir_server.fhirpath.items import Fault, Item, Items, children
from fhir_server.fhirpath.parser import parsed
from fhir_server.fhirpath.references import target_type
from fhir_server.validation.profile.definition import Demand, Discriminator, Node
from fhir_server.validation.profile.located import Step, located, steps_of
from fhir_server.validation.profile.run import Run
from fhir_server.validation.profile.values import is_of, meets

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

#: Whether an item belongs to a slice; None where that cannot be told.
Matcher = Callable[[Item, Run], bool | None]


def matcher_of(discriminator: Discriminator, sliced: Node, shelf: Shelf) -> Matcher | None:
    """How one discriminator tells that an item belongs to a slice; None where the profile does not say."""
    steps = steps_of(discriminator.path)
    if steps is None:
        return None
    values = _values_at(discriminator.path, shelf)
    resolves = any(step.kind == "resolve" for step in steps)
    match discriminator.kind:
        case "value" | "pattern":
            found = located(sliced, steps, shelf, 0)
            made = next((m for at in found if (m := _by_value(at, values, shelf)) is not None), None)
            return _where_resolved(made, values) if made is not None and resolves else made
        case "exists":
            found = located(sliced, steps, shelf, 0)
            return next((m for at in found if (m := _by_existence(at, values)) is not None), None)
        case "type" if resolves:
            return _by_target_type(_targets(sliced, steps, shelf), values, shelf)
        case "type":
            return _by_type({one.code for at in _nodes(sliced, steps, shelf) for one in at.types}, values)
        case "profile" if resolves:
            return _by_profile(_targets(sliced, steps, shelf), values, is_resolved=True)
        case "profile":
            profiles = {p for at in _nodes(sliced, steps, shelf) for one in at.types for p in one.profiles}
            return _by_profile(profiles, values, is_resolved=False)
    return None


def _nodes(sliced: Node, steps: tuple[Step, ...], shelf: Shelf) -> list[Node]:
    return [at for at in located(sliced, steps, shelf, 0) if isinstance(at, Node)]


def _targets(sliced: Node, steps: tuple[Step, ...], shelf: Shelf) -> set[str]:
    """The profiles that the references before a final `resolve()` may lead to."""
    above = steps[:-1] if steps[-1].kind == "resolve" else ()
    return {target for at in _nodes(sliced, above, shelf) for one in at.types for target in one.targets}


def _values_at(path: str, shelf: Shelf) -> Callable[[Item, Run], Items]:
    if path == "$this":
        return lambda item, run: [item]
    evaluate = PathCompiler(shelf.kinds).evaluate(parsed(path))
    return lambda item, run: evaluate([item], run.context(item))


def _by_value(at: Node | Demand, values: Callable[[Item, Run], Items], shelf: Shelf) -> Matcher | None:
    if isinstance(at, Demand):
        return lambda item, run: any(meets(found.value, at) for found in values(item, run))
    if (demand := at.demand) is not None:
        return lambda item, run: any(meets(found.value, demand) for found in values(item, run))
    parts = list(_parts(at, ()))
    if parts:
        return lambda item, run: any(all(_has(found, *part) for part in parts) for found in values(item, run))
    required = next((b.value_set for b in at.bindings if b.strength == "required"), None)
    if required is not None:
        return _by_value_set(required, values, shelf)
    if at.max == 0:
        return lambda item, run: not values(item, run)
    return None


def _parts(node: Node, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Demand]]:
    """The values that elements further down must have: a pattern, told piece by piece."""
    for child in node.children:
        path = (*names, child.name)
        if child.demand is not None:
            yield path, child.demand
        yield from _parts(child, path)
        for sliced in child.slices:
            if sliced.min > 0:
                if sliced.demand is not None:
                    yield path, sliced.demand
                yield from _parts(sliced, path)


def _has(item: Item, names: tuple[str, ...], demand: Demand) -> bool:
    items: Iterable[Item] = [item]
    for name in names:
        items = [child for one in items for child in children(one, name)]
    return any(meets(one.value, demand) for one in items)


def _by_value_set(value_set: str, values: Callable[[Item, Run], Items], shelf: Shelf) -> Matcher:
    members = shelf.terminology.expansion(value_set)
    if members is None:
        return lambda item, run: None
    codes = frozenset(code for _, code in members)

    def matches(item: Item, run: Run) -> bool:
        return any(
            (system, code) in members if system is not None else code in codes
            for found in values(item, run)
            for system, code in codings_of(found)
        )

    return matches


def _by_existence(at: Node | Demand, values: Callable[[Item, Run], Items]) -> Matcher | None:
    if isinstance(at, Demand) or at.min > 0:
        return lambda item, run: bool(values(item, run))
    if at.max == 0:
        return lambda item, run: not values(item, run)
    return None


def _where_resolved(matcher: Matcher, values: Callable[[Item, Run], Items]) -> Matcher:
    """What is behind a reference that cannot be followed here is not known."""
    return lambda item, run: matcher(item, run) if values(item, run) else None


def _by_type(codes: set[str], values: Callable[[Item, Run], Items]) -> Matcher | None:
    if not codes:
        return None
    return lambda item, run: any(is_of(found, code) for found in values(item, run) for code in codes)


def _by_target_type(targets: set[str], values: Callable[[Item, Run], Items], shelf: Shelf) -> Matcher | None:
    codes = {shelf.type_of(target) for target in targets}
    if not codes or None in codes:
        return None

    def matches(item: Item, run: Run) -> bool | None:
        resolved = values(item, run)
        if resolved:
            return any(is_of(found, code) for found in resolved for code in codes if code)
        named = target_type(item.value)
        return None if named is None else named in codes

    return matches


def _by_profile(profiles: set[str], values: Callable[[Item, Run], Items], *, is_resolved: bool) -> Matcher | None:
    if not profiles:
        return None

    def matches(item: Item, run: Run) -> bool | None:
        items = values(item, run)
        if not items and is_resolved:
            return None
        verdicts = [run.conforms(one, profile) for one in items for profile in sorted(profiles)]
        if True in verdicts:
            return True
        return None if None in verdicts else False

    return matches


def all_of(matchers: Iterable[Matcher]) -> Matcher:
    """All discriminators of a slicing must agree."""
    tests = tuple(matchers)

    def matches(item: Item, run: Run) -> bool | None:
        result: bool | None = True
        for test in tests:
            found = test(item, run)
            if found is False:
                return False
            if found is None:
                result = None
        return result

    return matches


def evaluated(matcher: Matcher) -> Matcher:
    """A discriminator whose path fails on an item tells nothing about it."""

    def matches(item: Item, run: Run) -> bool | None:
        try:
            return matcher(item, run)
        except Fault:
            return None

    return matches
