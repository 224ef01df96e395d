"""Compile the tree of a profile to checks: once per profile, when it is first needed.

What the base type says already is not checked again: the structure validation has done so.

Spec: https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fhir_server.fhirpath.items import Item, children
from fhir_server.fhirpath.kinds import Kind
from fhir_server.validation.profile.bindings import binding_check
from fhir_server.validation.profile.constraints import constraint_checks
from fhir_server.validation.profile.definition import DEFAULT_SLICE, Demand, Node, Structure, TypeRef, UnusableError
from fhir_server.validation.profile.discriminators import Matcher
from fhir_server.validation.profile.findings import Place, path_of
from fhir_server.validation.profile.references import target_check
from fhir_server.validation.profile.run import Check, Run
from fhir_server.validation.profile.slicing import Slice, SliceCheck, Slices, matchers_of, untold
from fhir_server.validation.profile.values import is_above, is_below, is_of, meets, shown
from profiles.registry import Element

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf

#: Types whose members are those of the element itself.
_OWN_MEMBERS = frozenset({"BackboneElement", "Element"})


def compiled(structure: Structure, shelf: Shelf, *, support: bool = False) -> Check:
    """The check of an item against a profile; a resource of another type is told as such.

    With `support` it tells also of elements that must be supported and are not there, which is no fault.

    Raises:
        UnusableError: the profile constrains a type or an element that FHIR has not.
    """
    kind = shelf.kinds.named(structure.type)
    if kind is None:
        raise UnusableError(f"The profile {structure.canonical} is for {structure.type}, which is no type of FHIR R4.")
    check = Compiler(structure, shelf, support=support).check(structure.root, kind, None)
    place = Place(structure.canonical, structure.root.id)

    def whole(item: Item, run: Run) -> None:
        if not item.kind.is_a(structure.type):
            text = f"Found a {item.kind.name}; expected a {structure.type}"
            run.findings.tell("HS-PROFILE-TYPE", "structure", path_of(item), text, place)
        elif check is not None:
            check(item, run)

    return whole


def of_type(name: str) -> Check:
    """The check against a type of FHIR, by which every resource is validated anyway: whether it is of that type."""
    place = Place(f"http://hl7.org/fhir/StructureDefinition/{name}", name)

    def check(item: Item, run: Run) -> None:
        if not item.kind.is_a(name):
            text = f"Found a {item.kind.name}; expected a {name}"
            run.findings.tell("HS-PROFILE-TYPE", "structure", path_of(item), text, place)

    return check


class Compiler:
    """Compiles the elements of one profile."""

    def __init__(self, structure: Structure, shelf: Shelf, *, support: bool = False) -> None:
        self._structure = structure
        self._shelf = shelf
        self._support = support
        self._repeated: dict[int, Check | None] = {}

    def check(self, node: Node, kind: Kind | None, base: Element | None) -> Check | None:
        """The check of one item at an element or slice; None where there is nothing to check."""
        checks = self._own(node, base)
        if node.content is not None:
            checks.append(self._repeating(node.content))
        checks += [c for child in node.children if (c := self._member(child, kind)) is not None]
        return _all_of(checks)

    def _own(self, node: Node, base: Element | None) -> list[Check]:
        """What an element says of its value, its members apart."""
        place = Place(self._structure.canonical, node.id)
        found = [
            _type_check(node, base, place),
            None if node.demand is None else _demand_check(node.demand, place),
            None if node.max_length is None else _length_check(node.max_length, place),
            _limit_check(node, place),
            target_check(node.types, place, self._shelf),
            _profile_check(node.types, place),
            *(binding_check(binding, base, place, self._shelf) for binding in node.bindings),
            *constraint_checks(node, self._structure, self._shelf),
        ]
        return [check for check in found if check is not None]

    def _repeating(self, path: str) -> Check:
        """An element that has the content of another (`Questionnaire.item.item`), which may contain itself."""
        node = self._structure.by_path.get(path)

        def check(item: Item, run: Run) -> None:
            if node is None:
                return
            if id(node) not in self._repeated:
                self._repeated[id(node)] = None  # until it is made, within itself
                kind = item.kind
                members = [c for child in node.children if (c := self._member(child, kind)) is not None]
                self._repeated[id(node)] = _all_of(members)
            inner = self._repeated[id(node)]
            if inner is not None:
                inner(item, run)

        return check

    def _member(self, node: Node, kind: Kind | None) -> Check | None:
        """The check of a member, its number and its values, on the item that has it."""
        if kind is not None and kind.is_primitive and node.name == "value":
            return None  # the value of a primitive is the item itself
        base, inner = self._place_of(node, kind)
        one = self.check(node, inner, base)
        slices = self._slices(node, inner, base)
        least = node.min if base is None or node.min > base.min else 0
        most = node.max
        if base is not None and (most is None or (base.max is not None and base.max <= most)):
            most = None
        must = self._support and node.must_support and not least
        if one is None and slices is None and not least and most is None and not must:
            return None
        name, place = node.name, Place(self._structure.canonical, node.id)

        def check(parent: Item, run: Run) -> None:
            items = children(parent, name)
            count = len(items)
            if count < least or (most is not None and count > most):
                _tell_count(parent, name, count, least, most, place, run)
            if must and not count:
                _tell_support(parent, name, place, run)
            if one is not None:
                for item in items:
                    one(item, run)
            if slices is not None:
                slices(parent, items, run)

        return check

    def _place_of(self, node: Node, kind: Kind | None) -> tuple[Element | None, Kind | None]:
        """The element of the base type, and what its values are where that is one thing."""
        if kind is None:
            return None, None
        fields = kind.fields_named(node.name)
        if not fields:
            raise UnusableError(
                f"The profile {self._structure.canonical} has the element {node.path}, but {kind.name} has no "
                f"{node.name}."
            )
        codes = {one.code for one in node.types} - _OWN_MEMBERS
        inner = fields[0].kind if len(fields) == 1 else None
        if len(codes) == 1 and (inner is None or inner.is_resource):
            inner = self._shelf.kinds.named(next(iter(codes))) or inner
        if inner is not None and inner.is_resource and inner.name in ("Resource", "DomainResource"):
            inner = None  # of any type: its members are known when it is seen
        return fields[0].element, inner

    def _slices(self, node: Node, kind: Kind | None, base: Element | None) -> SliceCheck | None:
        if not node.slices:
            return None
        canonical = self._structure.canonical
        known = matchers_of(node, self._shelf)
        if known is None:
            return untold(node, canonical)
        slices = [self._slice(one, matches, kind, base) for one, matches in known]
        rest = next((one for one in node.slices if one.slice_name == DEFAULT_SLICE), None)
        otherwise = None if rest is None else self._slice(rest, lambda item, run: True, kind, base)
        return Slices(node, slices, otherwise, canonical)

    def _slice(self, node: Node, matches: Matcher, kind: Kind | None, base: Element | None) -> Slice:
        codes = {one.code for one in node.types} - _OWN_MEMBERS
        if len(codes) == 1 and (kind is None or kind.is_resource):
            kind = self._shelf.kinds.named(next(iter(codes))) or kind
        place = Place(self._structure.canonical, node.id)
        return Slice(node, place, matches, self.check(node, kind, base), self._slices(node, kind, base))


def _all_of(checks: Sequence[Check]) -> Check | None:
    if len(checks) < 2:
        return checks[0] if checks else None

    def check(item: Item, run: Run) -> None:
        for one in checks:
            one(item, run)

    return check


def _tell_count(parent: Item, name: str, count: int, least: int, most: int | None, place: Place, run: Run) -> None:
    path = f"{path_of(parent)}.{name}"
    found = f"{count}" if count else "no"
    if count < least:
        text = f"Found {found} {name}; expected at least {least}"
        run.findings.tell("HS-PROFILE-REQUIRED", "required", path, text, place)
    else:
        text = f"Found {found} {name}; expected {f'at most {most}' if most else 'none'}"
        run.findings.tell("HS-PROFILE-MAX", "structure", path, text, place)


def _tell_support(parent: Item, name: str, place: Place, run: Run) -> None:
    text = f"Found no {name}, which systems that claim the profile must be able to hold and show; it need not be there"
    path = f"{path_of(parent)}.{name}"
    run.findings.tell("HS-PROFILE-SUPPORT", "informational", path, text, place, severity="information")


def _type_check(node: Node, base: Element | None, place: Place) -> Check | None:
    """A type that the profile still allows, of those that the base type has."""
    allowed = frozenset(one.code for one in node.types)
    if not allowed or allowed & _OWN_MEMBERS or "." not in node.path:
        return None
    if base is not None and {one.code for one in base.types} <= allowed:
        return None
    if base is None and not node.is_choice:
        return None
    expected = " | ".join(sorted(allowed))

    def check(item: Item, run: Run) -> None:
        if not any(is_of(item, code) for code in allowed):
            text = f"Found a {item.kind.name}; expected {expected}"
            run.findings.tell("HS-PROFILE-TYPE", "structure", path_of(item), text, place)

    return check


def _demand_check(demand: Demand, place: Place) -> Check:
    expected = f"{'exactly' if demand.is_fixed else 'at least'} {shown(demand.value)}"
    key = "HS-PROFILE-FIXED" if demand.is_fixed else "HS-PROFILE-PATTERN"

    def check(item: Item, run: Run) -> None:
        if not meets(item.value, demand):
            text = f"Found {shown(item.value)}; expected {expected}"
            run.findings.tell(key, "value", path_of(item), text, place)

    return check


def _length_check(most: int, place: Place) -> Check:
    def check(item: Item, run: Run) -> None:
        if isinstance(item.value, str) and len(item.value) > most:
            text = f"Found {len(item.value)} characters; expected at most {most}"
            run.findings.tell("HS-PROFILE-LENGTH", "value", path_of(item), text, place)

    return check


def _limit_check(node: Node, place: Place) -> Check | None:
    lowest, highest = node.lowest, node.highest
    if lowest is None and highest is None:
        return None

    def check(item: Item, run: Run) -> None:
        units = run.shelf.units
        if lowest is not None and is_below(item, lowest, units):
            text = f"Found {shown(item.value)}; expected no less than {shown(lowest)}"
            run.findings.tell("HS-PROFILE-RANGE", "value", path_of(item), text, place)
        if highest is not None and is_above(item, highest, units):
            text = f"Found {shown(item.value)}; expected no more than {shown(highest)}"
            run.findings.tell("HS-PROFILE-RANGE", "value", path_of(item), text, place)

    return check


def _profile_check(types: Sequence[TypeRef], place: Place) -> Check | None:
    """The profiles that a type must conform to: where there are several, to one of them."""
    profiled = [one for one in types if one.profiles]
    if not profiled:
        return None

    def check(item: Item, run: Run) -> None:
        for one in profiled:
            if not is_of(item, one.code):
                continue
            if len(one.profiles) == 1:
                run.validate(item, one.profiles[0], place)
            else:
                _one_of(item, one.profiles, place, run)

    return check


def _one_of(item: Item, profiles: Sequence[str], place: Place, run: Run) -> None:
    verdicts = {canonical: run.conforms(item, canonical) for canonical in profiles}
    if True in verdicts.values():
        return
    unknown = [canonical for canonical, verdict in verdicts.items() if verdict is None]
    for canonical in unknown:
        run.not_held(item, canonical, place)
    if not unknown:
        text = f"Found what conforms to none of several profiles; expected one of {' | '.join(profiles)}"
        run.findings.tell("HS-PROFILE-TYPE", "structure", path_of(item), text, place)
