"""JSON Patch: add, remove, replace, move, copy and test by JSON Pointers.

Spec: https://www.rfc-editor.org/rfc/rfc6902, https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from fhir_server.model import codec
from fhir_server.patching.document import MOST_ADDED, Json, copied, equal, measured, same_resource
from fhir_server.patching.fault import MOST_OPERATIONS, lost, malformed, too_costly, too_many, untrue
from fhir_server.patching.pointer import NowhereError, Pointer, found, pointer_of, position, text_of

Name = Literal["add", "remove", "replace", "move", "copy", "test"]
NAMES: tuple[str, ...] = get_args(Name)

#: Values as they are shown in messages.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation, read; `source` is its `from`, `value` a JSON value for those that take one."""

    index: int
    name: Name
    path: Pointer
    source: Pointer = ()
    value: Any = None

    def __str__(self) -> str:
        source = f" {text_of(self.source)!r} to" if self.name in ("move", "copy") else ""
        return f"Operation {self.index} ({self.name}{source} {text_of(self.path)!r})"


@dataclass(frozen=True, slots=True)
class JsonPatch:
    """The operations of one patch."""

    operations: tuple[Operation, ...]

    def apply(self, resource: Json) -> Json:
        """The resource with all operations carried out, one after the other.

        Raises:
            UnprocessableError: 422; a path leads nowhere, a test fails, or it would be another resource then.
        """
        return same_resource(resource, patched(resource, self.operations))

    def linked(self, rewrite: Callable[[Json], bool]) -> JsonPatch:
        """The patch with the links in its values rewritten, each judged by the member that it will be."""
        operations = []
        for operation in self.operations:
            name = next((part for part in reversed(operation.path) if not part.isdigit() and part != "-"), "")
            holder = {name: copied(operation.value)}
            rewrite(holder)
            operations.append(replace(operation, value=holder[name]))
        return JsonPatch(tuple(operations))


def json_patch_of(document: Any) -> JsonPatch:
    """Read a patch from its JSON.

    Raises:
        InvalidError: 400; it is no array of operations; the message tells which of them and why.
        TooLargeError: 413; there are too many.
    """
    if type(document) is not list:
        raise malformed("A JSON Patch is an array of operations; something else was found.")
    if len(document) > MOST_OPERATIONS:
        raise too_many(len(document))
    return JsonPatch(tuple(_operation_of(row, index) for index, row in enumerate(document)))


def _operation_of(row: Any, index: int) -> Operation:
    if type(row) is not dict:
        raise malformed(f"Operation {index} is no object.")
    name = row.get("op")
    if name not in NAMES:
        raise malformed(f"Operation {index}: `op` is {name!r}; expected one of {', '.join(NAMES)}.")
    path = _pointer(row, "path", index)
    source = _pointer(row, "from", index) if name in ("move", "copy") else ()
    if name in ("add", "replace", "test") and "value" not in row:
        raise malformed(f"Operation {index} ({name} {text_of(path)!r}) has no `value`.")
    if name == "move" and len(source) < len(path) and path[: len(source)] == source:
        raise malformed(f"Operation {index}: {text_of(source)!r} cannot be moved into itself, {text_of(path)!r}.")
    return Operation(index, name, path, source, row.get("value"))


def _pointer(row: Json, member: str, index: int) -> Pointer:
    text = row.get(member)
    if type(text) is not str:
        raise malformed(f"Operation {index}: `{member}` is missing or no string; a JSON Pointer was expected.")
    try:
        return pointer_of(text)
    except ValueError as error:
        raise malformed(f"Operation {index}: `{member}` is {text[:200]!r}, but {error}.") from None


def patched(document: Any, operations: tuple[Operation, ...]) -> Any:
    """Any JSON document with operations carried out; the document itself stays as it is.

    Raises:
        UnprocessableError: 422; the first operation that cannot be carried out.
    """
    result = copied(document)
    size = 0
    for operation in operations:
        try:
            if operation.name in ("add", "replace", "copy"):
                added = found(result, operation.source) if operation.name == "copy" else operation.value
                size += measured(added, len(operation.path))
                if size > MOST_ADDED:
                    raise too_costly(f"{operation}: the patch would add more than {MOST_ADDED:,} values.")
            result = _carried_out(operation, result)
        except NowhereError as error:
            raise lost(f"{operation}: {error}.") from None
    return result


def _carried_out(operation: Operation, document: Any) -> Any:
    match operation.name:
        case "add":
            return _added(document, operation.path, copied(operation.value))
        case "remove":
            return _removed(document, operation.path)
        case "replace":
            return _replaced(document, operation.path, copied(operation.value))
        case "copy":
            return _added(document, operation.path, copied(found(document, operation.source)))
        case "move":
            value = found(document, operation.source)
            if operation.source == operation.path:
                return document
            measured(value, len(operation.path))
            return _added(_removed(document, operation.source), operation.path, value)
        case "test":
            _test(operation, found(document, operation.path))
            return document


def _added(document: Any, path: Pointer, value: Any) -> Any:
    if not path:
        return value
    holder = found(document, path[:-1])
    if type(holder) is dict:
        holder[path[-1]] = value
    elif type(holder) is list:
        holder.insert(position(holder, path[-1], path, end=True), value)
    else:
        raise NowhereError(f"{text_of(path[:-1])} is neither object nor array")
    return document


def _removed(document: Any, path: Pointer) -> Any:
    if not path:
        raise NowhereError("the whole document cannot be taken away")
    found(document, path)
    holder = found(document, path[:-1])
    del holder[path[-1] if type(holder) is dict else int(path[-1])]
    return document


def _replaced(document: Any, path: Pointer, value: Any) -> Any:
    if not path:
        return value
    found(document, path)
    holder = found(document, path[:-1])
    holder[path[-1] if type(holder) is dict else int(path[-1])] = value
    return document


def _test(operation: Operation, value: Any) -> None:
    if not equal(value, operation.value):
        raise untrue(f"{operation}: found {_shown(value)}, expected {_shown(operation.value)}.")


def _shown(value: Any) -> str:
    text = codec.encode(value).decode()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
