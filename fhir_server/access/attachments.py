"""Which Binaries somebody may see: a Binary has no compartment, its security context speaks for it.

The security context names a resource; who may see that may see the Binary. One without it is seen by those alone whose
access is not limited, and by those who may see a DocumentReference that points to it. So that nobody opens another
person's Binary by pointing to it, a limited writer may only point to Binaries that they may see already.

Spec: https://hl7.org/fhir/R4/binary.html#security
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fhir_server.model import codec

BINARY = "Binary"

_LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")


def target_of(reference: object, base_url: str) -> tuple[str, str] | None:
    """The type and id that a reference or an address of this server names; None for anything else."""
    if not isinstance(reference, str):
        return None
    found = _LOCAL.fullmatch(reference.removeprefix(base_url.rstrip("/") + "/"))
    return (found[1], found[2]) if found else None


def context_of(binary: dict[str, Any], base_url: str) -> tuple[str, str] | None:
    """The resource that a Binary's security context names."""
    context = binary.get("securityContext")
    return target_of(context.get("reference"), base_url) if isinstance(context, dict) else None


def addresses_of(binary_id: str, base_url: str) -> list[str]:
    """How an attachment may spell where a Binary is."""
    return [f"{BINARY}/{binary_id}", f"{base_url.rstrip('/')}/{BINARY}/{binary_id}"]


def pointed_to(body: bytes, base_url: str) -> set[str]:
    """The ids of the Binaries to which the `url`s of a resource point."""
    if b"Binary/" not in body:
        return set()
    resource = codec.decode(body)
    return {
        target[1]
        for url in _urls_of(resource)
        if (target := target_of(url, base_url)) is not None and target[0] == BINARY
    }


def _urls_of(value: Any) -> Iterator[object]:
    if isinstance(value, dict):
        for name, member in value.items():
            if name == "url":
                yield member
            else:
                yield from _urls_of(member)
    elif isinstance(value, list):
        for member in value:
            yield from _urls_of(member)
