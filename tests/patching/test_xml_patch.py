"""XML Patch beyond the cases of the test suite: RFC 5261, and resources in their XML form."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.formats.xml_writer import XmlWriter
from fhir_server.model import codec
from fhir_server.model.errors import FhirError, InvalidError, UnprocessableError
from fhir_server.patching.document import equal
from fhir_server.patching.formats import JSON_PATCH, XML_PATCH, patch_of
from fhir_server.patching.selector import selector_of
from fhir_server.patching.xml_patch import patched_document, xml_form, xml_patch_of
from profiles.registry import registry

DOCUMENT = "<a><b k='1'>x</b>\n<c/><!--n--><?p q?>y</a>"


def run(operation: str, document: str = DOCUMENT) -> str:
    return patched_document(document.encode(), f"<diff xmlns:p='urn:p'>{operation}</diff>".encode()).decode()


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ('<add sel="a" pos="prepend">t<d/></add>', "<a>t<d/><b k='1'>x</b>\n<c/><!--n--><?p q?>y</a>"),
        ('<add sel="a">t<d/>u</add>', "<a><b k='1'>x</b>\n<c/><!--n--><?p q?>yt<d/>u</a>"),
        ('<add sel="a/b" pos="after"><d/></add>', "<a><b k='1'>x</b><d/>\n<c/><!--n--><?p q?>y</a>"),
        ('<add sel="a/b" pos="after">t</add>', "<a><b k='1'>x</b>t\n<c/><!--n--><?p q?>y</a>"),
        ('<add sel="a/c" pos="before">t<d/></add>', "<a><b k='1'>x</b>\nt<d/><c/><!--n--><?p q?>y</a>"),
        ('<add sel="a/b" pos="before">t</add>', "<a>t<b k='1'>x</b>\n<c/><!--n--><?p q?>y</a>"),
        ('<add sel="a/b" type="@l">2</add>', "<a><b k='1' l='2'>x</b>\n<c/><!--n--><?p q?>y</a>"),
        ('<remove sel="a/b"/>', "<a>\n<c/><!--n--><?p q?>y</a>"),
        ('<remove sel="a/b" ws="after"/>', "<a><c/><!--n--><?p q?>y</a>"),
        ('<remove sel="a/c" ws="before"/>', "<a><b k='1'>x</b><!--n--><?p q?>y</a>"),
        ('<remove sel="a/b/@k"/>', "<a><b>x</b>\n<c/><!--n--><?p q?>y</a>"),
        ('<remove sel="a/text()[2]"/>', "<a><b k='1'>x</b>\n<c/><!--n--><?p q?></a>"),
        ('<remove sel="a/comment()"/>', "<a><b k='1'>x</b>\n<c/><?p q?>y</a>"),
        ('<replace sel="a/comment()[1]"><!--m--></replace>', "<a><b k='1'>x</b>\n<c/><!--m--><?p q?>y</a>"),
        (
            "<replace sel=\"a/processing-instruction('p')\"><?p r?></replace>",
            "<a><b k='1'>x</b>\n<c/><!--n--><?p r?>y</a>",
        ),
        ("<replace sel=\"a/b[@k='1']\"><d/></replace>", "<a><d/>\n<c/><!--n--><?p q?>y</a>"),
        ("<replace sel=\"*[b='x']/*[last()]\"><d/></replace>", "<a><b k='1'>x</b>\n<d/><!--n--><?p q?>y</a>"),
        ("<replace sel=\"/a/b[.='x'][1]/text()\">z</replace>", "<a><b k='1'>z</b>\n<c/><!--n--><?p q?>y</a>"),
        ('<replace sel="a"><z/></replace>', "<z/>"),
    ],
)
def test_operations_do_what_the_rfc_says(operation: str, expected: str) -> None:
    assert run(operation) == expected.replace("'", '"')


@pytest.mark.parametrize(
    "operation",
    [
        '<add sel="a/b" type="@k">2</add>',
        '<add sel="a/b/@k">2</add>',
        '<add sel="a" pos="before"><d/></add>',
        '<add sel="a/b/text()" pos="after"><d/></add>',
        '<remove sel="a"/>',
        '<remove sel="a/b" ws="before"/>',
        '<remove sel="a/*"/>',
        '<remove sel="a/d"/>',
        '<replace sel="a/b">t</replace>',
        '<replace sel="a/b"><d/><e/></replace>',
        '<replace sel="a/b"><!--n--></replace>',
        '<replace sel="a/b/@k"><d/></replace>',
        '<replace sel="a/namespace::q">urn:q</replace>',
        '<remove sel="a/namespace::q"/>',
    ],
)
def test_what_cannot_be_carried_out_is_refused(operation: str) -> None:
    with pytest.raises(UnprocessableError) as caught:
        run(operation)
    assert caught.value.issues[0].diagnostics.startswith("Operation 0 (")


def test_namespace_declarations_are_added_replaced_and_removed() -> None:
    assert run('<add sel="a" type="namespace::q">urn:q</add>', "<a/>") == '<a xmlns:q="urn:q"/>'
    assert run('<replace sel="a/b/namespace::q">urn:r</replace>', '<a><b xmlns:q="urn:q"/>t</a>') == (
        '<a><b xmlns:q="urn:r"/>t</a>'
    )
    assert run('<remove sel="a/namespace::q"/>', '<a xmlns:q="urn:q"/>') == "<a/>"


def test_names_in_selectors_are_in_the_namespaces_of_the_patch() -> None:
    document = '<a xmlns="urn:p"><b/><c xmlns="urn:r"/></a>'
    assert run('<remove sel="p:a/p:b"/>', document) == '<a xmlns="urn:p"><c xmlns="urn:r"/></a>'
    assert run('<remove xmlns="urn:p" xmlns:r="urn:r" sel="a/r:c"/>', document) == '<a xmlns="urn:p"><b/></a>'
    with pytest.raises(UnprocessableError):
        run('<remove sel="a/b"/>', document)


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "a/", "//a", "a//b", "a[", "a[]", "a[1", "a[@]", "a[@k=]", "a[@k=b]", "a | b", "a or b", "id('x')"),
        *("count(a)", "a[count(b)=1]", "a[1+1]", "..", "a/..", ".", "$x", "p:a", "ancestor::a", "namespace::x", "a b"),
        *("a/text(", "a/node()", "a[position()=1]", "a" * 3000, "'a'", "1", "a]", "@k/b[", "a:b:c"),
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        selector_of(text, {})
    assert caught.value.issues[0].key == "HS-PATCH-FORMAT"


@given(st.lists(st.sampled_from([*"/@.=[]()*|:", "a", "p:b", "'x'", '"', "1", "text()", "last()", "namespace::", " "])))
def test_no_text_makes_the_reader_of_selectors_fall(parts: list[str]) -> None:
    try:
        selector = selector_of("".join(parts), {"p": "urn:p", None: "urn:q"})
        selector.xpath(xml_form(registry()).tree_of({"resourceType": "Patient"}))
    except FhirError:
        pass


# --- resources ------------------------------------------------------------------------------------------------------


def test_entities_are_not_expanded() -> None:
    bomb = (
        '<!DOCTYPE a [<!ENTITY b "cccccccccc"><!ENTITY d "&b;&b;&b;&b;">]><diff><add sel="f:Patient">&d;</add></diff>'
    )
    with pytest.raises(InvalidError) as caught:
        xml_patch_of(bomb.encode(), xml_form(registry()))
    assert "document type" in caught.value.issues[0].diagnostics


def test_elements_that_a_patch_leaves_empty_are_taken_away() -> None:
    patient = {"resourceType": "Patient", "id": "1", "contact": [{"name": {"text": "a"}}], "active": True}
    patch = patch_of(
        b"<diff><remove sel='f:Patient/f:contact/f:name/f:text'/></diff>", XML_PATCH, "Patient", registry()
    )
    before = deepcopy(patient)
    assert patch.apply(patient) == {"resourceType": "Patient", "id": "1", "active": True}
    assert patient == before


def test_an_element_in_the_wrong_place_is_told() -> None:
    patch = b"<diff><add sel='f:Patient'><active xmlns='http://hl7.org/fhir' value='true'/></add></diff>"
    with pytest.raises(InvalidError) as caught:
        patch_of(patch, XML_PATCH, "Patient", registry()).apply({"resourceType": "Patient", "gender": "male"})
    assert "active" in str(caught.value)


def test_values_of_any_length_go_through() -> None:
    binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD" * 4_000_000}
    patch = b"<diff><replace sel='f:Binary/f:contentType/@value'>text/html</replace></diff>"
    after = patch_of(patch, XML_PATCH, "Binary", registry()).apply(binary)
    assert after == {**binary, "contentType": "text/html"}


def test_official_examples_survive_a_patch_and_its_inverse(test_data: Path) -> None:
    """Every 25th example gets an element by XML Patch and loses it by JSON Patch; all else is as it was."""
    add = b"<diff xmlns='http://hl7.org/fhir'><add sel='/*/id' pos='after'><implicitRules value='urn:x'/></add></diff>"
    remove = b'[{"op":"test","path":"/implicitRules","value":"urn:x"},{"op":"remove","path":"/implicitRules"}]'
    writer = XmlWriter(registry())
    count = 0
    for path in sorted((test_data / "r4-examples").rglob("*.json"))[::25]:
        if path.stat().st_size > 300_000:
            continue
        resource: dict[str, Any] = codec.decode(path.read_bytes())
        name = resource.get("resourceType", "")
        if "id" not in resource or not registry().is_resource_type(name) or {"meta", "implicitRules"} & resource.keys():
            continue
        try:
            writer.write(resource)
        except FhirError:
            continue  # an example that XML cannot say
        once = patch_of(add, XML_PATCH, name, registry()).apply(resource)
        assert once["implicitRules"] == "urn:x", path.name
        back = patch_of(remove, JSON_PATCH, name, registry()).apply(once)
        assert json.dumps(back, default=str, sort_keys=True) == json.dumps(resource, default=str, sort_keys=True)
        assert equal(back, resource), path.name
        count += 1
    assert count > 20
