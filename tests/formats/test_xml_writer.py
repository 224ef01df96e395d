"""XML out: the order of the definition, attributes, twins, narratives, and what XML cannot say.

Spec: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.formats.xml_writer import XmlWriter
from fhir_server.model import codec
from fhir_server.model.errors import NotAcceptableError
from profiles.registry import registry

HEAD = b'<?xml version="1.0" encoding="UTF-8"?><Patient xmlns="http://hl7.org/fhir">'
READER, WRITER = XmlReader(registry()), XmlWriter(registry())


def inner(members: dict[str, Any]) -> str:
    data = WRITER.write({"resourceType": "Patient", **members})
    assert data.startswith(HEAD)
    return data.removeprefix(HEAD).removesuffix(b"</Patient>").decode()


@pytest.mark.parametrize(
    ("members", "xml"),
    [
        ({}, ""),
        ({"active": True, "multipleBirthInteger": 2}, '<active value="true"/><multipleBirthInteger value="2"/>'),
        (
            {"gender": "male", "active": False, "id": "x"},
            '<id value="x"/><active value="false"/><gender value="male"/>',
        ),
        ({"_birthDate": {"id": "b"}, "birthDate": "1980"}, '<birthDate value="1980" id="b"></birthDate>'),
        (
            {"_birthDate": {"extension": [{"valueCode": "x", "url": "u"}]}},
            '<birthDate><extension url="u"><valueCode value="x"/></extension></birthDate>',
        ),
        (
            {"name": [{"given": ["a", None], "_given": [None, {"id": "g"}], "id": "n"}]},
            '<name id="n"><given value="a"/><given id="g"></given></name>',
        ),
        (
            {"name": [{"_given": [None, {"id": "g"}], "given": ["a"]}]},
            '<name><given value="a"/><given id="g"></given></name>',
        ),
        (
            {"contained": [{"id": "o", "resourceType": "Organization", "name": "x"}]},
            '<contained><Organization><id value="o"/><name value="x"/></Organization></contained>',
        ),
        ({"name": [{"text": 'a\n<b>"&\té'}]}, '<name><text value="a&#10;&lt;b&gt;&quot;&amp;&#9;é"/></name>'),
        (
            {"text": {"div": '<div xmlns="http://www.w3.org/1999/xhtml">a<br />b</div>', "status": "generated"}},
            '<text><status value="generated"/><div xmlns="http://www.w3.org/1999/xhtml">a<br/>b</div></text>',
        ),
    ],
)
def test_members_stand_in_the_order_of_the_definition(members: dict[str, Any], xml: str) -> None:
    assert inner(members) == xml


def test_a_decimal_is_written_as_it_was() -> None:
    data = b'{"resourceType":"Observation","valueQuantity":{"value":1.10E3}}'
    assert b'<value value="1.10E3"/>' in WRITER.write(codec.decode(data))


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"nonsense": 1}, "nonsense"),
        ({"_name": {}}, "_name"),
        ({"_active": None}, "active"),
        ({"active": None}, "active"),
        ({"active": {}}, "active"),
        ({"name": {"family": "x"}}, "name"),
        ({"name": ["x"]}, "name"),
        ({"name": [{"family": ["x"]}]}, "name.family"),
        ({"name": [{"given": ["a", None], "_given": [None, None]}]}, "name.given"),
        ({"name": [{"family": "\u0001"}]}, "name.family"),
        ({"name": [{"family": "\ufffe"}]}, "name.family"),
        ({"contained": [{"id": "x"}]}, "contained"),
        ({"text": {"div": "<div>no namespace</div>"}}, "text.div"),
        ({"text": {"div": "<div"}}, "text.div"),
        ({"text": {"div": '<!DOCTYPE x><div xmlns="http://www.w3.org/1999/xhtml"/>'}}, "text.div"),
        ({"text": {"div": '<div xmlns="http://www.w3.org/1999/xhtml"><?php ?></div>'}}, "text.div"),
    ],
)
def test_what_xml_cannot_say_is_406_with_its_place(members: dict[str, Any], place: str) -> None:
    with pytest.raises(NotAcceptableError) as raised:
        inner(members)
    (issue,) = raised.value.issues
    assert issue.key == "HS-XML-UNWRITABLE"
    assert issue.expression == place


def test_indentation_leaves_narratives_and_values_alone() -> None:
    div = '<div xmlns="http://www.w3.org/1999/xhtml"><p>a <b>b</b> <i>c</i></p></div>'
    resource = {"resourceType": "Patient", "text": {"status": "generated", "div": div}, "name": [{"text": " a\n"}]}
    data = WRITER.write(resource, pretty=True)
    assert f"\n    {div}\n".encode() in data
    assert READER.read(data) == resource


TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffe\uffff", exclude_categories=["Cs"], min_codepoint=32)
    | st.sampled_from("\n\r\t<>&\"'"),
    min_size=1,
)


@given(st.lists(TEXT | st.none(), min_size=1), TEXT)
def test_any_text_comes_back_from_xml(given_names: list[str | None], text: str) -> None:
    twins = [None if name is not None else {"id": "x"} for name in given_names]
    name: dict[str, Any] = {"text": text}
    if any(one is not None for one in given_names):
        name["given"] = given_names
    if any(twins):
        name["_given"] = twins
    resource = {"resourceType": "Patient", "name": [name]}
    assert READER.read(WRITER.write(resource)) == resource


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_any_decimal_comes_back_from_xml(value: Any) -> None:
    data = codec.encode({"resourceType": "Observation", "valueQuantity": {"value": value}})
    again = codec.encode(READER.read(WRITER.write(codec.decode(data))))
    assert again == codec.encode(codec.decode(data))
