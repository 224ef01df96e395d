"""Where in a profile the element is that a discriminator's path names.

It may stand below the slice, in the profile that the slice's type names, or behind a reference; and what it must be may
be said by a value further up.

Spec: https://hl7.org/fhir/R4/profiling.html#discriminator
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhir_server.fhirpath.items import Fault
from fhir_server.fhirpath.nodes import Call, Literal, Member, This, TypeOperation
from fhir_server.fhirpath.nodes import Node as PathNode
from fhir_server.fhirpath.parser import parsed
from fhir_server.model.errors import InvalidError
from fhir_server.validation.profile.definition import Demand, Node

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

#: Values at a path may lie in slices of slices, no deeper than this.
_MAX_DEPTH = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a discriminator's path: a member, an extension by its URL, what a reference leads to, a type."""

    kind: str
    name: str = ""


def steps_of(path: str) -> tuple[Step, ...] | None:
    """The steps of a discriminator's path, a small part of FHIRPath; None for what is none."""
    try:
        return tuple(_steps(parsed(path.removeprefix("$this.") if path != "$this" else path)))
    except (Fault, InvalidError, ValueError):
        return None


def _steps(node: PathNode) -> Iterator[Step]:
    match node:
        case This("$this"):
            return
        case Member(source, name):
            yield from () if source is None else _steps(source)
            yield Step("member", name)
        case Call(source, "resolve", ()):
            yield from () if source is None else _steps(source)
            yield Step("resolve")
        case Call(source, "extension", (Literal(str(url)),)):
            yield from () if source is None else _steps(source)
            yield Step("extension", url)
        case TypeOperation("ofType" | "as", source, type_name):
            yield from _steps(source)
            yield Step("type", type_name)
        case _:
            raise ValueError(f"{node} is no part of a discriminator")


def located(node: Node, steps: tuple[Step, ...], shelf: Shelf, depth: int) -> Iterator[Node | Demand]:
    """The elements that a path leads to from a slice, or what a value further up demands of them."""
    if not steps:
        yield node
        return
    if node.demand is not None:
        yield from _within(node.demand, steps)
    if depth > _MAX_DEPTH:
        return
    for below in _below(node, steps[0], shelf):
        if isinstance(below, Demand):
            yield from _within(below, steps[1:]) if steps[1:] else (below,)
        else:
            yield from located(below, steps[1:], shelf, depth + 1)


def _within(demand: Demand, steps: tuple[Step, ...]) -> Iterator[Demand]:
    """The parts of a fixed value or pattern that a path leads to."""
    rows = [demand.value]
    for step in steps:
        if step.kind == "type":
            continue
        if step.kind != "member":
            return
        rows = [
            value
            for row in rows
            for one in (row if isinstance(row, list) else [row])
            if isinstance(one, dict) and (value := one.get(step.name)) is not None
        ]
    for row in rows:
        yield from (Demand(one, demand.is_fixed) for one in (row if isinstance(row, list) else [row]))


def _below(node: Node, step: Step, shelf: Shelf) -> Iterator[Node | Demand]:
    match step.kind:
        case "member":
            yield from _member(node, step.name, shelf)
        case "extension":
            yield from _extension(node, step.name)
            for extension in _profiled(node, shelf):
                yield from _extension(extension, step.name)
        case "resolve":
            for one in node.types:
                for target in one.targets:
                    if (structure := shelf.structure(target)) is not None:
                        yield structure.root
        case "type":
            yield from (s for s in node.slices if {t.code for t in s.types} == {step.name})
            yield node


def _member(node: Node, name: str, shelf: Shelf) -> Iterator[Node | Demand]:
    child = node.child(name)
    if child is not None:
        yield child
        # `code.coding.code` where `coding` is sliced, and the slice that must be there says the code.
        yield from (s for s in child.slices if s.min > 0)
    profiles = [profile for one in node.types for profile in one.profiles]
    for root in _profiled(node, shelf):
        yield from _member(root, name, shelf)
    if name == "url" and node.name in ("extension", "modifierExtension"):
        # An extension is told by its URL, also where its definition is not held.
        yield from (Demand(profile.partition("|")[0], is_fixed=True) for profile in profiles)


def _profiled(node: Node, shelf: Shelf) -> Iterator[Node]:
    for one in node.types:
        for profile in one.profiles:
            if (structure := shelf.structure(profile)) is not None:
                yield structure.root


def _extension(node: Node, url: str) -> Iterator[Node]:
    extensions = node.child("extension")
    for sliced in extensions.slices if extensions is not None else ():
        named = sliced.child("url")
        is_named = named is not None and named.demand is not None and named.demand.value == url
        if is_named or any(p.partition("|")[0] == url for t in sliced.types for p in t.profiles):
            yield sliced
