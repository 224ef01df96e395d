"""Checks of `Narrative.div`: well-formed XHTML with the elements and attributes that the specification allows, no more.

Narrative is shown to people by software that trusts it, so nothing active passes: no script, form, frame, event
attribute, outside style sheet or `javascript:` address, and nothing that an HTML parser reads in another way than an
XML parser does (document types, entities, CDATA sections, processing instructions, comments that HTML ends early).

Spec: https://hl7.org/fhir/R4/narrative.html, HTML 4.01 chapters 7 to 11 and 15
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree

from fhir_server.validation.fault import Fault, Found, shown, wrong_type
from fhir_server.validation.primitives import FORBIDDEN_CHARACTER

XHTML = "http://www.w3.org/1999/xhtml"
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"

COMMON = frozenset({"id", "class", "style", "title", "lang", XML_LANG, "dir"})
CELLS = frozenset({"align", "valign", "char", "charoff"})
CELL = CELLS | {"abbr", "axis", "headers", "scope", "rowspan", "colspan", "width", "height", "nowrap", "bgcolor"}
PLAIN = (
    "b i tt big small em strong cite dfn code samp kbd var abbr acronym sub sup span bdo address dl dt dd li br "
    "caption h1 h2 h3 h4 h5 h6 p div hr ul ol"
)
ATTRIBUTES: dict[str, frozenset[str]] = {
    **dict.fromkeys(PLAIN.split(), frozenset({"align", "clear", "width", "size", "noshade", "type", "start", "value"})),
    "pre": frozenset({"width", "{http://www.w3.org/XML/1998/namespace}space", "space"}),
    "blockquote": frozenset({"cite"}),
    "q": frozenset({"cite"}),
    "a": frozenset(
        {"href", "name", "hreflang", "type", "rel", "rev", "charset", "shape", "coords", "target"}
        | {"accesskey", "tabindex"}
    ),
    "img": frozenset(
        {"src", "alt", "longdesc", "name", "height", "width", "usemap", "ismap", "border", "align", "hspace", "vspace"}
    ),
    "map": frozenset({"name"}),
    "area": frozenset({"shape", "coords", "href", "nohref", "alt", "target", "accesskey", "tabindex"}),
    "table": frozenset(
        {"summary", "width", "border", "frame", "rules", "cellspacing", "cellpadding", "align", "bgcolor"}
    ),
    **dict.fromkeys(("colgroup", "col"), CELLS | {"span", "width"}),
    **dict.fromkeys(("thead", "tbody", "tfoot"), CELLS),
    "tr": CELLS | {"bgcolor"},
    **dict.fromkeys(("td", "th"), CELL),
}
ALLOWED = {f"{{{XHTML}}}{name}": attributes | COMMON for name, attributes in ATTRIBUTES.items()}

ADDRESSES = frozenset({"href", "src", "cite", "longdesc", "usemap"})
SCHEME = re.compile(r"([a-z][a-z0-9+.\-]*):", re.IGNORECASE)
SAFE_SCHEMES = frozenset({"http", "https", "mailto", "tel", "ftp", "urn", "cid"})
IMAGE_DATA = re.compile(r"data:image/(?:png|gif|jpe?g|webp|bmp);base64,[A-Za-z0-9+/=\s]*", re.IGNORECASE)
#: A background that the style itself holds is "internally contained"; one beside the page is what `img` may show, too
#: (HL7's own publisher writes `url(tbl_bck1.png)` into the narratives of guides).
STYLE_IMAGE = re.compile(
    r"url\((?:data: ?image/(?:png|gif|jpe?g|webp|bmp);base64,[A-Za-z0-9+/=]*"
    r"|[A-Za-z0-9_\-]+\.(?:png|gif|jpe?g|webp|bmp))\)",
    re.IGNORECASE,
)
IGNORED_IN_ADDRESS = re.compile(r"[\x00-\x20\x7f-\xa0\u2000-\u200f\u2028-\u202f\ufeff]")
#: What loads something from outside, or runs something, from within a style; escapes and comments could hide either.
ACTIVE_STYLE = re.compile(
    r"(?:url|src|image|image-set|cross-fade|expression)\s*\(|@import|behaviou?r\s*:|-moz-binding|javascript:|\\|/\*",
    re.IGNORECASE,
)
CDATA_OR_DOCTYPE = re.compile(r"<!(?!--)[A-Za-z\[]{0,8}|<\?[A-Za-z]{0,8}")
COMMENT_ENDING_EARLY = re.compile(r"^-?>|--!?|<!|-$")


def div(value: Any) -> Found:
    """Check the text of `Narrative.div`; faults tell the line within it."""
    if type(value) is not str or not value:
        return wrong_type(value, "a string with an XHTML div")
    if (bad := FORBIDDEN_CHARACTER.search(value)) is not None:
        return [_fault("XML", "structure", f"the character U+{ord(bad.group()):04X}", "text that XML allows")]
    # Before any parser: nothing that declares entities or that HTML and XML read differently.
    if (bad := CDATA_OR_DOCTYPE.search(value)) is not None:
        return [_fault("XML", "structure", shown(bad.group()), "elements, text and comments only")]
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(value.encode(), parser)
    except etree.XMLSyntaxError as error:
        return [_fault("XML", "structure", f"XML that is not well-formed ({error.msg})", "well-formed XHTML")]
    if root.tag != f"{{{XHTML}}}div":
        return [_fault("ROOT", "structure", f"the root {shown(root.tag)}", f"div in the namespace {XHTML}")]
    return _of_tree(root) or None


def _of_tree(root: etree._Element) -> list[Fault]:
    faults: list[Fault] = []
    has_content = False
    for node in root.iter():
        tag = node.tag
        if type(tag) is not str:
            faults.extend(_of_other(node))
            has_content = has_content or bool(node.tail and not node.tail.isspace())
            continue
        allowed = ALLOWED.get(tag)
        if allowed is None:
            place = f"the element {shown(_local(tag))} (line {node.sourceline})"
            faults.append(_fault("ELEMENT", "invariant", place, "elements of basic HTML"))
        elif node.attrib:
            faults.extend(_of_attributes(node, allowed))
        if not has_content:
            has_content = tag.endswith("}img") or _has_text(node)
    if not has_content:
        # A warning: constraint txt-2 forbids it, but the official examples have it, and no reader comes to harm.
        empty = _fault("EMPTY", "invariant", "a div without content", "text or an image")
        empty.severity = "warning"
        faults.append(empty)
    return faults


def _has_text(node: etree._Element) -> bool:
    return bool((node.text and not node.text.isspace()) or (node.tail and not node.tail.isspace()))


def _of_other(node: etree._Element) -> list[Fault]:
    """A comment passes if HTML ends it where XML does; entities and processing instructions never do."""
    if node.tag is etree.Comment and not COMMENT_ENDING_EARLY.search(node.text or ""):
        return []
    return [_fault("XML", "structure", shown(etree.tostring(node, encoding="unicode")), "elements and text only")]


def _of_attributes(node: etree._Element, allowed: frozenset[str]) -> list[Fault]:
    faults = []
    for raw_name, raw_value in node.attrib.items():
        name, value = str(raw_name), str(raw_value)
        place = f"{_local(name)}={shown(value)} on {_local(str(node.tag))} (line {node.sourceline})"
        if name not in allowed:
            faults.append(_fault("ATTRIBUTE", "invariant", place, "attributes of basic HTML"))
        elif name in ADDRESSES and not _is_safe_address(name, value):
            faults.append(_fault("LINK", "invariant", place, "a relative or http(s), mailto, tel address, or an image"))
        elif name == "style" and ACTIVE_STYLE.search(STYLE_IMAGE.sub("", value)):
            faults.append(_fault("STYLE", "invariant", place, "a style that loads and runs nothing"))
    return faults


def _is_safe_address(name: str, value: str) -> bool:
    # Browsers skip control characters and white space in front of, and tabs and line ends within, an address.
    address = IGNORED_IN_ADDRESS.sub("", value)
    scheme = SCHEME.match(address)
    if scheme is None:
        return True
    if scheme.group(1).lower() in SAFE_SCHEMES:
        return True
    return name == "src" and IMAGE_DATA.fullmatch(address) is not None


def _local(tag: str) -> str:
    return tag.removeprefix(f"{{{XHTML}}}")


def _fault(name: str, issue_code: str, found: str, expected: str) -> Fault:
    return Fault(f"HS-VAL-NARRATIVE-{name}", issue_code, f"Found {found}; expected {expected}.")
