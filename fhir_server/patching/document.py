"""JSON documents: copied, compared by value, and freed of what a patch has left empty.

Spec: https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from fhir_server.model.codec import MAX_DEPTH
from fhir_server.patching.fault import identity_changed, too_costly

Json = dict[str, Any]

#: Values that one patch can add; `copy` can double a document again and again.
MOST_ADDED = 200_000


def copied(node: Any) -> Any:
    """A document of its own; strings and numbers, which nobody can change, are shared."""
    if type(node) is dict:
        return {name: copied(child) for name, child in node.items()}
    if type(node) is list:
        return [copied(child) for child in node]
    return node


def measured(node: Any, depth: int) -> int:
    """How many values a part of a document has that stands `depth` levels deep.

    Raises:
        UnprocessableError: 422; it reaches deeper than a document may.
    """
    if type(node) is not dict and type(node) is not list:
        return 1
    if depth >= MAX_DEPTH:
        raise too_costly(f"The patch nests the resource deeper than {MAX_DEPTH} levels.")
    return 1 + sum(measured(child, depth + 1) for child in (node.values() if type(node) is dict else node))


def equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same: numbers by value (`1.0` is `1`), objects in any order (RFC 6902, 4.6)."""
    if type(left) is dict:
        if type(right) is not dict or left.keys() != right.keys():
            return False
        return all(equal(value, right[name]) for name, value in left.items())
    if type(left) is list:
        if type(right) is not list or len(left) != len(right):
            return False
        return all(equal(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, (int, Decimal)) and isinstance(right, (int, Decimal)):
        return left == right
    return type(left) is type(right) and bool(left == right)


def without_empties(resource: Json) -> Json:
    """The document without empty objects and arrays: FHIR has none, and a removal may have left them."""
    return {name: kept for name, value in resource.items() if not is_empty(kept := _kept(value, name))}


def _kept(node: Any, name: str) -> Any:
    if type(node) is dict:
        return without_empties(node)
    if type(node) is not list:
        return node
    kept = [_kept(child, name) for child in node]
    if not name.startswith("_"):
        return [child for child in kept if not is_empty(child)]
    # Ids and extensions of primitives stand at the place of their value.
    aligned = [None if is_empty(child) else child for child in kept]
    return aligned if any(child is not None for child in aligned) else []


def is_empty(node: Any) -> bool:
    return (type(node) is dict or type(node) is list) and not node


def same_resource(before: Json, after: Any) -> Json:
    """What a patch has made of a resource, if it still is that resource.

    Raises:
        UnprocessableError: 422; it is none at all, or has another type or id.
    """
    name = before["resourceType"]
    if type(after) is not dict or after.get("resourceType") != name:
        found = after.get("resourceType") if type(after) is dict else None
        what = f"make a {found!r} of it" if found else "leave it without `resourceType`"
        raise identity_changed(f"The patch would {what}; a {name} remains a {name}.", f"{name}.resourceType")
    if after.get("id") != before.get("id"):
        raise identity_changed(
            f"The patch would change the id {before.get('id')!r} to {after.get('id')!r}; an id remains.", f"{name}.id"
        )
    return without_empties(after)
