"""capabilities: what this server can do, made from the table of interactions and the search parameters in force.

Spec: https://hl7.org/fhir/R4/http.html#capabilities, https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.definitions import address_of
from fhir_server.interactions.registration import Interaction, Operation
from fhir_server.interactions.terminology_capabilities import terminology_capabilities
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.patching.formats import PATCH_FORMATS
from fhir_server.repository.search import COMMON
from fhir_server.search.named import QUERIES
from fhir_server.search.parameters import table_of
from fhir_server.search.query import Parameter
from fhir_server.version import VERSION
from profiles.registry import Registry

MODES = ("full", "normative", "terminology")
FORMATS = ["application/fhir+json", "json", "application/fhir+xml", "xml"]

#: The types whose definition R4 declares normative: https://hl7.org/fhir/R4/versions.html#maturity
NORMATIVE = frozenset(
    {
        "Binary",
        "Bundle",
        "CapabilityStatement",
        "CodeSystem",
        "Observation",
        "OperationDefinition",
        "OperationOutcome",
        "Parameters",
        "Patient",
        "StructureDefinition",
        "ValueSet",
    }
)

_STARTED = instant_of(now_us())


@dataclass(frozen=True, slots=True)
class Policy:
    """What settings change in the statement: see `docs/settings.md`."""

    deletes_several: bool = False
    references_enforced: bool = False
    security: bytes = b""


#: By mode and base URL, so many statements are kept.
_MOST_STATEMENTS = 16

#: Where settings are as they come.
DEFAULT = Policy()


async def capabilities(context: Context, request: Request) -> Answer:
    """GET [base]/metadata?mode=full|normative|terminology: a CapabilityStatement, or TerminologyCapabilities."""
    mode = next((value for name, value in request.parameters if name == "mode"), "full")
    if mode not in MODES:
        raise InvalidError(
            f"`mode` is {mode[:40]!r}; expected one of {', '.join(MODES)}.", code="value", key="HS-METADATA-MODE"
        )
    if mode == "terminology":
        return Answer(200, codec.encode(await terminology_capabilities(context, request.base_url)))
    policy = Policy(context.limits.conditional_delete > 1, context.repository.integrity.enforced, context.security)
    return Answer(
        200,
        context.registry.kept(statement, _MOST_STATEMENTS)(
            context.table,
            context.operations,
            request.base_url,
            mode,
            policy,
        ),
    )


def statement(
    registry: Registry,
    table: tuple[Interaction, ...],
    operations: tuple[Operation, ...],
    base_url: str,
    mode: str,
    policy: Policy,
) -> bytes:
    """The statement as JSON; it changes only with the definitions in force, so each form of it is kept with them."""
    return codec.encode(capability_statement(registry, table, operations, base_url, mode, policy))


def capability_statement(
    registry: Registry,
    table: tuple[Interaction, ...],
    operations: tuple[Operation, ...],
    base_url: str,
    mode: str,
    policy: Policy = DEFAULT,
) -> dict[str, Any]:
    codes = list(dict.fromkeys(row.code for row in table if row.code and row.level == "resource"))
    system = list(dict.fromkeys(row.code for row in table if row.code and row.level == "system"))
    types = [t for t in registry.resource_types if mode == "full" or t in NORMATIVE]
    return {
        "resourceType": "CapabilityStatement",
        "id": "healthsphere",
        "url": f"{base_url}/metadata",
        "version": VERSION,
        "name": "HealthSphere",
        "title": "HealthSphere FHIR server",
        "status": "active",
        "date": _STARTED,
        "publisher": "HealthSphere",
        "description": "What this HealthSphere server offers at its FHIR R4 base.",
        "kind": "instance",
        "software": {"name": "HealthSphere", "version": VERSION},
        "implementation": {"description": "HealthSphere FHIR R4 server", "url": base_url},
        "fhirVersion": "4.0.1",
        "format": FORMATS,
        "patchFormat": list(PATCH_FORMATS),
        **({"implementationGuide": list(registry.guides)} if registry.guides else {}),
        "rest": [
            {
                "mode": "server",
                **({"security": codec.decode(policy.security)} if policy.security else {}),
                "resource": [resource_row(registry, operations, base_url, name, codes, policy) for name in types],
                "interaction": [{"code": code} for code in system],
                "searchParam": system_parameters(registry),
                "operation": [operation_row(o, base_url) for o in operations if o.system],
                "compartment": [compartment.url for compartment in registry.compartments.values()],
            }
        ],
    }


def resource_row(
    registry: Registry, operations: tuple[Operation, ...], base_url: str, name: str, codes: list[str], policy: Policy
) -> dict[str, Any]:
    definitions = registry.parameters_of(name)
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        **({"supportedProfile": list(supported)} if (supported := registry.supported(name)) else {}),
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "multiple" if policy.deletes_several else "single",
        "referencePolicy": ["literal", "logical", *(["enforced"] if policy.references_enforced else [])],
        "searchInclude": ["*", *registry.kept(searched_references)()[name]],
        "searchRevInclude": ["*", *registry.kept(referring)().get(name, ())],
        "searchParam": [
            {"name": code, "definition": definitions[code].url, "type": definitions[code].type}
            for code in sorted(table_of(name, registry).parameters)
        ],
        "operation": [
            operation_row(o, base_url)
            for o in operations
            if (o.type or o.instance) and (not o.types or name in o.types)
        ]
        + [
            {
                "name": query.code,
                "definition": address_of(query.definition, base_url),
                "documentation": f"A named query: {query.meaning}.",
            }
            for query in QUERIES
            if query.type == name
        ],
    }


def operation_row(operation: Operation, base_url: str) -> dict[str, Any]:
    return {"name": operation.code, "definition": address_of(operation.definition, base_url)}


def system_parameters(registry: Registry) -> list[dict[str, Any]]:
    """What all types have in common, by which the whole system is searched."""
    definitions = registry.parameters_of(COMMON)
    return [
        {"name": code, "definition": definitions[code].url, "type": definitions[code].type}
        for code in sorted(table_of(COMMON, registry).parameters)
    ]


def searched_references(registry: Registry) -> dict[str, tuple[str, ...]]:
    """By type, its references as `_include` names them."""
    return {
        name: tuple(sorted(f"{name}:{p.code}" for p in table_of(name, registry).parameters.values() if is_reference(p)))
        for name in registry.resource_types
    }


def referring(registry: Registry) -> dict[str, tuple[str, ...]]:
    """By type, the references that can lead to it, as `_revinclude` names them."""
    found: dict[str, list[str]] = {}
    for name in registry.resource_types:
        for parameter in table_of(name, registry).parameters.values():
            for target in parameter.targets if is_reference(parameter) else ():
                found.setdefault(target, []).append(f"{name}:{parameter.code}")
    return {name: tuple(sorted(names)) for name, names in found.items()}


def is_reference(parameter: Parameter) -> bool:
    return parameter.type == "reference"
