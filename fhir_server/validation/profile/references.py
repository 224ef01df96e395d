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
    """The check that a reference leads where one of the target profiles allows; None where any will do.

    What lies in the same document must conform to one of those profiles that are for its type; of anything else, the
    type alone is known.
    """
    targets = [target for one in types if one.code == "Reference" for target in one.targets]
    allowed = {shelf.type_of(target) for target in targets}
    # A profile that is not held may be for any type.
    if not allowed or None in allowed or "Resource" in allowed:
        return None
    names = frozenset(name for name in allowed if name)
    expected = " | ".join(sorted(names))
    profiles = {name: tuple(t for t in targets if shelf.type_of(t) == name) for name in names}
    # The type itself among the targets asks for nothing more.
    profiled = {name: some for name, some in profiles.items() if not any(shelf.base_type(t) for t in some)}

    def check(item: Item, run: Run) -> None:
        if item.kind.name != "Reference":
            return
        named = target_type(item.value)
        target = target_of(item, run.context(item)) if named is None or (profiled and run.follows) else None
        found = target.kind.name if isinstance(target, Item) else named
        if found is None or not run.shelf.kinds.registry.is_resource_type(found):
            return
        if found not in names:
            text = f"Found a reference to {found}; expected one to {expected}"
            run.findings.tell("HS-PROFILE-TARGET", "structure", path_of(item), text, place)
        elif isinstance(target, Item) and found in profiled and run.follows:
            verdicts = [run.target_conforms(target, canonical) for canonical in profiled[found]]
            if not any(verdict is not False for verdict in verdicts):
                text = f"Found a reference to a {found} that does not conform; expected {' | '.join(profiled[found])}"
                run.findings.tell("HS-PROFILE-TARGET", "structure", path_of(item), text, place)

    return check
