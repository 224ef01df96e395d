"""The resource and data types as JSON Schema, from the element tables.

They say of a type what the JSON of FHIR allows in names, kinds and codes. What the server refuses besides (unknown
elements, invariants, references) it tells in its answer.

Spec: https://hl7.org/fhir/R4/json.html, https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

from typing import Any

from profiles.registry import Element, Registry, TypeDefinition
from profiles.terminology import Terminology

Json = dict[str, Any]

SCHEMAS = "#/components/schemas/"

#: Resources of any type; what they have in common.
ANY = "Resource"

_JSON_TYPES = {
    "boolean": "boolean",
    "integer": "integer",
    "positiveInt": "integer",
    "unsignedInt": "integer",
    "decimal": "number",
}

#: FHIR's own patterns for these say nothing, or take a regular expression engine too long.
_WITHOUT_PATTERN = frozenset(("base64Binary", "string", "markdown", "xhtml", "uri", "url", "canonical"))

#: A code of a longer list is any string: the list is a code system, and no part of the form.
MOST_CODES = 120


def schemas_of(registry: Registry, terminology: Terminology) -> dict[str, Json]:
    """A schema for each type, and for each element that has elements of its own, by its path."""
    found: dict[str, Json] = {}
    for definition in registry.types.values():
        if definition.kind == "primitive-type":
            found[definition.name] = _primitive(definition)
            continue
        for path in _parents(definition):
            found[path] = _object(definition, path, registry, terminology)
    found[ANY]["properties"]["resourceType"] = {"type": "string"}
    found[ANY]["required"] = ["resourceType"]
    return found


def reference_to(name: str) -> Json:
    return {"$ref": SCHEMAS + name}


def _parents(definition: TypeDefinition) -> list[str]:
    inner = [p for p, e in definition.elements.items() if {"BackboneElement", "Element"} & {t.code for t in e.types}]
    return list(dict.fromkeys((definition.name, *inner)))


def _primitive(definition: TypeDefinition) -> Json:
    schema: Json = {"type": _JSON_TYPES.get(definition.name, "string")}
    if schema["type"] == "string" and definition.regex and definition.name not in _WITHOUT_PATTERN:
        schema["pattern"] = f"^(?:{definition.regex})$"
    if definition.name == "base64Binary":
        schema["contentEncoding"] = "base64"
    if definition.name in ("positiveInt", "unsignedInt"):
        schema["minimum"] = 1 if definition.name == "positiveInt" else 0
    return schema


def _object(definition: TypeDefinition, path: str, registry: Registry, terminology: Terminology) -> Json:
    properties: Json = {}
    required: list[str] = []
    if path == definition.name and definition.kind == "resource":
        properties["resourceType"] = {"const": path}
        required.append("resourceType")
    for element in definition.children(path):
        for name, schema, primitive in _members(element, registry, terminology):
            properties[name] = schema
            # A primitive that is required may be there as its extensions alone, in the member `_name`.
            if element.min and not element.is_choice and not primitive:
                required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _members(element: Element, registry: Registry, terminology: Terminology) -> list[tuple[str, Json, bool]]:
    """The members that an element can be in JSON: name, schema, and whether the value is a primitive."""
    if element.content is not None:
        schema = reference_to(element.content)
        return [(element.name, _several(element, schema), False)]
    found: list[tuple[str, Json, bool]] = []
    for kind in element.types:
        code = "string" if kind.code.startswith("http:") else kind.code
        name = element.name.removesuffix("[x]") + (code[0].upper() + code[1:] if element.is_choice else "")
        if code in ("BackboneElement", "Element"):
            schema = reference_to(element.path)
        else:
            schema = _coded(element, code, terminology) or reference_to(code)
        found.append((name, _several(element, schema), registry.types[code].kind == "primitive-type"))
    return found


def _several(element: Element, schema: Json) -> Json:
    return schema if element.max == 1 else {"type": "array", "items": schema}


def _coded(element: Element, code: str, terminology: Terminology) -> Json | None:
    if code != "code" or element.binding_strength != "required" or element.binding is None:
        return None
    codes = sorted({value for _, value in terminology.expansion(element.binding) or ()})
    return {"enum": codes} if 0 < len(codes) <= MOST_CODES else None
