"""Slices: which items are which, how many of each there may be, and what each must look like.

Spec: https://hl7.org/fhir/R4/profiling.html#slicing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fhir_server.fhirpath.items import Item, Items
from fhir_server.validation.profile.definition import DEFAULT_SLICE, Discriminator, Node, Slicing
from fhir_server.validation.profile.discriminators import Matcher, all_of, evaluated, matcher_of
from fhir_server.validation.profile.findings import Place, path_of
from fhir_server.validation.profile.run import Check, Run

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

#: Looks at all items of an element, below their parent.
SliceCheck = Callable[[Item, Items, Run], None]

#: So many slices are named in a message.
_MAX_NAMED = 8


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice, compiled: how its items are told, and what they must look like."""

    node: Node
    place: Place
    matches: Matcher
    check: Check | None
    inner: SliceCheck | None


def matchers_of(node: Node, shelf: Shelf) -> list[tuple[Node, Matcher]] | None:
    """Each slice of an element with what tells its items; None where the profile leaves that open."""
    slicing = node.slicing or Slicing(())
    discriminators = slicing.discriminators
    if not discriminators and node.is_choice:
        discriminators = (Discriminator("type", "$this"),)
    if not discriminators:
        return None
    found = []
    for one in node.slices:
        if one.slice_name == DEFAULT_SLICE:
            continue
        matchers = [matcher_of(discriminator, one, shelf) for discriminator in discriminators]
        known = [evaluated(matcher) for matcher in matchers if matcher is not None]
        # A slice that one discriminator says nothing of is told by the others.
        if not known:
            return None
        found.append((one, all_of(known)))
    return found


class Slices:
    """The slices of one element."""

    def __init__(self, node: Node, slices: list[Slice], otherwise: Slice | None, canonical: str) -> None:
        self._node = node
        self._slices = slices
        self._otherwise = otherwise
        self._place = Place(canonical, node.id)
        self._slicing = node.slicing or Slicing(())

    def __call__(self, parent: Item, items: Items, run: Run) -> None:
        """Sort the items into slices and look at each of them."""
        members: list[Items] = [[] for _ in self._slices]
        rest: Items = []
        undecided = 0
        highest, last = -1, ""
        for item in items:
            at, is_open = self._slice_of(item, run)
            if at is None:
                undecided += is_open
                if not is_open:
                    rest.append(item)
                continue
            members[at].append(item)
            name = self._slices[at].node.slice_name or ""
            if self._slicing.is_ordered and at < highest:
                text = f"Found the slice {name} after {last}; expected the slices in the order {self._names()}"
                self._tell(item, text, run)
            if at > highest:
                highest, last = at, name
            if rest and self._slicing.rules == "openAtEnd":
                text = f"Found the slice {name} after an item that is in no slice; expected such items at the end"
                self._tell(item, text, run)
        self._look_at_rest(parent, rest, run)
        for one, own in zip(self._slices, members, strict=True):
            look_at(one, parent, own, undecided, run)

    def _slice_of(self, item: Item, run: Run) -> tuple[int | None, bool]:
        """The number of the slice that an item belongs to, and whether that is left open."""
        is_open = False
        for at, one in enumerate(self._slices):
            found = one.matches(item, run)
            if found:
                return at, False
            is_open = is_open or found is None
        return None, is_open

    def _look_at_rest(self, parent: Item, rest: Items, run: Run) -> None:
        if self._otherwise is not None:
            look_at(self._otherwise, parent, rest, 0, run)
        elif self._slicing.rules == "closed":
            for item in rest:
                self._tell(item, f"Found an item that is in no slice; expected those of {self._names()} only", run)

    def _names(self) -> str:
        names = [one.node.slice_name or "" for one in self._slices]
        return " | ".join(names[:_MAX_NAMED]) + (" | …" if len(names) > _MAX_NAMED else "")

    def _tell(self, item: Item, text: str, run: Run) -> None:
        run.findings.tell("HS-PROFILE-SLICE", "structure", path_of(item), text, self._place)


def look_at(one: Slice, parent: Item, items: Items, undecided: int, run: Run) -> None:
    """The items of one slice: their number, then each of them; `undecided` ones may be of this slice too."""
    node, count = one.node, len(items)
    path = f"{path_of(parent)}.{node.name}"
    if count + undecided < node.min:
        found = f"{count}" if count else "no"
        text = f"Found {found} {node.name} of the slice {node.slice_name}; expected at least {node.min}"
        run.findings.tell("HS-PROFILE-REQUIRED", "required", path, text, one.place)
    if node.max is not None and count > node.max:
        text = f"Found {count} {node.name} of the slice {node.slice_name}; expected at most {node.max}"
        run.findings.tell("HS-PROFILE-MAX", "structure", path, text, one.place)
    if one.check is not None:
        for item in items:
            one.check(item, run)
    if one.inner is not None:
        one.inner(parent, items, run)


def untold(node: Node, canonical: str) -> SliceCheck:
    """Slices that nothing tells apart."""
    place = Place(canonical, node.id)

    def check(parent: Item, items: Items, run: Run) -> None:
        if items:
            text = f"Not checked: the profile does not say by what the slices of {node.name} are told apart"
            run.findings.tell(
                "HS-PROFILE-UNCHECKED", "informational", path_of(items[0]), text, place, severity="information"
            )

    return check
