"""All items of a resource, and the definitions that speak of each: for invariants, which stand at elements.

Spec: https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.fhirpath.items import Item, Items, all_children, root_item
from fhir_server.fhirpath.kinds import kinds_of
from profiles.registry import Element, Registry


def walk(resource: dict[str, Any], registry: Registry) -> Iterator[Item]:
    """Every item of a resource, from the resource itself downwards, in document order; `item.path` says where it is.

    Members that the definitions do not know are passed over.
    """
    yield from _below(root_item(resource, kinds_of(registry)))


def _below(item: Item) -> Iterator[Item]:
    yield item
    if type(item.value) is dict or item.twin is not None:
        children: Items = []
        all_children(item, children)
        for child in children:
            yield from _below(child)


def definitions_of(item: Item) -> tuple[Element, ...]:
    """The element that an item is (`Organization.telecom`), then the root of its type (`ContactPoint`), if another."""
    own = item.kind.element
    field = item.parent.kind.by_key("*").get(item.key) if item.parent is not None else None
    use = field.element if field is not None else None
    if use is None or use is own:
        return () if own is None else (own,)
    return (use,) if own is None else (use, own)
