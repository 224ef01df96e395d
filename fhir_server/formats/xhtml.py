"""The narrative's div between its two lives: a string in JSON, an element in XML.

Its canonical form is what the JSON carries: XHTML as the default namespace, declared once, no other declarations, empty
elements closed at once (`<br/>`), characters as themselves.

Spec: https://hl7.org/fhir/R4/narrative.html#xhtml
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from fhir_server.formats.xml_parser import Parsers

XHTML = "http://www.w3.org/1999/xhtml"
DIV = f"{{{XHTML}}}div"
XML_NAMESPACE = "{http://www.w3.org/XML/1998/namespace}"

DECLARATION = f'<div xmlns="{XHTML}"'

#: Ampersands, angle brackets, quotes, and the white space that a parser would change in an attribute.
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)

_parsers = Parsers()
_DOCTYPE = re.compile(r"<!DOCTYPE", re.IGNORECASE)


class XhtmlError(ValueError):
    """Something that a div cannot be, or cannot hold; its text tells what."""


def parsed(text: str) -> Any:
    """The element of a div's text.

    Raises:
        XhtmlError: it is no well-formed XHTML div, or has a document type.
    """
    if _DOCTYPE.search(text):
        raise XhtmlError("a document type")
    try:
        element = etree.fromstring(text, _parsers.fragment)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise XhtmlError(f"XHTML that is not well-formed ({error})") from None
    if element.tag != DIV:
        raise XhtmlError(f"the element {element.tag!r} where an XHTML div belongs")
    return element


def canonical(element: Any) -> str:
    """The text of a div element, which may stand inside a document.

    Raises:
        XhtmlError: it holds a processing instruction, an entity, or an attribute of a foreign namespace.
    """
    for foreign in element.iter(etree.ProcessingInstruction, etree.Entity):
        raise XhtmlError(f"{foreign!s:.60}")
    text: str = etree.tostring(element, encoding="unicode", with_tail=False)
    if text.startswith(DECLARATION) and text.count("xmlns") == 1:
        return text
    out: list[str] = []
    _write(element, "", out)
    return "".join(out)


def _write(element: Any, namespace: str, out: list[str]) -> None:
    if element.tag is etree.Comment:
        out.append(f"<!--{element.text}-->")
        return
    name = etree.QName(element)
    own = name.namespace or ""
    out.append(f"<{name.localname}")
    if own != namespace:
        out.append(f' xmlns="{own}"')
    for key, value in element.items():
        plain = f"xml:{key.removeprefix(XML_NAMESPACE)}" if key.startswith(XML_NAMESPACE) else key
        if plain.startswith("{"):
            raise XhtmlError(f"the attribute {key!r} of a foreign namespace")
        out.append(f' {plain}="{value.translate(_ATTRIBUTE_ESCAPES)}"')
    if len(element) == 0 and not element.text:
        out.append("/>")
        return
    out.append(">")
    out.append((element.text or "").translate(_ESCAPES))
    for child in element:
        _write(child, own, out)
        out.append((child.tail or "").translate(_ESCAPES))
    out.append(f"</{name.localname}>")
