"""What the benchmark of validation measures: the same resources by both, and a row for each type in the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import validation
from benchmarks.data import Json
from benchmarks.report import markdown
from benchmarks.validation import Validated, measured, resources
from fhir_server.model.codec import encode


def bundle(*found: Json) -> Json:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": resource} for resource in found]}


def test_conditional_references_are_resolved_and_each_type_is_kept() -> None:
    claim = {"resourceType": "Claim", "provider": {"reference": "Organization?identifier=x|1"}}
    found = resources(iter([bundle({"resourceType": "Patient"}, claim), bundle({"resourceType": "Patient"})]))
    assert found["Claim"] == [{"resourceType": "Claim", "provider": {"reference": "Organization/1"}}]
    assert len(found["Patient"]) == 2


def test_both_validate_the_same_resources_and_wrong_ones_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "ROUNDS", 1)
    monkeypatch.setattr(validation, "DEFAULT_FOLDER", tmp_path)  # no package: profiles are not looked at
    right = {"resourceType": "Patient", "name": [{"family": "Shaw"}], "birthDate": "1987-02-20"}
    no_code = {**right, "gender": "no such code"}
    no_date = {**right, "birthDate": "yesterday"}
    (tmp_path / "a.json").write_bytes(encode(bundle(right, no_code, no_date)))
    (row,) = measured(tmp_path)
    assert (row.type, row.count, row.profiles_us) == ("Patient", 3, None)
    assert (row.wrong, row.refused) == (2, 1)  # it does not look at codes


def test_the_report_has_a_row_for_each_type() -> None:
    rows = [
        Validated("Patient", 100, 100.0, 400.4, 650.0, 0, 0),
        Validated("Claim", 100, 50.0, None, 300.0, 1, 2),
    ]
    text = markdown([], [], None, command="x", concurrency=8, mongodb="6.0.5", busy=0.1, validated=rows)
    assert "| Patient | 100 | 100 | 400 | 650 | 6.5 | 0 | 0 |" in text
    assert "| Claim | 100 | 50 | (claims none) | 300 | 6.0 | 1 | 2 |" in text
