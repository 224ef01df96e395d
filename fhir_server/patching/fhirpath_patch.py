"""FHIRPath Patch: add, insert, delete, replace and move of elements that FHIRPath names.

Spec: https://hl7.org/fhir/R4/fhirpatch.html
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fhir_server.fhirpath.expression import Expression, compile_expression
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.kinds import Field, Kind, Kinds, kinds_of
from fhir_server.fhirpath.nodes import Member
from fhir_server.fhirpath.parser import parsed
from fhir_server.model.errors import FhirError, InvalidError, Issue
from fhir_server.patching.document import Json, copied, measured, same_resource
from fhir_server.patching.fault import MOST_OPERATIONS, lost, malformed, too_costly, too_many, unfit
from fhir_server.patching.rows import Row, field_of, holder_of, rename, rows_of, write_rows
from fhir_server.patching.values import Given, add, fields_named, fitted, given_of, linked
from profiles.registry import Registry

Name = Literal["add", "insert", "delete", "replace", "move"]
NAMES: tuple[str, ...] = get_args(Name)

#: A path can be any expression, so that a thousand of them could keep the server from all else.
LONGEST_S = 2.0

_LAST_NAME = re.compile(r"(\w+)(?:\[\d+\])?\s*$")

#: What each operation must have beside `type` and `path`.
_NEEDS = {
    "add": ("name", "value"),
    "insert": ("index", "value"),
    "delete": (),
    "replace": ("value",),
    "move": ("source", "destination"),
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, read and compiled.

    `target` finds the element that is changed; for `insert` and `move` the one that has the list named `list_name`.
    """

    index: int
    type: Name
    path: str
    target: Expression
    list_name: str = ""
    name: str = ""
    value: Given | None = None
    at: int = 0
    source: int = 0
    destination: int = 0

    @property
    def element(self) -> str:
        """The name of the element that the value will be, as far as the path tells it."""
        last = _LAST_NAME.search(self.path)
        return self.name or self.list_name or (last[1] if last else "")

    @property
    def place(self) -> str:
        return f"Parameters.parameter[{self.index}]"

    def __str__(self) -> str:
        return f"Operation {self.index} ({self.type} {self.path[:200]})"


@dataclass(frozen=True, slots=True)
class FhirPathPatch:
    """The operations of one patch."""

    operations: tuple[Operation, ...]

    def apply(self, resource: Json) -> Json:
        """The resource with all operations carried out, one after the other.

        Raises:
            UnprocessableError: 422; a path finds no element or several, or a value does not fit.
            InvalidError: 400; a path cannot be evaluated.
        """
        result: Json = copied(resource)
        started = time.monotonic()
        for operation in self.operations:
            if time.monotonic() - started > LONGEST_S:
                raise too_costly(f"{operation}: the paths of this patch take more than {LONGEST_S} seconds to follow.")
            try:
                _CARRY_OUT[operation.type](operation, result)
            except FhirError as error:
                raise _told(error, operation) from error
        measured(result, 0)
        return same_resource(resource, result)

    def linked(self, rewrite: Callable[[Json], bool]) -> FhirPathPatch:
        """The patch with the links in its values rewritten, each judged by the element that it will be."""
        return FhirPathPatch(
            tuple(
                replace(old, value=linked(old.value, old.element, rewrite)) if old.value else old
                for old in self.operations
            )
        )


def fhirpath_patch_of(parameters: Json, resource_type: str, registry: Registry) -> FhirPathPatch:
    """Read a patch of a resource type from its Parameters.

    Raises:
        InvalidError: 400; it is no patch, or a path is no FHIRPath for such a resource; the place is told.
        TooLargeError: 413; there are too many operations.
    """
    rows = parameters.get("parameter", [])
    if type(rows) is not list:
        raise malformed("Parameters.parameter is no array.", "Parameters.parameter")
    if len(rows) > MOST_OPERATIONS:
        raise too_many(len(rows))
    reader = _Reader(resource_type, registry)
    return FhirPathPatch(tuple(reader.operation(row, index) for index, row in enumerate(rows)))


class _Reader:
    def __init__(self, resource_type: str, registry: Registry) -> None:
        self._type = resource_type
        self._registry = registry
        self._kinds: Kinds = kinds_of(registry)

    def operation(self, row: Any, index: int) -> Operation:
        place = f"Parameters.parameter[{index}]"
        if type(row) is not dict or row.get("name") != "operation":
            raise malformed(f"{place} is no parameter with the name `operation`; a FHIRPath Patch has no other.", place)
        parts = self._parts(row.get("part"), index, place)
        kind = parts["type"][0] if "type" in parts else None
        name = _primitive(kind, place, "type", str) if kind else None
        if name not in NAMES:
            raise malformed(f"Operation {index}: `type` is {name!r}; expected one of {', '.join(NAMES)}.", place)
        missing = [part for part in ("path", *_NEEDS[name]) if part not in parts]
        if missing:
            raise malformed(f"Operation {index} ({name}) has no part `{'`, `'.join(missing)}`.", place)
        path = _primitive(*parts["path"], "path", str)

        def number(part: str) -> int:
            value = _primitive(*parts[part], part, int)
            if value < 0:
                raise malformed(f"Operation {index}: `{part}` is {value}; places count from 0.", parts[part][1])
            return int(value)

        target, list_name = self._target(name, path, index, parts["path"][1])
        return Operation(
            index,
            name,
            path,
            target,
            list_name,
            name=_primitive(*parts["name"], "name", str) if name == "add" else "",
            value=self._given(*parts["value"]) if "value" in _NEEDS[name] else None,
            at=number("index") if name == "insert" else 0,
            source=number("source") if name == "move" else 0,
            destination=number("destination") if name == "move" else 0,
        )

    def _given(self, part: Json, place: str) -> Given:
        return given_of(part, self._kinds, place)

    def _parts(self, rows: Any, index: int, place: str) -> dict[str, tuple[Json, str]]:
        if type(rows) is not list:
            raise malformed(f"Operation {index} has no parts.", place)
        parts: dict[str, tuple[Json, str]] = {}
        for number, part in enumerate(rows):
            where = f"{place}.part[{number}]"
            name = part.get("name") if type(part) is dict else None
            if type(name) is not str:
                raise malformed(f"Operation {index}: {where} has no name.", where)
            if name in parts:
                raise malformed(f"Operation {index} has the part {name[:80]!r} twice.", where)
            parts[name] = (part, where)
        return parts

    def _target(self, name: str, path: str, index: int, place: str) -> tuple[Expression, str]:
        """What finds the element, and for a list its name in that element."""
        try:
            whole = compile_expression(path, registry=self._registry, root_type=self._type)
            if name not in ("insert", "move"):
                return whole, ""
            node = parsed(path)
            if not isinstance(node, Member):
                raise malformed(f"{path[:200]!r} must end with the name of a list.", place)
            start = path[: node.at].rstrip().removesuffix(".").rstrip() or "$this"
            return compile_expression(start, registry=self._registry, root_type=self._type), node.name
        except InvalidError as error:
            issues = (Issue(i.code, f"Operation {index}: {i.diagnostics}", place, i.key) for i in error.issues)
            raise InvalidError(issues) from None


def _primitive(part: Json, place: str, name: str, kind: type) -> Any:
    """The one primitive value of a part, of whatever FHIR type it is."""
    values = [value for key, value in part.items() if key.startswith("value")]
    if len(values) != 1 or type(values[0]) is not kind:
        expected = "an integer" if kind is int else "a string"
        raise malformed(f"The part `{name}` at {place} must have {expected} as its value.", place)
    return values[0]


def _told(error: FhirError, operation: Operation) -> FhirError:
    """The same failure with the operation in its words, and its place where it has no closer one."""
    issues = []
    for issue in error.issues:
        inside = issue.expression if (issue.expression or "").startswith("Parameters.") else operation.place
        issues.append(Issue(issue.code, f"{operation}: {issue.diagnostics}", inside, issue.key, issue.severity))
    return type(error)(issues)


# --- carrying out ---------------------------------------------------------------------------------------------------


def _elements(operation: Operation, resource: Json) -> list[Item]:
    """What the path finds, all of it parts of the resource."""
    items = operation.target.evaluate(resource)
    for item in items:
        root = item
        while root.parent is not None:
            root = root.parent
        if root.value is not resource:
            raise lost("the path leads to a computed value, not to an element of the resource.")
    return items


def _one(operation: Operation, resource: Json, what: str = "element") -> Item:
    items = _elements(operation, resource)
    if len(items) != 1:
        found = f"{len(items)} elements" if items else "nothing"
        raise lost(f"the path finds {found}; one {what} was expected.")
    return items[0]


def _add(operation: Operation, resource: Json) -> None:
    item = _one(operation, resource)
    assert operation.value is not None
    add(holder_of(item), item.kind, operation.name, operation.value)


def _delete(operation: Operation, resource: Json) -> None:
    items = _elements(operation, resource)
    if len(items) > 1:
        raise lost(f"the path finds {len(items)} elements; only one can be deleted at a time.")
    if items:
        holder, field, at = _standing(items[0])
        rows = rows_of(holder, field)
        del rows[at]
        write_rows(holder, field, rows)


def _replace(operation: Operation, resource: Json) -> None:
    item = _one(operation, resource)
    assert operation.value is not None
    holder, field, at = _standing(item)
    assert item.parent is not None
    name = field.element.name.removesuffix("[x]") if field.element else field.key
    wanted, row = fitted(operation.value, fields_named(item.parent.kind, name))
    if wanted.key != field.key:
        rename(holder, field, wanted)
    rows = rows_of(holder, wanted)
    rows[at] = row
    write_rows(holder, wanted, rows)


def _insert(operation: Operation, resource: Json) -> None:
    assert operation.value is not None
    holder, field, rows = _list(operation, resource)
    if operation.at > len(rows):
        raise lost(f"index {operation.at} is beyond the end of the list, which has {len(rows)} elements.")
    rows.insert(operation.at, fitted(operation.value, (field,))[1])
    write_rows(holder, field, rows)


def _move(operation: Operation, resource: Json) -> None:
    holder, field, rows = _list(operation, resource)
    for name, index in (("source", operation.source), ("destination", operation.destination)):
        if index >= len(rows):
            raise lost(f"{name} {index} is beyond the end of the list, which has {len(rows)} elements.")
    rows.insert(operation.destination, rows.pop(operation.source))
    write_rows(holder, field, rows)


def _standing(item: Item) -> tuple[Json, Field, int]:
    """The object, the element and the place in its list where an item stands."""
    if item.parent is None:
        raise lost("the path leads to the whole resource, which only an update or a deletion of it can change.")
    return holder_of(item.parent), field_of(item), max(item.at, 0)


def _list(operation: Operation, resource: Json) -> tuple[Json, Field, list[Row]]:
    item = _one(operation, resource, "element that has the list")
    kind: Kind = item.kind
    fields = fields_named(kind, operation.list_name)
    if len(fields) != 1 or not fields[0].many:
        raise unfit(f"{operation.list_name!r} is no list of {kind.name}.", operation.place)
    holder = holder_of(item)
    return holder, fields[0], rows_of(holder, fields[0])


_CARRY_OUT = {"add": _add, "insert": _insert, "delete": _delete, "replace": _replace, "move": _move}
