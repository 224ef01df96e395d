"""The second opinion: differences are told by their kinds, and those of no kind count. Java is not needed for that."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oracle.__main__ import told
from tests.oracle.cases import Case, cases, definitions
from tests.oracle.judged import KINDS, judgement_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "validation-oracle.md"

UNIT = "Observation.value.code: HS-CONTENT-UNIT Found the code 'ea'; expected a unit of UCUM"


def case(*errors: str) -> Case:
    return Case("x", "an example", b"{}", errors)


def test_each_kind_of_difference_is_explained_and_no_other() -> None:
    explained = re.findall(r"^\| ([^|]+) \| (?:error|valid) \| (?:error|valid) \|", DOCUMENT.read_text("utf-8"), re.M)
    assert [name.strip() for name in explained] == [kind.name for kind in KINDS]


def test_a_difference_is_of_the_kind_that_all_its_errors_are_of() -> None:
    assert judgement_of(case(UNIT), ()) == "unit that is none of UCUM"
    assert judgement_of(case(UNIT, "Observation.status: HS-VAL-REQUIRED Found no status"), ()) is None
    held = "Patient.meta.tag[0]: Unknown Code System http://hl7.org/fhir/us/core/CodeSystem/x"
    assert judgement_of(case(), (held,)) == "code system that is not held"
    assert judgement_of(case(), (held, "Patient.name: minimum required = 1")) is None


def test_what_nobody_has_judged_or_answered_makes_it_fail(capsys: pytest.CaptureFixture[str]) -> None:
    agreed = {"a": case(), "b": case("Patient.name: HS-VAL-REQUIRED Found no name")}
    assert told(agreed, {"a": (), "b": ("Patient.name: minimum required = 1",)}) == 0
    assert told({"a": case(UNIT)}, {"a": ()}) == 0
    assert "    1  unit that is none of UCUM" in capsys.readouterr().out
    assert told({"a": case()}, {"a": ("Patient.name: minimum required = 1",)}) == 1
    assert "theirs: ('Patient.name: minimum required = 1',)" in capsys.readouterr().out
    assert told({"a": case()}, {}) == 1


def test_examples_and_faults_are_asked_about_and_the_valid_ones_are_valid() -> None:
    found = {one.name: one for one in cases(None)}
    kinds = {name.partition(".")[0] for name in found}
    assert kinds == {"good", "bad", "whole", "fault"}
    assert len(found) > 600
    assert [name for name, one in found.items() if one.errors and name.startswith(("good.", "whole."))] == []
    assert [name for name, one in found.items() if not one.errors and name.startswith("bad.")] == []


def test_our_definitions_go_along_with_their_snapshots() -> None:
    files = dict(definitions())
    assert b'"snapshot":{"element":[{' in files["StructureDefinition-healthsphere-patient.json"]
    assert b'"sliceName":"zone"' in files["StructureDefinition-availability.json"]
    assert "CodeSystem-dispensing.json" in files
