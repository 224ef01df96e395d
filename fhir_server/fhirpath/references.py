"""Which type a reference points to, as far as its own words tell.

Spec: https://hl7.org/fhir/R4/references.html#literal
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fhir_server.fhirpath.shapes import is_a
from profiles.registry import Registry

_TARGET = re.compile(
    r"(?:^|/)([A-Z][A-Za-z]+)(?:/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?$|\?)", re.ASCII
)


def target_type(reference: Any) -> str | None:
    """The type named by `Patient/1`, `https://…/Patient/1/_history/2`, `Patient?identifier=…` or `Reference.type`.

    None where only resolving would tell: a fragment, a urn, a logical reference without a type.
    """
    if not isinstance(reference, dict):
        return None
    literal = reference.get("reference")
    if literal:
        found = _TARGET.search(literal)
        if found is not None:
            return found[1]
    named = reference.get("type")
    return str(named).rsplit("/", 1)[-1] if named else None


def points_to(registry: Registry, wanted: str) -> Callable[[Any], bool]:
    """The test `resolve() is wanted`; a reference whose type cannot be known passes, search may then still find it."""
    local = f"{wanted}/"

    def test(reference: Any) -> bool:
        if type(reference) is dict and reference.get("reference", "").startswith(local):
            return True
        target = target_type(reference)
        return target is None or is_a(registry, target, wanted)

    return test
