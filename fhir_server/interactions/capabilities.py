"""capabilities: what this server can do, made from the table of interactions and the search parameters in force.

Spec: https://hl7.org/fhir/R4/http.html#capabilities, https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fhir_server.interactions.context import Context
from fhir_server.interactions.registration import Interaction, Operation
from fhir_server.model import codec
from fhir_server.model.clock import instant_of, now_us
from fhir_server.model.errors import InvalidError
from fhir_server.model.exchange import Answer, Request
from fhir_server.search.parameters import table_of
from fhir_server.version import VERSION
from profiles.registry import Registry
from profiles.terminology import terminology

MODES = ("full", "normative", "terminology")
FORMATS = ["application/fhir+json", "json"]

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


async def capabilities(context: Context, request: Request) -> Answer:
    """GET [base]/metadata?mode=full|normative|terminology: a CapabilityStatement, or TerminologyCapabilities."""
    mode = next((value for name, value in request.parameters if name == "mode"), "full")
    if mode not in MODES:
        raise InvalidError(
            f"`mode` is {mode[:40]!r}; expected one of {', '.join(MODES)}.", code="value", key="HS-METADATA-MODE"
        )
    return Answer(200, statement(context.registry, context.table, context.operations, request.base_url, mode))


@lru_cache(maxsize=16)
def statement(
    registry: Registry,
    table: tuple[Interaction, ...],
    operations: tuple[Operation, ...],
    base_url: str,
    mode: str,
) -> bytes:
    """The statement as JSON; it changes only with the server, so each form of it is made once."""
    if mode == "terminology":
        return codec.encode(terminology_capabilities(base_url))
    return codec.encode(capability_statement(registry, table, operations, base_url, mode))


def capability_statement(
    registry: Registry,
    table: tuple[Interaction, ...],
    operations: tuple[Operation, ...],
    base_url: str,
    mode: str,
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
        "rest": [
            {
                "mode": "server",
                "resource": [resource_row(registry, operations, name, codes) for name in types],
                "interaction": [{"code": code} for code in system],
                "operation": [{"name": o.code, "definition": o.definition} for o in operations if o.system],
            }
        ],
    }


def resource_row(registry: Registry, operations: tuple[Operation, ...], name: str, codes: list[str]) -> dict[str, Any]:
    definitions = registry.parameters_of(name)
    return {
        "type": name,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "logical"],
        "searchParam": [
            {"name": code, "definition": definitions[code].url, "type": definitions[code].type}
            for code in sorted(table_of(name, registry).parameters)
        ],
        "operation": [
            {"name": o.code, "definition": o.definition}
            for o in operations
            if (o.type or o.instance) and (not o.types or name in o.types)
        ],
    }


def terminology_capabilities(base_url: str) -> dict[str, Any]:
    return {
        "resourceType": "TerminologyCapabilities",
        "id": "healthsphere-terminology",
        "url": f"{base_url}/metadata?mode=terminology",
        "version": VERSION,
        "name": "HealthSphereTerminology",
        "status": "active",
        "date": _STARTED,
        "description": "The code systems that searches by :in, :not-in, :above and :below can look into.",
        "kind": "instance",
        "software": {"name": "HealthSphere", "version": VERSION},
        "implementation": {"description": "HealthSphere FHIR R4 server", "url": base_url},
        "codeSystem": [{"uri": url} for url in sorted(terminology().code_systems)],
    }
