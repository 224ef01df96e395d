"""Nodes of an XML tree: put in, put in place, taken out, with the texts between them staying where they are.

lxml hangs the text behind a node on that node; to XML Patch it is a node of its own.

Spec: https://www.rfc-editor.org/rfc/rfc5261#section-4.3
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from lxml import etree

from fhir_server.patching.fault import lost, malformed, unfit

FHIR_PREFIX = "{http://hl7.org/fhir}"


def parsed(data: bytes, what: str, *, trusted: bool = False) -> Any:
    """The root of a document; no document type is read, so nothing is expanded or fetched.

    What this server has written itself (`trusted`) may hold values of any length.

    Raises:
        InvalidError: 400; it is no XML document, or has a document type.
    """
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, collect_ids=False, huge_tree=trusted
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise malformed(f"{what} is no XML document: {error}.") from None
    if root.getroottree().docinfo.doctype:
        raise malformed(f"{what} has a document type (<!DOCTYPE …>), which FHIR does not allow.")
    return root


@dataclass(frozen=True, slots=True)
class Content:
    """What an operation brings: a text, and nodes with the texts behind them."""

    text: str
    nodes: list[Any]


def content_of(element: Any) -> Content:
    """A copy of what is in an element; white space around lone nodes only indents the patch."""
    nodes = [deepcopy(child) for child in element]
    text = element.text or ""
    if nodes and not text.strip() and not any((node.tail or "").strip() for node in nodes):
        text = ""
        for node in nodes:
            node.tail = None
    return Content(text, nodes)


def is_string(node: Any) -> bool:
    """Whether a node is a text or an attribute's value."""
    return isinstance(node, str)


def is_element(node: Any) -> bool:
    return not is_string(node) and isinstance(node.tag, str)


def same_kind(one: Any, other: Any) -> bool:
    """Whether both are elements, both comments, or both instructions."""
    return (is_element(one) and is_element(other)) or one.tag is other.tag


def require_element(node: Any) -> None:
    if not is_element(node):
        raise lost("the selector finds no element; only to an element something can be added.")


def require_inside(node: Any, root: Any) -> None:
    if node is root or node.getparent() is None:
        raise lost("the selector finds the root, which has nothing beside it and cannot be taken away.")


def attribute_name(name: str, namespaces: dict[str | None, str]) -> str:
    """An attribute's name as lxml spells it."""
    prefix, colon, local = name.rpartition(":")
    if not colon:
        return name
    if prefix not in namespaces:
        raise malformed(f"the prefix {prefix[:80]!r} is not declared.")
    return f"{{{namespaces[prefix]}}}{local}"


def add_attribute(element: Any, name: str, text: str) -> None:
    """Give an element an attribute that it does not have."""
    try:
        present = name in element.attrib
        if not present:
            element.set(name, text)
    except ValueError as error:
        raise unfit(f"{name[:80]!r} cannot be an attribute: {error}.") from None
    if present:
        raise lost(f"the attribute {name!r} is there already; it can be replaced.")


def set_string(node: Any, text: str | None) -> None:
    """Give a text or an attribute another value; None takes it away."""
    holder = node.getparent()
    if node.is_attribute:
        if text is None:
            del holder.attrib[node.attrname]
        else:
            holder.set(node.attrname, text)
    elif node.is_tail:
        holder.tail = text
    else:
        holder.text = text


def append_before(node: Any, text: str | None) -> None:
    """Append to the text that stands before a node."""
    if not text:
        return
    previous = node.getprevious()
    if previous is not None:
        previous.tail = (previous.tail or "") + text
    else:
        parent = node.getparent()
        parent.text = (parent.text or "") + text


def insert_inside(element: Any, content: Content, *, first: bool) -> None:
    """Put content before or behind all that an element has."""
    if first:
        rest, element.text = element.text, content.text or None
        for index, node in enumerate(content.nodes):
            element.insert(index, node)
        if content.nodes:
            content.nodes[-1].tail = (content.nodes[-1].tail or "") + (rest or "") or None
        elif rest:
            element.text = content.text + rest
        return
    if content.text:
        if len(element):
            element[-1].tail = (element[-1].tail or "") + content.text
        else:
            element.text = (element.text or "") + content.text
    element.extend(content.nodes)


def insert_beside(target: Any, content: Content, *, after: bool) -> None:
    """Put content directly before or behind a node, or a text."""
    if is_string(target):
        raise unfit("beside a text or an attribute nothing can be put.")
    parent, index = target.getparent(), target.getparent().index(target)
    if after:
        rest, target.tail = target.tail, content.text or None
        for offset, node in enumerate(content.nodes):
            parent.insert(index + 1 + offset, node)
        last = content.nodes[-1] if content.nodes else target
        last.tail = (last.tail or "") + (rest or "") or None
        return
    append_before(target, content.text)
    for offset, node in enumerate(content.nodes):
        parent.insert(index + offset, node)


def put_in_place(root: Any, target: Any, node: Any) -> Any:
    """Put one node in place of another; gives the root."""
    if target is root:
        return node
    require_inside(target, root)
    node.tail = target.tail
    target.getparent().replace(target, node)
    return root


def take_out(node: Any, blanks: str | None) -> None:
    """Take a node away; `blanks` says whether white space before or behind it goes with it (`before after both`)."""
    parent, previous = node.getparent(), node.getprevious()
    behind = node.tail
    if blanks in ("after", "both"):
        _require_blank(behind, "behind")
        behind = None
    if blanks in ("before", "both"):
        _require_blank(parent.text if previous is None else previous.tail, "before")
        if previous is None:
            parent.text = None
        else:
            previous.tail = None
    append_before(node, behind)
    node.tail = None
    parent.remove(node)


def _require_blank(text: str | None, where: str) -> None:
    if not text or text.strip():
        raise lost(f"`ws` is given, but {where} the node there is not just white space.")


def declared(root: Any, element: Any, prefix: str, uri: str | None, *, must_exist: bool = False) -> Any:
    """Declare a prefix on an element, or with None take its declaration away; gives the root."""
    require_element(element)
    outer = element.getparent().nsmap if element.getparent() is not None else {}
    own = {name: value for name, value in element.nsmap.items() if outer.get(name) != value}
    if must_exist != (prefix in own):
        raise lost(f"the prefix {prefix[:80]!r} is {'not declared' if must_exist else 'declared already'} there.")
    own.pop(prefix, None)
    try:
        made = etree.Element(element.tag, element.attrib, {**own, **({prefix: uri} if uri else {})})
    except ValueError as error:
        raise unfit(f"{error}.") from None
    made.text = element.text
    made.extend(list(element))
    return put_in_place(root, element, made)


def drop_empty(root: Any) -> None:
    """Take away the elements of FHIR that have nothing in them any more: FHIR has none that are empty."""
    for element in [e for e in root.iter(f"{FHIR_PREFIX}*") if e is not root][::-1]:
        if not element.attrib and not len(element) and not (element.text or "").strip():
            take_out(element, None)
