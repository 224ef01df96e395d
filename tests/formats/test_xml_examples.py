"""The specification's own examples through XML and back: equal in value, in the digits of decimals.

Spec: https://hl7.org/fhir/R4/xml.html, https://hl7.org/fhir/R4/datatypes.html#decimal
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.formats.xml_writer import XmlWriter
from fhir_server.model import codec
from profiles.registry import registry
from tests.official_examples import DEFINITIONAL

CLINICAL = 719
ALL = 5298

#: XML files of the test cases whose JSON twin has the same content.
TWINS = (
    ("examples/condition-example.xml", "examples/condition-example.json"),
    ("examples/organization-1.xml", "examples/organization-1.json"),
    ("examples/patient-example.xml", "examples/patient-example.json"),
)
#: XML files of the test cases whose JSON stands among the examples of the specification.
EXAMPLES = (
    ("examples/list-example-long.xml", "List-long.json"),
    ("examples/medicationdispenseexample8.xml", "MedicationDispense-meddisp008.json"),
    ("observation-example-20minute-apgar-score.xml", "Observation-20minute-apgar-score.json"),
    ("patient-example-xds.xml", "Patient-xds.json"),
    ("patient-glossy-example.xml", "Patient-glossy.json"),
    ("questionnaire-example.xml", "Questionnaire-3141.json"),
)


@pytest.fixture(scope="module")
def reader() -> XmlReader:
    return XmlReader(registry())


@pytest.fixture(scope="module")
def writer() -> XmlWriter:
    return XmlWriter(registry())


def comparable(value: Any, name: str = "") -> Any:
    """A value whose equality means the same digits, the same types, and narratives that are the same XML."""
    if isinstance(value, dict):
        return {key: comparable(child, key) for key, child in value.items()}
    if isinstance(value, list):
        return [comparable(child, name) for child in value]
    if isinstance(value, Decimal):
        return ("decimal", str(value))
    if name == "div" and isinstance(value, str):
        return etree.tostring(etree.fromstring(value), method="c14n")
    return (type(value).__name__, value)


def names(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if path.name != "package.json")


def differences(paths: list[Path], reader: XmlReader, writer: XmlWriter) -> list[str]:
    found = []
    for path in paths:
        given = codec.decode(path.read_bytes())
        if comparable(reader.read(writer.write(given))) != comparable(given):
            found.append(path.name)
    return found


def test_every_clinical_example_is_the_same_after_xml(test_data: Path, reader: XmlReader, writer: XmlWriter) -> None:
    paths = [p for p in names(test_data / "r4-examples") if type_of(p) not in DEFINITIONAL]
    assert len(paths) >= CLINICAL
    assert differences(paths, reader, writer) == []


@pytest.mark.slow
def test_every_example_is_the_same_after_xml(test_data: Path, reader: XmlReader, writer: XmlWriter) -> None:
    paths = names(test_data / "r4-examples")
    assert len(paths) == ALL
    assert differences(paths, reader, writer) == []


def type_of(path: Path) -> str:
    """The resource type; the names of some files do not tell it."""
    return str(codec.decode(path.read_bytes())["resourceType"])


def test_indentation_changes_nothing_of_an_example(test_data: Path, reader: XmlReader, writer: XmlWriter) -> None:
    for path in names(test_data / "r4-examples")[:400:7]:
        given = codec.decode(path.read_bytes())
        xml = writer.write(given, pretty=True)
        assert xml.count(b"\n") > 3
        assert comparable(reader.read(xml)) == comparable(given)


@pytest.mark.parametrize(("xml", "json"), TWINS)
def test_an_xml_file_is_its_json_twin(test_data: Path, reader: XmlReader, xml: str, json: str) -> None:
    folder = test_data / "fhir-test-cases-r4"
    expected = codec.decode((folder / json).read_bytes())
    assert comparable(reader.read((folder / xml).read_bytes())) == comparable(expected)


@pytest.mark.parametrize(("xml", "json"), EXAMPLES)
def test_an_xml_file_is_the_json_of_the_specification(test_data: Path, reader: XmlReader, xml: str, json: str) -> None:
    expected = codec.decode((test_data / "r4-examples" / json).read_bytes())
    found = reader.read((test_data / "fhir-test-cases-r4" / xml).read_bytes())
    assert comparable(found) == comparable(expected)


def test_decimals_keep_what_xml_can_spell_and_json_does_not_shorten(test_data: Path, reader: XmlReader) -> None:
    """The two files spell some numbers in different ways (1.0e0 and 1.0), none of them in other digits."""
    folder = test_data / "fhir-test-cases-r4" / "examples"
    found = reader.read((folder / "observation-decimal.xml").read_bytes())
    expected = codec.decode((folder / "observation-decimal.json").read_bytes())
    values = [
        [Decimal(str(part["valueQuantity"]["value"])).as_tuple() for part in document["component"]]
        for document in (found, expected)
    ]
    assert values[0] == values[1]
    assert "1.0e0" in {str(part["valueQuantity"]["value"]) for part in found["component"]}
