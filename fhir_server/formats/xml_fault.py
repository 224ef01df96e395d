"""The faults of an XML document, each with the line and the FHIRPath of the element that it is about.

The path is worked out only when there is a fault, by going up the tree.
"""

from __future__ import annotations

from typing import Any

from lxml import etree

from fhir_server.formats.shapes import Shape, Shapes
from fhir_server.formats.xhtml import DIV
from fhir_server.model.errors import InvalidError

FHIR = "http://hl7.org/fhir"
PREFIX = f"{{{FHIR}}}"


def local(tag: Any) -> str:
    """The name of an element for people, without the namespace of FHIR."""
    if not isinstance(tag, str):
        return "#"
    return "div" if tag == DIV else tag.removeprefix(PREFIX)


def fault(shapes: Shapes, element: Any, key: str, diagnostics: str, *, code: str = "structure") -> InvalidError:
    """The error about an element of a document: `diagnostics` ends with what was expected, without a full stop."""
    return InvalidError(
        f"Line {element.sourceline}: {diagnostics}.", code=code, key=key, expression=place_of(shapes, element)
    )


def place_of(shapes: Shapes, element: Any) -> str:
    """The FHIRPath of an element: `Bundle.entry[3].resource.name[0].given[1]`."""
    chain = [element, *element.iterancestors()]
    chain.reverse()
    path = ""
    shape: Shape | None = None
    for node in chain:
        name = local(node.tag)
        if shape is None or shapes.is_resource_type(name):
            path = path or name
            shape = shapes.shape_of(name) if shapes.is_resource_type(name) else None
            if shape is None:
                break
            continue
        member = shape.members.get(name)
        if member is None:
            if isinstance(node.tag, str):
                path += f".{etree.QName(node).localname}"
            elif shape is not None:
                continue
            break
        path += f".{member.element}"
        if member.many:
            path += f"[{sum(1 for _ in node.itersiblings(node.tag, preceding=True))}]"
        if member.kind == "primitive":
            shape = shapes.shape_of("Element")
        elif member.kind != "resource":
            shape = member.shape
        if shape is None:
            break
    return path


def unreadable(error: etree.XMLSyntaxError) -> InvalidError:
    """The error of a document that is no XML."""
    line, column = error.position
    told = str(error.msg).partition(", line ")[0].partition(", use XML_PARSE_HUGE")[0]
    return InvalidError(
        f"Line {line}, column {column}: the body is not well-formed XML: {told}.", code="structure", key="HS-XML-SYNTAX"
    )
