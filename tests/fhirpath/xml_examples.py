"""Reads FHIR's XML to the JSON form, by the element tables; enough for the example files of the FHIRPath suite.

Spec: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from lxml import etree

from fhir_server.fhirpath.shapes import Shape, members_of, shape_of
from profiles.registry import Registry

FHIR = "{http://hl7.org/fhir}"
XHTML = "{http://www.w3.org/1999/xhtml}"
INTEGERS = frozenset(("integer", "positiveInt", "unsignedInt"))


def resource_from_xml(path: Path, registry: Registry) -> dict[str, Any]:
    """The resource of an XML file as decoded JSON."""
    root = etree.parse(path, etree.XMLParser(resolve_entities=False, remove_comments=True)).getroot()
    return _resource(root, registry)


def _resource(element: Any, registry: Registry) -> dict[str, Any]:
    name = element.tag.removeprefix(FHIR)
    return {"resourceType": name, **_members(element, shape_of(name), registry)}


def _members(element: Any, shape: Shape, registry: Registry) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "id" in element.attrib:
        found["id"] = element.get("id")
    if "url" in element.attrib:
        found["url"] = element.get("url")
    for child in element:
        name = etree.QName(child).localname
        many, below = _member(shape, name, registry)
        value, twin = _value(child, below, registry)
        if many:
            values, twins = found.setdefault(name, []), found.setdefault(f"_{name}", [])
            values.append(value)
            twins.append(twin)
        else:
            found[name], found[f"_{name}"] = value, twin
    return {k: v for k, v in found.items() if v is not None and v != [] and not _only_none(v)}


def _only_none(value: Any) -> bool:
    return isinstance(value, list) and all(v is None for v in value)


def _member(shape: Shape, name: str, registry: Registry) -> tuple[bool, Shape]:
    for row in registry.types[shape.owner].children(shape.path):
        for member in members_of(registry, shape, row.name.removesuffix("[x]")):
            if member.key == name:
                return member.many, member.shape
    raise ValueError(f"{shape.path} has no element {name}")


def _value(element: Any, shape: Shape, registry: Registry) -> tuple[Any, dict[str, Any] | None]:
    """The value of an element, and the twin of a primitive."""
    if element.tag.startswith(XHTML):
        return etree.tostring(element, encoding="unicode", with_tail=False), None
    definition = registry.types[shape.type]
    if definition.kind == "resource":
        return _resource(element[0], registry), None
    if definition.kind != "primitive-type":
        return _members(element, shape, registry), None
    return _primitive(element.get("value"), shape.type), _members(element, shape, registry) or None


def _primitive(text: str | None, type_name: str) -> Any:
    if text is None:
        return None
    if type_name == "boolean":
        return text == "true"
    if type_name in INTEGERS:
        return int(text)
    return Decimal(text) if type_name == "decimal" else text
