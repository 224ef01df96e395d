"""Whether a text is the XHTML of a narrative, for `htmlChecks()` when the caller has no check of its own.

Spec: https://hl7.org/fhir/R4/narrative.html#xhtml
"""

from __future__ import annotations

from functools import lru_cache

from lxml import etree

_XHTML = "{http://www.w3.org/1999/xhtml}"
_NAMES = (
    "a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 "
    "h4 h5 h6 hr i img kbd li map ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var"
)
_ALLOWED = frozenset(_XHTML + name for name in _NAMES.split())


@lru_cache(maxsize=8)
def is_narrative(text: str) -> bool:
    """A well-formed div of text, tables, lists and images, with some content and nothing active."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return False
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return False
    if root.tag != f"{_XHTML}div":
        return False
    elements = [e for e in root.iter() if isinstance(e.tag, str)]
    if any(e.tag not in _ALLOWED or any(_is_event(str(name)) for name in e.attrib) for e in elements):
        return False
    return any(e.tag == f"{_XHTML}img" or (e.text or "").strip() for e in elements) or any(
        (node.tail or "").strip() for node in root.iterdescendants()
    )


def _is_event(attribute: str) -> bool:
    return attribute.lower().startswith("on")
