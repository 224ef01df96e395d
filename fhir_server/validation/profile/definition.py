"""A StructureDefinition's snapshot as a tree: elements below elements, and slices beside the element that they slice.

Spec: https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from profiles.registry import Invariant

Json = dict[str, Any]

MAX_VALUE_SET = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
SYSTEM = "http://hl7.org/fhirpath/System."

#: The slice that takes what no other does.
DEFAULT_SLICE = "@default"


@dataclass(frozen=True, slots=True)
class TypeRef:
    """A type that an element may have: profiles of it, and of what it refers to."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Discriminator:
    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Slicing:
    discriminators: tuple[Discriminator, ...]
    rules: str = "open"
    is_ordered: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    strength: str
    value_set: str


@dataclass(frozen=True, slots=True)
class Demand:
    """A value that an element must be (`is_fixed`), or contain (a pattern)."""

    value: Any
    is_fixed: bool


@dataclass(slots=True, eq=False)
class Node:
    """One element of a snapshot, or one slice of it."""

    id: str
    path: str
    slice_name: str | None = None
    min: int = 0
    max: int | None = None
    types: tuple[TypeRef, ...] = ()
    demand: Demand | None = None
    bindings: tuple[Binding, ...] = ()
    constraints: tuple[Invariant, ...] = ()
    must_support: bool = False
    max_length: int | None = None
    lowest: Any = None
    highest: Any = None
    content: str | None = None
    slicing: Slicing | None = None
    children: list[Node] = field(default_factory=list)
    slices: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the member: `value` of `Observation.value[x]`."""
        return self.path.rpartition(".")[2].removesuffix("[x]")

    @property
    def is_choice(self) -> bool:
        return self.path.endswith("[x]")

    def child(self, name: str) -> Node | None:
        return next((child for child in self.children if child.name == name), None)


@dataclass(frozen=True, slots=True)
class Structure:
    """A profile: its canonical, the type that it constrains, and the tree of its snapshot."""

    url: str
    version: str | None
    type: str
    root: Node
    by_path: dict[str, Node]

    @property
    def canonical(self) -> str:
        return f"{self.url}|{self.version}" if self.version else self.url


class UnusableError(Exception):
    """A StructureDefinition by which nothing can be validated here; the message says why."""


def structure_of(definition: Json, elements: list[Json] | None = None) -> Structure:
    """Read a StructureDefinition that is itself valid; `elements` are those of its snapshot where it has none.

    Raises:
        UnusableError: it has no snapshot, or does not constrain a type of FHIR.
    """
    url = str(definition.get("url"))
    if definition.get("kind") == "logical":
        raise UnusableError(f"The StructureDefinition {url} is a logical model; a profile of a FHIR type was expected.")
    elements = elements or (definition.get("snapshot") or {}).get("element")
    if not elements:
        raise UnusableError(f"The StructureDefinition {url} has no snapshot.")
    root = node_of(elements[0])
    by_path = {root.path: root}
    parents = [root]
    for row in elements[1:]:
        node = node_of(row)
        parent_path = node.path.rpartition(".")[0]
        while parents and parents[-1].path != parent_path:
            parents.pop()
        if not parents:
            raise UnusableError(f"The snapshot of {url} has the element {node.path}, but not the one it belongs to.")
        _put(node, parents[-1])
        by_path.setdefault(node.path, node)
        parents.append(node)
    return Structure(url, definition.get("version"), str(definition.get("type")), root, by_path)


def _put(node: Node, parent: Node) -> None:
    """Put a node below its parent: as an element of its own, or beside the one that it slices."""
    if node.slice_name is not None:
        sliced = next((child for child in parent.children if child.path == node.path), None)
        while sliced is not None:
            inner = next((s for s in sliced.slices if node.slice_name.startswith(f"{s.slice_name}/")), None)
            if inner is None:
                sliced.slices.append(node)
                return
            sliced = inner
        # A name given to an element that nothing slices: it is the element itself.
    parent.children.append(node)


def node_of(row: Json) -> Node:
    """One ElementDefinition without its place in the tree."""
    slicing = row.get("slicing")
    content = row.get("contentReference")
    return Node(
        id=row.get("id") or row["path"],
        path=row["path"],
        slice_name=row.get("sliceName"),
        min=row.get("min", 0),
        max=_most(row),
        types=tuple(map(_type_of, row.get("type", ()))),
        demand=_demand_of(row),
        bindings=tuple(_bindings_of(row.get("binding") or {})),
        constraints=tuple(_constraint_of(c) for c in row.get("constraint", ()) if c.get("expression")),
        must_support=row.get("mustSupport", False),
        max_length=row.get("maxLength"),
        lowest=_value_of(row, "minValue"),
        highest=_value_of(row, "maxValue"),
        content=None if content is None else content.rpartition("#")[2],
        slicing=None if slicing is None else _slicing_of(slicing),
    )


def _most(row: Json) -> int | None:
    most = row.get("max", "*")
    if most == "*":
        return None
    if not most.isascii() or not most.isdigit():
        raise UnusableError(f"The element {row['path']} may be there {most[:20]!r} times; a number or * was expected.")
    return int(most)


def _type_of(entry: Json) -> TypeRef:
    code = next((x.get("valueUrl") for x in entry.get("extension", ()) if x.get("url") == FHIR_TYPE), None)
    code = (code or entry.get("code", "")).removeprefix(SYSTEM)
    code = code[:1].lower() + code[1:] if code in ("String", "Boolean", "Integer", "Decimal") else code
    return TypeRef(code, tuple(entry.get("profile", ())), tuple(entry.get("targetProfile", ())))


def _slicing_of(slicing: Json) -> Slicing:
    discriminators = tuple(Discriminator(d["type"], d["path"]) for d in slicing.get("discriminator", ()))
    return Slicing(discriminators, slicing.get("rules", "open"), slicing.get("ordered", False))


def _demand_of(row: Json) -> Demand | None:
    for stem, is_fixed in (("fixed", True), ("pattern", False)):
        if (value := _value_of(row, stem)) is not None:
            return Demand(value, is_fixed)
    return None


def _value_of(row: Json, stem: str) -> Any:
    """The value of a choice, `fixedUri` say, whatever its type."""
    return next((v for k, v in row.items() if k.startswith(stem) and k[len(stem) : len(stem) + 1].isupper()), None)


def _bindings_of(binding: Json) -> list[Binding]:
    found = []
    if "valueSet" in binding:
        found.append(Binding(binding.get("strength", "example"), binding["valueSet"]))
    for extension in binding.get("extension", ()):
        value = extension.get("valueCanonical") or extension.get("valueUri")
        if extension.get("url") == MAX_VALUE_SET and value:
            found.append(Binding("required", value))
    return found


def _constraint_of(row: Json) -> Invariant:
    return Invariant(row["key"], row["severity"], row.get("human", ""), row["expression"])
