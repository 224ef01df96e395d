"""The check of one JSON object against the elements of its type.

The usual member costs one look-up and one call. Everything unusual (unknown names, `_name` twins, faults) is handled in
separate functions, so that the loop stays short.

Spec: https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fhir_server.validation.fault import (
    Check,
    Fault,
    Found,
    Json,
    NullItem,
    UnknownMember,
    also,
    are_readable,
    kind_of,
    under,
    wrong_type,
)


@dataclass(slots=True)
class Twin:
    """What is allowed behind an underscore: one Element, or an array of them beside an array of primitives."""

    name: str
    is_array: bool


@dataclass(slots=True)
class Shape:
    """The elements of one type, ready for checking; filled after the check is made, since types refer to each other.

    `choices` maps each allowed name of a choice (`valueQuantity`) to its check and to the bit of its element
    (`value[x]`); `groups` tells the element's name by that bit. `rules` are the invariants, which are asked last, and
    only of an object that can be read.
    """

    members: dict[str, Check] = field(default_factory=dict)
    choices: dict[str, tuple[Check, int]] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    twins: dict[str, Twin] = field(default_factory=dict)
    required: list[str] = field(default_factory=list)
    required_bits: int = 0
    whole: list[Callable[[Json], Found]] = field(default_factory=list)
    rules: list[Check] = field(default_factory=list)


def object_check(shape: Shape, element: Check, *, is_twin: bool = False) -> Check:
    """Make the check of an object; `element` checks the object behind an underscore (`{"extension": […]}`).

    An id is no content (invariant ele-1), but in a twin (`is_twin`), which stands beside a value.
    """
    get, get_choice = shape.members.get, shape.choices.get
    required, whole, groups, rules = shape.required, shape.whole, shape.groups, shape.rules

    def check(value: Any) -> Found:
        if type(value) is not dict or (len(value) < 2 and (not value or ("id" in value and not is_twin))):
            return _bare_id() if type(value) is dict and value else wrong_type(value, "an object")
        faults: Found = None
        bits = 0
        for name, child in value.items():
            member = get(name)
            if member is not None:
                found = member(child)
                if found is not None:
                    faults = under(found, name, faults)
                continue
            choice = get_choice(name)
            if choice is not None:
                member, bit = choice
                if bits & bit:
                    faults = also(_second_of_choice(groups[bit], name), faults)
                bits |= bit
                found = member(child)
                if found is not None:
                    # A FHIRPath names the element, `value`, and not the member `valueQuantity`.
                    faults = under(found, groups[bit], faults)
                continue
            faults, bits = _unusual(shape, element, value, name, faults, bits)
        for name in required:
            if name not in value and f"_{name}" not in value:
                faults = also(_missing(name), faults)
        if bits & shape.required_bits != shape.required_bits:
            faults = _missing_choices(shape, bits, faults)
        for test in whole:
            found = test(value)
            if found is not None:
                faults = found if faults is None else faults + found
        if faults is not None:
            faults = _without_twinned_nulls(value, faults, shape)
        for rule in rules:
            if faults is None:
                faults = rule(value)
            elif are_readable(faults) and (found := rule(value)) is not None:
                faults += found
        return faults

    return check


def array_check(item: Check) -> Check:
    """The check of an array of objects."""

    def check(value: Any) -> Found:
        if type(value) is not list or not value:
            return wrong_type(value, "an array")
        faults: Found = None
        for index, child in enumerate(value):
            found = item(child)
            if found is not None:
                faults = under(found, f"[{index}]", faults)
        return faults

    return check


def primitive_array_check(item: Check) -> Check:
    """The check of an array of primitives, where a null stands beside an Element in the twin array."""

    def check(value: Any) -> Found:
        if type(value) is not list or not value:
            return wrong_type(value, "an array")
        faults: Found = None
        for index, child in enumerate(value):
            if child is None:
                faults = also(NullItem(index), faults)
                continue
            found = item(child)
            if found is not None:
                faults = under(found, f"[{index}]", faults)
        return faults

    return check


def _unusual(shape: Shape, element: Check, value: Json, name: str, faults: Found, bits: int) -> tuple[Found, int]:
    """A `_name` twin, or a member that the type does not define."""
    twin = shape.twins.get(name)
    if twin is None:
        return also(UnknownMember(name, shape.members, shape.choices), faults), bits
    base = name[1:]
    choice = shape.choices.get(base)
    if choice is not None and base not in value:
        bit = choice[1]
        if bits & bit:
            faults = also(_second_of_choice(twin.name, name), faults)
        bits |= bit
    child = value[name]
    if type(child) is dict and not twin.is_array and child.keys() == {"id"} and base not in value:
        return under(_bare_id(), twin.name, faults), bits
    found = _twin_array(child, value.get(base), base in value, element) if twin.is_array else element(child)
    if found is not None:
        faults = under(found, twin.name, faults)
    return faults, bits


def _twin_array(child: Any, values: Any, has_values: bool, element: Check) -> Found:
    """The arrays `name` and `_name` have the same length, and at each index at least one of them says something."""
    if type(child) is not list or not child:
        return wrong_type(child, "an array of Elements and nulls")
    faults: Found = None
    for index, item in enumerate(child):
        if item is not None:
            is_alone = not has_values or type(values) is not list or index >= len(values) or values[index] is None
            is_bare = is_alone and type(item) is dict and item.keys() == {"id"}
            found = _bare_id() if is_bare else element(item)
            if found is not None:
                faults = under(found, f"[{index}]", faults)
        elif not has_values:
            text = "Found null without a value at the same index; expected an Element."
            faults = also(Fault("HS-VAL-NULL", "structure", text, path=f"[{index}]"), faults)
    if has_values and type(values) is list and len(values) != len(child):
        text = f"Found {len(values)} values and {len(child)} Elements; expected two arrays of the same length."
        faults = also(Fault("HS-VAL-TWIN-LENGTH", "structure", text), faults)
    return faults


def _without_twinned_nulls(value: Json, faults: list[Fault], shape: Shape) -> Found:
    """Drop the faults of nulls that stand beside an Element."""
    kept = [fault for fault in faults if not (type(fault) is NullItem and _is_twinned(value, fault, shape))]
    return kept or None


def _is_twinned(value: Json, fault: NullItem, shape: Shape) -> bool:
    name, _, rest = fault.path.partition("[")
    if rest != f"{fault.index}]" or f"_{name}" not in shape.twins:
        return False
    twins = value.get(f"_{name}")
    return type(twins) is list and fault.index < len(twins) and twins[fault.index] is not None


def _bare_id() -> list[Fault]:
    return [Fault("HS-VAL-EMPTY", "structure", "Found an id alone; expected a value or content beside it.")]


def _missing(name: str) -> Fault:
    return Fault("HS-VAL-REQUIRED", "required", f"Found no {name}; expected one, since it is required.", path=name)


def _missing_choices(shape: Shape, bits: int, faults: Found) -> Found:
    for bit, name in shape.groups.items():
        if bit & shape.required_bits and not bit & bits:
            allowed = [n for n, (_, own) in shape.choices.items() if own == bit]
            text = f"Found no {name}[x]; expected one of {', '.join(allowed[:12])}, since it is required."
            faults = also(Fault("HS-VAL-REQUIRED", "required", text, path=name), faults)
    return faults


def _second_of_choice(group: str, name: str) -> Fault:
    text = f"Found {name} beside another {group}[x]; expected one of them only."
    return Fault("HS-VAL-CHOICE", "structure", text, path=group)


def extension_has_one_content(value: Json) -> Found:
    """An Extension has a value or extensions, never both, never neither."""
    has_value = any(name.startswith(("value", "_value")) for name in value)
    if ("extension" in value) is not has_value:
        return None
    found = "a value and extensions" if has_value else "neither a value nor extensions"
    return [Fault("HS-VAL-EXTENSION", "invariant", f"Found {found}; expected one of the two.")]


def resource_type_fault(value: Any) -> list[Fault]:
    """What is wrong with the `resourceType` of something that should be a resource."""
    if type(value) is not dict or not value:
        return wrong_type(value, "a resource")
    name = value.get("resourceType")
    if name is None:
        text = "Found no resourceType; expected the name of a resource type."
        return [Fault("HS-VAL-RESOURCE-TYPE", "structure", text, path="resourceType")]
    if type(name) is not str:
        text = f"Found {kind_of(name)}; expected the name of a resource type."
        return [Fault("HS-VAL-RESOURCE-TYPE", "structure", text, path="resourceType")]
    return []
