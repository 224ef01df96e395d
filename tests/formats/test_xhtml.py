"""The canonical text of a narrative is the same, whichever way it was spelt.

Spec: https://hl7.org/fhir/R4/narrative.html#xhtml
"""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from fhir_server.formats.xhtml import DECLARATION, XhtmlError, canonical, parsed
from fhir_server.model import codec


def prefixed(div: str) -> str:
    """The same XML with a prefix for XHTML instead of a default namespace."""
    root = etree.fromstring(div)
    renamed = etree.Element(root.tag, attrib=dict(root.attrib), nsmap={"h": "http://www.w3.org/1999/xhtml"})
    renamed.text = root.text
    renamed.extend(list(root))
    return etree.tostring(renamed, encoding="unicode")


def test_prefixes_do_not_change_the_canonical_text_of_any_example(test_data: Path) -> None:
    checked = 0
    for path in sorted((test_data / "r4-examples").glob("[E-P]*.json"))[::9]:
        narrative = codec.decode(path.read_bytes()).get("text")
        if narrative is None:
            continue
        div = narrative["div"]
        usual = canonical(parsed(div))
        assert usual.startswith(DECLARATION)
        assert canonical(parsed(prefixed(div))) == usual
        assert canonical(parsed(usual)) == usual
        checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "<div>no namespace</div>",
        '<p xmlns="http://www.w3.org/1999/xhtml"/>',
        '<div xmlns="http://www.w3.org/1999/xhtml">&nbsp;</div>',
        '<!DOCTYPE div [<!ENTITY a "b">]><div xmlns="http://www.w3.org/1999/xhtml">&a;</div>',
        '<div xmlns="http://www.w3.org/1999/xhtml">' + "<b>" * 5000 + "</b>" * 5000 + "</div>",
    ],
)
def test_what_is_no_div_is_told(text: str) -> None:
    with pytest.raises(XhtmlError):
        parsed(text)


def test_attributes_of_other_namespaces_and_instructions_are_told() -> None:
    start = '<div xmlns="http://www.w3.org/1999/xhtml"'
    for text in (f'{start} xmlns:x="urn:x" x:a="1"/>', f"{start}><?php echo ?></div>"):
        with pytest.raises(XhtmlError):
            canonical(parsed(text))
