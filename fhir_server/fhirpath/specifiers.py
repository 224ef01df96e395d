"""Whether an item is of a type that an expression names.

A name without a namespace is looked for among FHIR's types and FHIRPath's own: `1 is Integer` and `name is HumanName`
both hold, and `Patient.active is Boolean` does not, since a `FHIR.boolean` is no `System.Boolean`.

Spec: http://hl7.org/fhirpath/N1/#types, https://hl7.org/fhir/R4/fhirpath.html#types
"""

from __future__ import annotations

from collections.abc import Callable

from fhir_server.fhirpath.items import Fault, Item
from fhir_server.fhirpath.kinds import SYSTEM_NAMES, Kind, Kinds


def type_test(kinds: Kinds, type_name: str, *, exact: bool, at: int | None) -> Callable[[Item], bool]:
    """The test for a type; types that specialize it pass too, but with `exact` not among primitives.

    (`code` specializes `string`; `gender is string` holds and `gender.ofType(string)` is empty.)

    Raises:
        Fault: there is no type of that name.
    """
    namespace, _, name = type_name.rpartition(".")
    if namespace not in ("", "System") or not (
        namespace == "System" or name in kinds.registry.types or name in SYSTEM_NAMES
    ):
        raise Fault(f"{type_name!r} is no type", at)
    known: dict[Kind, bool] = {}

    def is_of(kind: Kind) -> bool:
        if kind.namespace == "System":
            return kind.name == name or (name == "Any" and name not in kinds.registry.types)
        if namespace == "System":
            return False
        return kind.name == name if exact and kind.is_primitive else kind.is_a(name)

    def test(item: Item) -> bool:
        kind = item.kind
        found = known.get(kind)
        if found is None:
            found = known[kind] = is_of(kind)
        return found

    return test
