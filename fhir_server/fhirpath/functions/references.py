"""Where a reference leads: into the same resource, into the same Bundle, or out through the caller's resolver.

Spec: https://hl7.org/fhir/R4/references.html#contained, https://hl7.org/fhir/R4/bundle.html#references
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_server.fhirpath.evaluation import Context
from fhir_server.fhirpath.items import Item, children

Json = dict[str, Any]


def target_of(item: Item, context: Context) -> Item | Json | None:
    """The resource that a Reference, or a string with an address, names; None where it cannot be found."""
    value = item.value
    address = value.get("reference") if isinstance(value, dict) else value
    if not isinstance(address, str) or not address:
        return None
    chain = list(_resources_around(item)) or list(_resources_around(context.node))
    if address.startswith("#"):
        return _contained(chain, address[1:])
    for at, resource in enumerate(chain):
        if resource.value.get("resourceType") == "Bundle":
            base = chain[at - 1] if at else None
            found = _entry(resource, address, base, context.entries)
            if found is not None:
                return found
    return context.resolve(address) if context.resolve else None


def _resources_around(item: Item) -> Iterator[Item]:
    """The resource that an item is in, the one that is in, and so on outwards."""
    at: Item | None = item
    while at is not None:
        if at.kind.is_resource:
            yield at
        at = at.parent


def _contained(chain: list[Item], wanted: str) -> Item | None:
    """`#` alone is the container itself, `#id` a resource in it."""
    for resource in chain:
        if resource.key == "contained" and len(chain) > 1:
            continue  # contained resources do not nest: their fragments are the container's
        if not wanted:
            return resource
        return next((c for c in children(resource, "contained") if c.value.get("id") == wanted), None)
    return None


def _entry(
    bundle: Item, address: str, source: Item | None, kept: dict[int, dict[str, Item]] | None = None
) -> Item | None:
    """The entry whose fullUrl the address is; a relative one counts from the base of the entry it stands in."""
    absolute = address
    if source is not None and source.parent is not None and not _is_absolute(address):
        full_url = source.parent.value.get("fullUrl", "")
        parts = full_url.rsplit("/", 2)
        absolute = f"{parts[0]}/{address}" if len(parts) == 3 and not full_url.startswith("urn:") else address
    if kept is None:
        entries = _addresses(bundle)
    else:
        entries = kept.get(id(bundle.value)) or kept.setdefault(id(bundle.value), _addresses(bundle))
    found = entries.get(absolute) or entries.get(address)
    return found if found is not None or _is_absolute(address) else entries.get(f"#{address}")


def _addresses(bundle: Item) -> dict[str, Item]:
    """The resources of a Bundle by their `fullUrl`, and by `#Type/id`, which counts after those."""
    found: dict[str, Item] = {}
    for entry in children(bundle, "entry"):
        resource = next(iter(children(entry, "resource")), None)
        if resource is None:
            continue
        full_url = entry.value.get("fullUrl")
        if isinstance(full_url, str):
            found.setdefault(full_url, resource)
        found[f"#{resource.value.get('resourceType')}/{resource.value.get('id')}"] = resource
    return found


def _is_absolute(address: str) -> bool:
    return address.startswith(("http://", "https://", "urn:"))
