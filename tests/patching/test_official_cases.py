"""The patch cases of the HL7 test suite, all of them: JSON Patch, FHIRPath Patch and XML Patch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from fhir_server.formats.xml_reader import XmlReader
from fhir_server.model.errors import FhirError
from fhir_server.patching.document import equal, without_empties
from fhir_server.patching.fhirpath_patch import fhirpath_patch_of
from fhir_server.patching.json_patch import json_patch_of, patched
from fhir_server.patching.xml_patch import patched_document
from profiles.registry import registry


def cases(path: Path) -> Iterator[Any]:
    return etree.parse(path, etree.XMLParser(remove_comments=False)).getroot().iterchildren("case")


# --- JSON Patch -----------------------------------------------------------------------------------------------------


def test_every_json_patch_case_passes(test_data: Path) -> None:
    rows = json.loads(
        (test_data / "fhir-test-cases-r4" / "patch" / "json-patch-tests.json").read_text("utf-8"), parse_float=Decimal
    )
    assert len(rows) == 16
    for row in rows:
        if "error" in row:
            with pytest.raises(FhirError):
                patched(row["doc"], json_patch_of(row["patch"]).operations)
        else:
            result = patched(row["doc"], json_patch_of(row["patch"]).operations)
            assert equal(result, row["expected"]), row["comment"]


# --- FHIRPath Patch -------------------------------------------------------------------------------------------------


def resource_of(case: Any, name: str) -> dict[str, Any]:
    element = next(case.find(name).iterchildren(tag=etree.Element))
    if len(element) == 0:
        return {"resourceType": etree.QName(element).localname}
    return XmlReader(registry()).read(etree.tostring(element, with_tail=False))


def with_plain_narrative(resource: dict[str, Any]) -> dict[str, Any]:
    """White space and comments of the narrative do not count."""
    if "text" in resource:
        resource["text"]["div"] = re.sub(r"\s+", " ", resource["text"]["div"])
    return resource


def test_every_fhirpath_patch_case_passes(test_data: Path) -> None:
    count = 0
    for case in cases(test_data / "fhir-test-cases-r4" / "patch" / "fhir-patch-tests.xml"):
        before = resource_of(case, "input")
        if case.find("error") is not None:
            with pytest.raises(FhirError):
                fhirpath_patch_of(resource_of(case, "diff"), before["resourceType"], registry()).apply(before)
        else:
            patch = fhirpath_patch_of(resource_of(case, "diff"), before["resourceType"], registry())
            after = with_plain_narrative(patch.apply(before))
            assert equal(after, with_plain_narrative(resource_of(case, "output"))), case.get("name")
            assert equal(before, resource_of(case, "input")), "the input was changed"
        count += 1
    assert count == 33


# --- XML Patch ------------------------------------------------------------------------------------------------------


def part(case: Any, name: str) -> bytes:
    """The document below a part of a case, or nothing."""
    element = next(case.find(name).iterchildren(tag=etree.Element), None)
    return b"" if element is None else etree.tostring(element, with_tail=False)


def normal(data: bytes) -> str:
    """Canonical XML without the white space that only indents."""
    root = etree.fromstring(data)
    for node in root.iter():
        if node.tag is not etree.Comment:
            node.text = (node.text or "").strip() or None
        node.tail = (node.tail or "").strip() or None
    return etree.tostring(root, method="c14n", exclusive=False, with_comments=True).decode()


def test_every_xml_patch_case_passes(test_data: Path) -> None:
    count = 0
    for case in cases(test_data / "fhir-test-cases-r4" / "patch" / "xml-patch-tests.xml"):
        target = part(case, "target")
        patch = etree.tostring(case.find("{http://hl7.org/fhir}patch"), with_tail=False)
        if case.find("error") is not None:
            with pytest.raises(FhirError):
                patched_document(target, patch)
        else:
            result = patched_document(target, patch)
            assert normal(result) == normal(part(case, "patched")), case.get("name")
        count += 1
    assert count == 29


def test_nothing_empty_is_left_behind() -> None:
    assert without_empties({"a": [], "b": {"c": [{}]}, "_d": [None, {}], "e": [None, 1], "_e": [{"id": "x"}, {}]}) == {
        "e": [None, 1],
        "_e": [{"id": "x"}, None],
    }
