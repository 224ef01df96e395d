"""Which resources of a type are in a compartment, as a predicate.

The focal resource is in its own compartment: R4 says so for encounters and others (`{def}`), not for patients.

Spec: https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/http.html#search
"""

from __future__ import annotations

from fhir_server.search.parameters import table_of
from fhir_server.search.query import AnyOf, Comparison, Predicate, ReferenceValue, TokenValue
from profiles.registry import Registry

#: The focal resource itself, in a CompartmentDefinition.
FOCAL = "{def}"


PATIENT = "Patient"


def owner_of(resource_type: str, registry: Registry) -> str | None:
    """The search parameter that says whose a resource is; None for a Patient itself, and for what is nobody's."""
    if resource_type == PATIENT:
        return None
    parameters = table_of(resource_type, registry).parameters
    for code in ("patient", "subject", "member"):
        parameter = parameters.get(code)
        if parameter is not None and parameter.type == "reference" and PATIENT in parameter.targets:
            return code
    return None


def types_in(compartment: str, registry: Registry) -> tuple[str, ...]:
    """The types of which resources can be in a compartment, sorted; empty when there is no such compartment."""
    known = registry.compartments.get(compartment)
    if known is None:
        return ()
    return tuple(sorted({compartment, *(name for name, codes in known.types.items() if codes)}))


def membership(compartment: str, focal_id: str, resource_type: str, registry: Registry) -> Predicate:
    """What a resource of one of those types must meet to be in the compartment of the focal resource."""
    table = table_of(resource_type, registry)
    focal = ReferenceValue((f"{compartment}/{focal_id}",))
    codes = registry.compartments[compartment].types.get(resource_type, ())
    ways: list[Predicate] = [Comparison(table.parameters[code], None, (focal,)) for code in codes if code != FOCAL]
    if resource_type == compartment:
        ways.append(Comparison(table.parameters["_id"], None, (TokenValue(None, focal_id),)))
    return ways[0] if len(ways) == 1 else AnyOf(tuple(ways))
