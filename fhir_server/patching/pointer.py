"""JSON Pointers: read, and followed into a document.

Spec: https://www.rfc-editor.org/rfc/rfc6901
"""

from __future__ import annotations

import re
from typing import Any

from fhir_server.model.codec import MAX_DEPTH

Pointer = tuple[str, ...]

_BROKEN_ESCAPE = re.compile(r"~(?![01])")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


class NowhereError(Exception):
    """A pointer leads to nothing; the words say where it ends."""


def pointer_of(text: str) -> Pointer:
    """The parts of a pointer, unescaped; none for the whole document.

    Raises:
        ValueError: it is no pointer; the words say why.
    """
    if not text:
        return ()
    if not text.startswith("/"):
        raise ValueError("a JSON Pointer is empty or begins with /")
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("after ~ only 0 or 1 can stand in a JSON Pointer")
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"it is deeper than {MAX_DEPTH} levels")
    return parts


def text_of(pointer: Pointer) -> str:
    """The pointer as it is written."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in pointer)


def found(document: Any, pointer: Pointer) -> Any:
    """The value that a pointer leads to.

    Raises:
        NowhereError: there is none.
    """
    node = document
    for depth, part in enumerate(pointer):
        node = _step(node, part, pointer[: depth + 1])
    return node


def position(array: list[Any], part: str, pointer: Pointer, *, end: bool = False) -> int:
    """The place in an array that the last part of a pointer names; with `end`, also the one behind the last.

    Raises:
        NowhereError: the array has no such place.
    """
    if end and part == "-":
        return len(array)
    if not _INDEX.fullmatch(part):
        raise NowhereError(f"{text_of(pointer)} names {part!r} in an array, which has places 0, 1, 2 and so on")
    index = int(part)
    if index >= len(array) + end:
        raise NowhereError(f"{text_of(pointer)} is beyond the end of the array, which has {len(array)} values")
    return index


def _step(node: Any, part: str, pointer: Pointer) -> Any:
    if type(node) is dict:
        if part not in node:
            raise NowhereError(f"{text_of(pointer)} does not exist")
        return node[part]
    if type(node) is list:
        return node[position(node, part, pointer)]
    raise NowhereError(f"{text_of(pointer)} does not exist: {text_of(pointer[:-1])} is neither object nor array")
