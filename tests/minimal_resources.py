"""The smallest resource of each type that R4 calls valid: what is required, and what its invariants ask for besides."""

from __future__ import annotations

from functools import cache
from typing import Any

from profiles.registry import Element, TypeDefinition, registry
from profiles.terminology import terminology

Json = dict[str, Any]

#: What the invariants of R4 (https://hl7.org/fhir/R4/conformance-rules.html#constraints) ask for beyond cardinalities.
ASKED_FOR: dict[str, Json] = {
    "AllergyIntolerance": {
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
            ]
        }
    },
    "Appointment": {
        "status": "proposed",
        "participant": [{"actor": {"reference": "Patient/x"}, "status": "needs-action"}],
    },
    "AppointmentResponse": {"actor": {"reference": "Patient/x"}},
    "CapabilityStatement": {
        "kind": "instance",
        "implementation": {"description": "x"},
        "fhirVersion": "4.0.1",
        "rest": [{"mode": "server"}],
    },
    "Consent": {"policyRule": {"text": "x"}},
    "EventDefinition": {"trigger": [{"type": "named-event", "name": "x"}]},
    "ImmunizationRecommendation": {
        "recommendation": [{"vaccineCode": [{"text": "x"}], "forecastStatus": {"text": "x"}}]
    },
    "InsurancePlan": {"name": "x"},
    "Linkage": {
        "item": [
            {"type": "source", "resource": {"reference": "Patient/x"}},
            {"type": "alternate", "resource": {"reference": "Patient/y"}},
        ]
    },
    "Organization": {"name": "x"},
    # An active one comes into force, for which it would need more.
    "SearchParameter": {"status": "draft"},
    "StructureDefinition": {
        "kind": "logical",
        "abstract": False,
        "type": "http://example.org/Thing",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Element",
        "differential": {"element": [{"id": "Thing", "path": "Thing"}]},
    },
    "TerminologyCapabilities": {"kind": "instance", "description": "x", "implementation": {"description": "x"}},
}

_PRIMITIVES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "positiveInt": 1,
    "unsignedInt": 1,
    "decimal": 1,
    "date": "2020-01-01",
    "dateTime": "2020-01-01",
    "instant": "2020-01-01T00:00:00Z",
    "time": "12:00:00",
    "base64Binary": "QUJD",
    "oid": "urn:oid:1.2.3",
    "uuid": "urn:uuid:5f3c3d4e-8c1b-4c61-9d5a-2b6c0e1f7a90",
}


@cache
def _codes(value_set: str | None) -> list[str]:
    """The codes of a value set, sorted; none where they cannot be listed."""
    return sorted(code for _, code in terminology().expansion(value_set or "") or ())


def minimal(resource_type: str) -> Json:
    """A new resource without an id."""
    definition = registry().types[resource_type]
    required = _object(definition, resource_type)
    return {"resourceType": resource_type, **required, **ASKED_FOR.get(resource_type, {})}


def _object(definition: TypeDefinition, path: str) -> Json:
    found: Json = {}
    for element in definition.children(path):
        if element.min == 0:
            continue
        kind = element.types[0].code if element.types else ""
        name = element.name.removesuffix("[x]") + (kind[0].upper() + kind[1:] if element.is_choice else "")
        value = _value(definition, element, kind)
        found[name] = value if element.max == 1 else [value]
    return found


def _value(definition: TypeDefinition, element: Element, kind: str) -> Any:
    match kind:
        case "Reference":
            target = next(iter(element.types[0].targets), "Patient").rsplit("/", 1)[-1]
            return {"reference": f"{'Patient' if target == 'Resource' else target}/x"}
        case "code" | "string" if element.binding_strength == "required" and (codes := _codes(element.binding)):
            return codes[0]
        case "CodeableConcept" if element.binding_strength == "required" and _codes(element.binding):
            system, code = min(terminology().expansion(element.binding or "") or ())
            return {"coding": [{"system": system, "code": code}]}
        case "Resource":
            return {"resourceType": "Basic", "code": {"text": "x"}}
        case "" | "BackboneElement" | "Element":
            return _object(definition, element.path) or {"id": "x"}
    if kind in _PRIMITIVES:
        return _PRIMITIVES[kind]
    known = registry().types[kind]
    if known.kind == "primitive-type":
        return "http://example.org/x" if kind in ("uri", "url", "canonical") else "x"
    return _object(known, kind) or _some(known)


def _some(definition: TypeDefinition) -> Json:
    """Of a data type that requires nothing, its first element of its own that is a primitive."""
    for element in definition.children(definition.name):
        kind = element.types[0].code if element.types else ""
        if element.name in ("id", "extension") or kind not in registry().types:
            continue
        if registry().types[kind].kind == "primitive-type" and element.binding_strength != "required":
            value = _value(definition, element, kind)
            return {element.name: value if element.max == 1 else [value]}
    raise AssertionError(f"{definition.name} has no primitive of its own")
