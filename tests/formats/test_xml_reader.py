"""XML in: what it becomes, and what is refused, with the line and the place.

Spec: https://hl7.org/fhir/R4/xml.html
"""

from __future__ import annotations

import time
from typing import Any

import pytest

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.model import codec
from fhir_server.model.errors import InvalidError, TooLargeError
from profiles.registry import registry

NAMESPACE = 'xmlns="http://hl7.org/fhir"'
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">'


@pytest.fixture(scope="module")
def reader() -> XmlReader:
    return XmlReader(registry())


def patient(inner: str, attributes: str = "") -> bytes:
    return f"<Patient {NAMESPACE} {attributes}>{inner}</Patient>".encode()


def narrative(div: str) -> bytes:
    return patient(f'<text><status value="generated"/>{div}</text>')


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("", {}),
        ('<id value="x"/><active value="true"/>', {"id": "x", "active": True}),
        ("<active value='false'><!-- why --></active><!-- not -->", {"active": False}),
        ('<multipleBirthInteger value="2"/>', {"multipleBirthInteger": 2}),
        ('<birthDate id="b" value="1980"/>', {"birthDate": "1980", "_birthDate": {"id": "b"}}),
        (
            '<birthDate><extension url="u"><valueCode value="x"/></extension></birthDate>',
            {"_birthDate": {"extension": [{"url": "u", "valueCode": "x"}]}},
        ),
        (
            '<extension url="u"><extension url="v"><valueDecimal value="1.10"/></extension></extension>',
            {"extension": [{"extension": [{"url": "v", "valueDecimal": codec.decimal_of("1.10")}], "url": "u"}]},
        ),
        (
            '<name id="n"><given value="a"/><given id="g"/><given value="c"/></name>',
            {"name": [{"id": "n", "given": ["a", None, "c"], "_given": [None, {"id": "g"}, None]}]},
        ),
        (
            '<extension url="u" id="i"><valueCode value="x"/></extension>',
            {"extension": [{"id": "i", "url": "u", "valueCode": "x"}]},
        ),
        ('<name><given id="g"/></name>', {"name": [{"_given": [{"id": "g"}]}]}),
        (
            '<contained><Organization><id value="o"/></Organization></contained>',
            {"contained": [{"resourceType": "Organization", "id": "o"}]},
        ),
        ('<name><text value="a&#10;b &amp; &#x1F600;"/></name>', {"name": [{"text": "a\nb & 😀"}]}),
    ],
)
def test_elements_become_the_members_of_json(reader: XmlReader, inner: str, expected: dict[str, Any]) -> None:
    found = reader.read(patient(inner))
    assert found == {"resourceType": "Patient", **expected}
    assert codec.encode(found) == codec.encode({"resourceType": "Patient", **expected})  # the order, too


@pytest.mark.parametrize(
    "text", ["1.10", "66.899999999999991", "1E3", "1e-3", "0.00000001", "100", "1" * 30, "-7.50", "0.0", "-0.0"]
)
def test_a_decimal_is_encoded_as_it_was_written(reader: XmlReader, text: str) -> None:
    xml = f'<Observation {NAMESPACE}><valueQuantity><value value="{text}"/></valueQuantity></Observation>'
    encoded = codec.encode(reader.read(xml.encode()))
    assert encoded == b'{"resourceType":"Observation","valueQuantity":{"value":%s}}' % text.encode()
    assert codec.decode(encoded) == reader.read(xml.encode())


def test_contents_that_repeat_their_parent_are_read_at_any_depth(reader: XmlReader) -> None:
    item = '<item><linkId value="1"/><item><linkId value="1.1"/><item><linkId value="1.1.1"/></item></item></item>'
    found = reader.read(f"<Questionnaire {NAMESPACE}>{item}</Questionnaire>".encode())
    assert found["item"][0]["item"][0]["item"] == [{"linkId": "1.1.1"}]


def test_a_mark_a_declaration_comments_and_a_schema_location_may_stand_there(reader: XmlReader) -> None:
    given = patient("", 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b"')
    head = b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-8"?>\n<!-- one -->\n'
    assert reader.read(head + given + b"<!-- two -->\n") == {"resourceType": "Patient"}


@pytest.mark.parametrize(
    ("div", "text"),
    [
        (f"{DIV}a <b>b</b> <i>c</i><br/></div>", f"{DIV}a <b>b</b> <i>c</i><br/></div>"),
        (f"{DIV}<!-- c -->1 &lt; 2 &amp; &#233;</div>", f"{DIV}<!-- c -->1 &lt; 2 &amp; é</div>"),
        (f"{DIV}<![CDATA[<b>]]></div>", f"{DIV}&lt;b&gt;</div>"),
        (
            '<h:div xmlns:h="http://www.w3.org/1999/xhtml" xml:lang="en"><h:p title="&quot;&#10;&lt;">a<h:br/></h:p>'
            "b</h:div>",
            f'{DIV[:-1]} xml:lang="en"><p title="&quot;&#10;&lt;">a<br/></p>b</div>',
        ),
        (f'{DIV}<svg xmlns="urn:svg"><g/></svg></div>', f'{DIV}<svg xmlns="urn:svg"><g/></svg></div>'),
    ],
)
def test_a_narrative_is_one_string_with_one_namespace(reader: XmlReader, div: str, text: str) -> None:
    given = narrative(div).replace(b"<Patient ", b'<Patient xmlns:unused="urn:x" ')
    assert reader.read(given)["text"]["div"] == text


@pytest.mark.parametrize(
    ("document", "key", "line", "place"),
    [
        (patient("\n<name><familly value='x'/></name>"), "ELEMENT", 2, "Patient.name[0].familly"),
        (patient("\n\n<active value='true' x='1'/>"), "ATTRIBUTE", 3, "Patient.active"),
        (patient("<name use='old'><family value='x'/></name>"), "ATTRIBUTE", 1, "Patient.name[0]"),
        (patient("", "id='x'"), "ATTRIBUTE", 1, "Patient"),
        (patient("<x:active xmlns:x='urn:x' value='true'/>"), "NAMESPACE", 1, "Patient.active"),
        (b"<Patient/>", "NAMESPACE", 1, "Patient"),
        (patient("<text><status value='generated'/><div>x</div></text>"), "ELEMENT", 1, "Patient.text.div"),
        (f"<Patiant {NAMESPACE}/>".encode(), "RESOURCE", 1, "Patiant"),
        (patient("<contained><Patient/><Patient/></contained>"), "RESOURCE", 1, "Patient.contained[0]"),
        (patient("<contained/>"), "RESOURCE", 1, "Patient.contained[0]"),
        (patient("<contained>x<Patient/></contained>"), "TEXT", 1, "Patient.contained[0]"),
        (patient("<name><family value='x'/>hello</name>"), "TEXT", 1, "Patient.name[0]"),
        (patient("<active value='true'>x</active>"), "TEXT", 1, "Patient.active"),
        (patient("<gender value='male'/>\n<active value='true'/>"), "ORDER", 2, "Patient.active"),
        (patient("<active value='true'/><active value='true'/>"), "ORDER", 1, "Patient.active"),
        (patient("<deceasedBoolean value='true'/><deceasedDateTime value='2020'/>"), "ORDER", 1, "Patient.deceased"),
        (patient("<active value='yes'/>"), "VALUE", 1, "Patient.active"),
        (patient("<multipleBirthInteger value='1.5'/>"), "VALUE", 1, "Patient.multipleBirth"),
        (patient("<multipleBirthInteger value='٣'/>"), "VALUE", 1, "Patient.multipleBirth"),
        (patient("<active/>"), "EMPTY", 1, "Patient.active"),
        (patient("<name/>"), "EMPTY", 1, "Patient.name[0]"),
        (patient("<?php x?>"), "INSTRUCTION", 1, None),
        (b"<?xml-stylesheet href='x'?>" + patient(""), "INSTRUCTION", 1, None),
        (narrative(f"{DIV}<?php x?></div>"), "NARRATIVE", 1, "Patient.text.div"),
        (narrative(f"{DIV}&nbsp;</div>"), "SYNTAX", 1, None),
        (patient("<active value='&e;'/>"), "SYNTAX", 1, None),
        (patient("")[:-3], "SYNTAX", 1, None),
        (patient("") + patient(""), "SYNTAX", 1, None),
        (b'{"resourceType":"Patient"}', "SYNTAX", 1, None),
        (patient("").decode().encode("utf-16"), "SYNTAX", 1, None),
        (patient("<language value='\u00e9'/>").decode().encode("latin-1"), "SYNTAX", 1, None),
    ],
)
def test_what_fhir_does_not_define_is_refused_with_line_and_place(
    reader: XmlReader, document: bytes, key: str, line: int, place: str | None
) -> None:
    with pytest.raises(InvalidError) as raised:
        reader.read(document)
    (issue,) = raised.value.issues
    assert issue.key == f"HS-XML-{key}"
    assert issue.expression == place
    assert issue.diagnostics.startswith(f"Line {line}")


def test_the_place_of_a_fault_goes_through_the_resources_of_a_bundle(reader: XmlReader) -> None:
    entry = (
        "<entry><resource><Patient><name><given value='a'/><given value='b' x=''/></name></Patient></resource></entry>"
    )
    with pytest.raises(InvalidError) as raised:
        reader.read(f"<Bundle {NAMESPACE}><entry><fullUrl value='u'/></entry>{entry}</Bundle>".encode())
    assert raised.value.issues[0].expression == "Bundle.entry[1].resource.name[0].given[1]"


@pytest.mark.parametrize("body", [b"", b" \n", b"<!-- nothing -->"])
def test_nothing_is_no_document(reader: XmlReader, body: bytes) -> None:
    with pytest.raises(InvalidError, match="empty"):
        reader.read(body)


@pytest.mark.parametrize(
    "document_type",
    [
        b'<!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;">]>',
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd">',
        b"<!DOCTYPE x>",
    ],
)
@pytest.mark.parametrize(
    "before", [b"", b"<?xml version='1.0'?>\n", b"<!--> <x/> -->", b"<!-- - -->\n<!-- -->", b"\xef\xbb\xbf "]
)
def test_a_document_type_never_reaches_the_parser(reader: XmlReader, before: bytes, document_type: bytes) -> None:
    document = before + document_type + patient("<name><family value='&c;&a;'/></name>")
    with pytest.raises(InvalidError) as raised:
        reader.read(document)
    assert raised.value.issues[0].key == "HS-XML-DOCTYPE"


def test_a_document_type_may_be_written_about(reader: XmlReader) -> None:
    document = b"<!-- <!DOCTYPE x> -->" + patient("<name><text value='&lt;!DOCTYPE x>'/></name>")
    assert reader.read(document)["name"][0]["text"] == "<!DOCTYPE x>"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "utf-16", "windows-1252"])
def test_another_encoding_is_refused(reader: XmlReader, encoding: str) -> None:
    with pytest.raises(InvalidError, match=encoding):
        reader.read(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + patient(""))


@pytest.mark.parametrize(
    "document",
    [
        patient('<extension url="a">' * 150 + "</extension>" * 150),
        patient('<extension url="a">' * 100_000),
        narrative('<h:div xmlns:h="http://www.w3.org/1999/xhtml">' + "<h:b>" * 1500 + "</h:b>" * 1500 + "</h:div>"),
    ],
)
def test_what_is_nested_beyond_reason_is_refused(reader: XmlReader, document: bytes) -> None:
    with pytest.raises(InvalidError) as raised:
        reader.read(document)
    assert raised.value.issues[0].key in ("HS-XML-DEPTH", "HS-XML-SYNTAX")


def test_more_bytes_than_are_made_into_a_tree_are_refused() -> None:
    with pytest.raises(TooLargeError, match="1,000"):
        XmlReader(registry(), max_bytes=1000).read(patient(" " * 1000))


def test_the_time_grows_with_the_length_and_no_faster(reader: XmlReader) -> None:
    entry = (
        "<entry><fullUrl value='urn:uuid:1'/><resource><Observation><status value='final'/>"
        "<code><text value='x'/></code></Observation></resource></entry>"
    )

    def seconds(entries: int) -> float:
        document = f"<Bundle {NAMESPACE}>{entry * entries}</Bundle>".encode()
        best = 9.0
        for _ in range(3):
            started = time.process_time()
            assert len(reader.read(document)["entry"]) == entries
            best = min(best, time.process_time() - started)
        return best

    seconds(10)
    assert seconds(8000) < 16 * seconds(1000)
