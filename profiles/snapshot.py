"""Snapshots: what a profile says in whole, made from what its differential changes of what it is based on.

The base is read as a tree. Each row of the differential is walked to from the root: members of data types are unfolded
where a row goes into them, those of the profile that a type names, and those of what a content reference repeats; a
slice begins as a copy of what it slices. Then the row is laid over what stands there.

Spec: https://hl7.org/fhir/R4/profiling.html#snapshot, https://hl7.org/fhir/R4/elementdefinition.html#interpretation
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from copy import deepcopy

from profiles.branches import TYPES, Branch, Json, SnapshotError, code_of, rows_of, tree_of, type_tree
from profiles.registry import Registry

#: Gives the StructureDefinition of a canonical; None for one that is not held.
Definitions = Callable[[str], Json | None]

#: A member, and the slice of it that is meant.
Step = tuple[str, str | None]

#: Rows of a differential that are added to those of the base, not put in their place.
_ADDED = frozenset({"alias", "condition", "example", "mapping"})
_PLACE = frozenset({"id", "path", "sliceName"})
_VALUES = ("fixed", "pattern", "defaultValue", "minValue", "maxValue")

#: Definitions are based on each other no deeper than this, and their members lie no deeper.
_MAX_BASES = 30
_MAX_STEPS = 40

#: Snapshots of profiles that unfold one another could grow without end.
MAX_ELEMENTS = 20_000


class Snapshots:
    """Makes snapshots; each base that is met on the way is read once."""

    def __init__(self, registry: Registry, definitions: Definitions) -> None:
        self._registry = registry
        self._definitions = definitions
        self._under_way: list[str] = []
        self._trees: dict[str, Branch] = {}

    def elements_of(self, definition: Json) -> list[Json]:
        """The elements of a definition's snapshot: as it has them, or made from its differential.

        Raises:
            SnapshotError: it has neither, its base is not held, or its differential names what is not there.
        """
        given: list[Json] | None = (definition.get("snapshot") or {}).get("element")
        if given:
            return given
        rows = list(rows_of(self._made(definition)))
        if len(rows) > MAX_ELEMENTS:
            raise SnapshotError(f"The snapshot of {definition.get('url')} would have {len(rows)} elements.")
        return rows

    def _made(self, definition: Json) -> Branch:
        url = str(definition.get("url"))
        differential: list[Json] = (definition.get("differential") or {}).get("element") or []
        if not differential and "differential" not in definition:
            raise SnapshotError(f"The StructureDefinition {url} has neither a snapshot nor a differential.")
        if definition.get("derivation") == "specialization" or "baseDefinition" not in definition:
            raise SnapshotError(f"The StructureDefinition {url} defines a type of its own; a profile was expected.")
        if url in self._under_way or len(self._under_way) >= _MAX_BASES:
            raise SnapshotError(f"The profile {url} is based on itself, by {' and '.join(self._under_way)[:400]}.")
        self._under_way.append(url)
        try:
            root = self._tree_of(definition["baseDefinition"], f"the base of {url}").copy()
            _Overlay(self, root, url).put(differential)
            return root
        finally:
            self._under_way.pop()

    def _tree_of(self, canonical: str, what: str) -> Branch:
        """The tree of a type or of a profile; it is shared and must be copied before it is changed.

        Raises:
            SnapshotError: it is not held.
        """
        if canonical not in self._trees:
            self._trees[canonical] = self._read(canonical, what)
        return self._trees[canonical]

    def _read(self, canonical: str, what: str) -> Branch:
        name = canonical.partition("|")[0].removeprefix(TYPES)
        if name in self._registry.types:
            return type_tree(self._registry.types[name])
        definition = self._definitions(canonical)
        if definition is None:
            raise SnapshotError(f"The profile {canonical} is not held, and it is {what}.")
        given = (definition.get("snapshot") or {}).get("element")
        return tree_of(given) if given else self._made(definition)

    def members_of(self, branch: Branch, root: Branch, where: str) -> list[Branch]:
        """The members of an element whose members were not unfolded yet.

        Raises:
            SnapshotError: nothing says what they are.
        """
        content = branch.row.get("contentReference")
        if content is not None:
            target = _at(root, content.rpartition("#")[2])
            if target is None:
                raise SnapshotError(f"{where} has the content of {content}, which is not there.")
            branch.row.pop("contentReference")
            branch.row.setdefault("type", deepcopy(target.row.get("type", [])))
            return [one.copy() for one in (target.base or target).members or ()]
        types = branch.row.get("type", [])
        profiles = [profile for one in types for profile in one.get("profile", ())]
        if len(types) == 1 and len(profiles) == 1:
            url = profiles[0].partition("|")[0]
            is_held = url.removeprefix(TYPES) in self._registry.types or self._definitions(profiles[0]) is not None
            if is_held and url not in self._under_way:
                tree = self._tree_of(profiles[0], f"what {where} is validated against")
                return [one.copy() for one in tree.members or ()]
        codes = {code_of(one) for one in types}
        if len(codes) != 1:
            codes = {"Element"}  # of several types: what all of them have
        name = next(iter(codes))
        if name not in self._registry.types:
            raise SnapshotError(f"{where} has the type {name!r}, which has no members.")
        return [one.copy() for one in self._tree_of(TYPES + name, where).members or ()]


class _Overlay:
    """Lays the rows of one differential over a tree."""

    def __init__(self, snapshots: Snapshots, root: Branch, url: str) -> None:
        self._snapshots = snapshots
        self._root = root
        self._url = url
        #: Every element that the differential names, and those above it.
        self._named: set[tuple[Step, ...]] = set()

    def put(self, differential: list[Json]) -> None:
        rows: list[tuple[Json, tuple[Step, ...]]] = []
        last: tuple[Step, ...] = ()
        for row in differential:
            last = self._steps(row, last)
            rows.append((row, last))
            self._named.update(last[:depth] for depth in range(1, len(last) + 1))
        for row, steps in rows:
            branch = self._root
            for depth in range(2, len(steps) + 1):
                branch = self._step(branch, steps[:depth], row if depth == len(steps) else {})
            _lay(branch.row, row, f"{self._url} ({row.get('id') or row.get('path')})")

    def _steps(self, row: Json, last: tuple[Step, ...]) -> tuple[Step, ...]:
        steps = tuple(steps_of(row, last))
        if len(steps) > _MAX_STEPS or steps[0][0] != self._root.name:
            raise SnapshotError(
                f"The differential of {self._url} has the element {str(row.get('path'))[:200]!r}, which is none of "
                f"{self._root.name}."
            )
        return steps

    def _step(self, branch: Branch, steps: tuple[Step, ...], row: Json) -> Branch:
        name, slice_name = steps[-1]
        where = ".".join(step for step, _ in steps)
        if branch.members is None:
            branch.members = self._snapshots.members_of(
                branch, self._root, f"{where.rpartition('.')[0]} in {self._url}"
            )
        found = branch.member(name)
        if found is None:
            choice = next((one for one in branch.members if _is_choice_for(one, name)), None)
            if choice is None:
                raise SnapshotError(f"The differential of {self._url} has the element {where}, which does not exist.")
            return self._of_choice(choice, steps, row)
        return found if slice_name is None else self._sliced(found, slice_name)

    def _of_choice(self, choice: Branch, steps: tuple[Step, ...], row: Json) -> Branch:
        """`valueQuantity` for `value[x]`: the slice of that type.

        Where it must be there, or within a slice, and no other type is spoken of, no other type is allowed: so the
        publisher of HL7's guides has it.
        """
        name, slice_name = steps[-1]
        stem = choice.name.removesuffix("[x]")
        types = choice.row.get("type", ())
        own = [one for one in types if _capital(code_of(one)) == name[len(stem) :]]
        others = {stem + _capital(code_of(one)) for one in types if one not in own} | {choice.name}
        is_alone = not any((*steps[:-1], (other, None)) in self._named for other in others)
        if is_alone and slice_name is None and not choice.slices and any(step[1] for step in steps):
            choice.row["type"] = own
            return choice
        found = self._sliced(choice, slice_name or name)
        found.row["type"] = own
        if is_alone and row.get("min", 0) > 0:
            choice.row |= {"type": own, "min": row["min"], "slicing": {**choice.row["slicing"], "rules": "closed"}}
        return found

    def _sliced(self, sliced: Branch, slice_name: str) -> Branch:
        """A slice, which begins as a copy of what it slices; `a/b` is a slice of the slice `a`."""
        for one in sliced.slices:
            if one.row.get("sliceName") == slice_name:
                return one
            if slice_name.startswith(f"{one.row.get('sliceName')}/"):
                return self._sliced(one, slice_name)
        if "slicing" not in sliced.row and (by := _usual_slicing(sliced.name)) is not None:
            sliced.row["slicing"] = by
        begun = (sliced.base or sliced).copy()
        begun.row.pop("slicing", None)
        row = {**begun.row, "sliceName": slice_name, "min": 0}
        if types := [
            one for one in row.get("type", ()) if sliced.name.replace("[x]", _capital(code_of(one))) == slice_name
        ]:
            row["type"] = types
        made = Branch(sliced.name, row, begun.members, [], sliced.base)
        sliced.slices.append(made)
        return made


def steps_of(row: Json, last: Sequence[Step]) -> list[Step]:
    """Where an element of a differential is: by its id, or by its path and by the element `last` before it."""
    path = str(row.get("path", ""))
    names = path.split(".")
    own = row.get("sliceName")
    parts = _parts_of(str(row["id"]), names) if row.get("id") else None
    if parts is None:
        parts = [
            (name, at[1]) if (at := last[depth] if depth < len(last) else None) and at[0] == name else (name, None)
            for depth, name in enumerate(names)
        ]
        for depth, part in enumerate(parts):  # what lies elsewhere is in none of the slices before it
            if depth >= len(last) or part[0] != last[depth][0]:
                parts[depth:] = [(name, None) for name in names[depth:]]
                break
        parts[-1] = (names[-1], None)
    if own is not None:
        parts[-1] = (parts[-1][0], str(own))
    return parts


def _parts_of(element_id: str, names: list[str]) -> list[Step] | None:
    """`Observation.component:systolic.value[x]` in steps; None where it has others than the path."""
    parts = element_id.split(".")
    if len(parts) != len(names):  # the name of a slice may have a dot
        pattern = r"\.".join(rf"{re.escape(name)}(?::(.+?))?" for name in names)
        found = re.fullmatch(pattern, element_id)
        return None if found is None else list(zip(names, found.groups(), strict=True))
    steps: list[Step] = []
    for part, name in zip(parts, names, strict=True):
        own, _, slice_name = part.partition(":")
        if own != name and not own.endswith("[x]"):
            return None
        steps.append((own, slice_name or None))
    return steps


def _is_choice_for(branch: Branch, name: str) -> bool:
    """Whether `valueQuantity` is the element `value[x]` of one of its types."""
    if not branch.name.endswith("[x]"):
        return False
    stem = branch.name.removesuffix("[x]")
    return name.startswith(stem) and any(_capital(code_of(one)) == name[len(stem) :] for one in branch.row["type"])


def _capital(code: str) -> str:
    return code[:1].upper() + code[1:]


def _usual_slicing(name: str) -> Json | None:
    """Extensions are told by their URLs, values by their types, without its being said."""
    if name in ("extension", "modifierExtension"):
        return {"discriminator": [{"type": "value", "path": "url"}], "ordered": False, "rules": "open"}
    if name.endswith("[x]"):
        return {"discriminator": [{"type": "type", "path": "$this"}], "ordered": False, "rules": "open"}
    return None


def _lay(row: Json, over: Json, where: str) -> None:
    """Lay a row of a differential over one of the base."""
    _require_narrower(row, over, where)
    for key, value in over.items():
        if key in _PLACE:
            continue
        if stem := next((s for s in _VALUES if key.startswith(s) and key[len(s) : len(s) + 1].isupper()), None):
            for other in [k for k in row if k.startswith(stem) and k[len(stem) : len(stem) + 1].isupper()]:
                del row[other]
            row[key] = deepcopy(value)
        elif key == "constraint":
            new = {one.get("key") for one in value}
            row[key] = [*(one for one in row.get(key, ()) if one.get("key") not in new), *deepcopy(value)]
        elif key in _ADDED:
            row[key] = [*row.get(key, ()), *(one for one in deepcopy(value) if one not in row.get(key, ()))]
        elif key in ("binding", "slicing"):
            row[key] = {**row.get(key, {}), **deepcopy(value)}
        else:
            row[key] = deepcopy(value)


def _require_narrower(row: Json, over: Json, where: str) -> None:
    """A profile may ask for more than its base, never for less."""
    least = over["min"] if "min" in over else row.get("min", 0)
    most, allowed = _most(over, where), _most(row, where)
    if "max" not in over:
        most = allowed
    if most is not None and most < least:
        raise SnapshotError(f"{where} asks for {least} at least and {most} at most.")
    if allowed is not None and (most is None or most > allowed):
        raise SnapshotError(f"{where} allows {over['max']}, but what it is based on allows {allowed} at most.")


def _most(row: Json, where: str) -> int | None:
    """How often an element may be there; None is any number."""
    most = str(row.get("max", "*"))
    if most == "*":
        return None
    if not most.isascii() or not most.isdigit():
        raise SnapshotError(f"{where} may be there {most[:20]!r} times; a number or * was expected.")
    return int(most)


def _at(root: Branch, path: str) -> Branch | None:
    """The element of a path without slices."""
    names = path.split(".")
    branch: Branch | None = root if names[0] == root.name else None
    for name in names[1:]:
        branch = None if branch is None else branch.member(name)
    return branch
