"""The elements of a definition as a tree: read from a type of FHIR or from a snapshot, and written as a snapshot again.

Spec: https://hl7.org/fhir/R4/elementdefinition.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from profiles.registry import Element, TypeDefinition

Json = dict[str, Any]

TYPES = "http://hl7.org/fhir/StructureDefinition/"
SYSTEM_TYPES = "http://hl7.org/fhirpath/"


class SnapshotError(Exception):
    """A definition of which no snapshot can be made; the message says why."""


@dataclass(slots=True, eq=False)
class Branch:
    """One element with its members and its slices; `members` is None where they were not unfolded.

    `base` is the same element as the base has it, which further slices begin with.
    """

    name: str
    row: Json
    members: list[Branch] | None = None
    slices: list[Branch] = field(default_factory=list)
    base: Branch | None = None

    def member(self, name: str) -> Branch | None:
        return next((one for one in self.members or () if one.name == name), None)

    def copy(self) -> Branch:
        """A copy to lay rows over, which remembers what it is a copy of."""
        members = None if self.members is None else [one.copy() for one in self.members]
        return Branch(self.name, deepcopy(self.row), members, [one.copy() for one in self.slices], self)


def tree_of(rows: Iterable[Json]) -> Branch:
    """The tree of a snapshot.

    Raises:
        SnapshotError: an element is not below another one.
    """
    root: Branch | None = None
    above: list[tuple[str, Branch]] = []
    for given in rows:
        path = given["path"]
        branch = Branch(path.rpartition(".")[2], {k: v for k, v in given.items() if k not in ("id", "path")})
        branch.row.setdefault("base", {"path": path, "min": given.get("min", 0), "max": given.get("max", "*")})
        if root is None:
            root = branch
        else:
            parent_path = path.rpartition(".")[0]
            while above and above[-1][0] != parent_path:
                above.pop()
            if not above:
                raise SnapshotError(f"A snapshot has the element {path}, but not the one it belongs to.")
            _graft(above[-1][1], branch)
        above.append((path, branch))
    if root is None:
        raise SnapshotError("A snapshot without elements.")
    return root


def _graft(parent: Branch, branch: Branch) -> None:
    """Put a branch below its parent, or beside what it slices."""
    if parent.members is None:
        parent.members = []
    name = branch.row.get("sliceName")
    sliced = parent.member(branch.name) if name is not None else None
    while sliced is not None:
        inner = next((one for one in sliced.slices if str(name).startswith(f"{one.row.get('sliceName')}/")), None)
        if inner is None:
            sliced.slices.append(branch)
            return
        sliced = inner
    parent.members.append(branch)


def type_tree(definition: TypeDefinition) -> Branch:
    """The tree of a type of FHIR."""
    return tree_of(_row_of(element) for element in definition.elements.values())


def _row_of(element: Element) -> Json:
    most = "*" if element.max is None else str(element.max)
    row: Json = {"path": element.path, "min": element.min, "max": most}
    if element.content is not None:
        row["contentReference"] = f"#{element.content}"
    types = []
    for one in element.types:
        entry: Json = {"code": one.code}
        if one.profiles:
            entry["profile"] = list(one.profiles)
        if one.targets:
            entry["targetProfile"] = [TYPES + target for target in one.targets]
        types.append(entry)
    if types:
        row["type"] = types
    if element.binding is not None:
        row["binding"] = {"strength": element.binding_strength, "valueSet": element.binding}
    if element.modifier:
        row["isModifier"] = True
    if element.invariants:
        row["constraint"] = [
            {"key": i.key, "severity": i.severity, "human": i.human, "expression": i.expression}
            for i in element.invariants
        ]
    return row


def rows_of(root: Branch) -> Iterator[Json]:
    yield from _written(root, "", "")


def _written(branch: Branch, path: str, element_id: str) -> Iterator[Json]:
    path = f"{path}.{branch.name}" if path else branch.name
    element_id = f"{element_id}.{branch.name}" if element_id else branch.name
    if "sliceName" in branch.row:
        element_id += f":{branch.row['sliceName']}"
    yield {"id": element_id, "path": path, **branch.row}
    for member in branch.members or ():
        yield from _with_slices(member, path, element_id)


def _with_slices(branch: Branch, path: str, element_id: str) -> Iterator[Json]:
    yield from _written(branch, path, element_id)
    for one in branch.slices:
        yield from _with_slices(one, path, element_id)


def code_of(entry: Json) -> str:
    """The type that an entry of `type` names; FHIRPath's own types are those that hold them."""
    code: str = next(
        (x.get("valueUrl", "") for x in entry.get("extension", ()) if x.get("url", "").endswith("-fhir-type")),
        entry.get("code", ""),
    )
    if code.startswith(SYSTEM_TYPES):
        code = code.rpartition(".")[2]
        code = code[:1].lower() + code[1:]
    return code
