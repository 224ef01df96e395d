"""What is known of operations: those of R4 and US Core in brief, and this server's own, whose definitions it carries.

A definition of this server's own is a file in `profiles/definitions`. One that does less than an operation of the
specification names that as its `base`.

Spec: https://hl7.org/fhir/R4/operationdefinition.html
"""

from __future__ import annotations

from functools import cache
from typing import Any

from profiles.registry import Operation, definitions, registry

Json = dict[str, Any]

#: Begins the canonical URLs of this server's own definitions in their files; what follows is the id.
OWN = "urn:healthsphere:OperationDefinition:"

#: Of http://hl7.org/fhir/us/core (8.0.0), what the server offers.
_US_CORE = (
    Operation(
        url="http://hl7.org/fhir/us/core/OperationDefinition/docref",
        code="docref",
        name="Fetch DocumentReferences",
        resource=("DocumentReference",),
        system=False,
        type=True,
        instance=False,
        affects_state=False,
        parameter=(
            {"name": "patient", "use": "in", "min": 1, "max": "1", "type": "id"},
            {"name": "start", "use": "in", "min": 0, "max": "1", "type": "dateTime"},
            {"name": "end", "use": "in", "min": 0, "max": "1", "type": "dateTime"},
            {"name": "type", "use": "in", "min": 0, "max": "*", "type": "Coding"},
            {"name": "on-demand", "use": "in", "min": 0, "max": "1", "type": "boolean"},
            {"name": "profile", "use": "in", "min": 0, "max": "*", "type": "canonical"},
            {"name": "return", "use": "out", "min": 1, "max": "1", "type": "Bundle"},
        ),
    ),
)


@cache
def own_definitions() -> dict[str, Json]:
    """The OperationDefinitions of this server's own, by id."""
    return {definition["id"]: definition for definition in definitions("OperationDefinition")}


@cache
def operations() -> dict[str, Operation]:
    """Every operation that is known, by the canonical URL of its definition."""
    own = (_operation_of(definition) for definition in own_definitions().values())
    return {**registry().operations, **{operation.url: operation for operation in (*_US_CORE, *own)}}


def _operation_of(definition: Json) -> Operation:
    return Operation(
        url=definition["url"],
        code=definition["code"],
        name=definition["title"],
        resource=tuple(definition.get("resource", ())),
        system=definition["system"],
        type=definition["type"],
        instance=definition["instance"],
        affects_state=definition.get("affectsState", False),
        parameter=tuple(definition.get("parameter", ())),
    )
