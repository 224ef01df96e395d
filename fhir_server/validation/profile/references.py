"""Where references of a profile may lead: the types of their targets.

Spec: https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.type.targetProfile
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fhir_server.fhirpath.functions.references import target_of
from fhir_server.fhirpath.items import Item
from fhir_server.fhirpath.references import target_type
from fhir_server.validation.profile.definition import TypeRef
from fhir_server.validation.profile.findings import Place, path_of
from fhir_server.validation.profile.run import Check, Run

if TYPE_CHECKING:
    from fhir_server.validation.profile.shelf import Shelf


def target_check(types: Sequence[TypeRef], place: Place, shelf: Shelf) -> Check | None:
    """The check that a reference leads to a type that one of the target profiles is for; None where any will do."""
    targets = [target for one in types if one.code == "Reference" for target in one.targets]
    allowed = {shelf.type_of(target) for target in targets}
    # A profile that is not held may be for any type.
    if not allowed or None in allowed or "Resource" in allowed:
        return None
    names = frozenset(name for name in allowed if name)
    expected = " | ".join(sorted(names))

    def check(item: Item, run: Run) -> None:
        found = _type_behind(item, run) if item.kind.name == "Reference" else None
        if found is not None and found not in names:
            text = f"Found a reference to {found}; expected one to {expected}"
            run.findings.tell("HS-PROFILE-TARGET", "structure", path_of(item), text, place)

    return check


def _type_behind(item: Item, run: Run) -> str | None:
    """The type of what a reference leads to, by its words or, where that lies in the same document, by itself."""
    named = target_type(item.value)
    if named is not None:
        return named if run.shelf.kinds.registry.is_resource_type(named) else None
    target = target_of(item, run.context(item))
    return target.kind.name if isinstance(target, Item) else None
