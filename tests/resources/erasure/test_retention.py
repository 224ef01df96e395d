"""Retention: the table, and how it judges."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from profiles.registry import registry
from resources.erasure.retention import BUILT_IN, Retention, RetentionError, latest_us, load

PATIENT = "Patient/ann"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


def us(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6)


def kept(resource: dict[str, Any], last: datetime = NOW) -> str | None:
    found = Retention(load(BUILT_IN, registry())).kept(resource, PATIENT, us(last), us(NOW))
    return None if found is None else found.until


def test_a_record_of_treatment_is_kept_ten_years_from_its_last_event() -> None:
    encounter = {"resourceType": "Encounter", "period": {"start": "2020-01-01", "end": "2020-01-02"}}
    assert kept(encounter) == "2030-01-03"
    assert kept({"resourceType": "Encounter", "period": {"start": "2016-11-20"}}) is None
    assert kept({"resourceType": "Encounter", "period": {"start": "2016-11-30"}}) == "2026-12-01"
    assert kept({"resourceType": "Encounter"}) == "2036-11-25"


def test_what_lies_ahead_has_not_happened_yet_and_a_birthday_is_no_event() -> None:
    ahead = {"resourceType": "MedicationRequest", "authoredOn": "2020-02-29",
             "dispenseRequest": {"validityPeriod": {"end": "2099-01-01"}}}  # fmt: skip
    assert kept(ahead) == "2036-11-25"
    assert latest_us({"resourceType": "Patient", "birthDate": "1980-01-01", "code": "2345-7", "value": "2025"}) is None


def test_what_the_patient_has_written_is_not_kept() -> None:
    observation = {"resourceType": "Observation", "effectiveDateTime": "2026-01-01"}
    assert kept({**observation, "performer": [{"reference": PATIENT}]}) is None
    assert kept({**observation, "performer": [{"reference": PATIENT}, {"reference": "Practitioner/1"}]}) is not None
    assert kept({"resourceType": "Communication", "sent": "2026-01-01"}) is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[rule]]\ntypes = ['Encounter']\nyears = 0\nreason = 'x'", "at least 1"),
        ("[[rule]]\ntypes = ['Encountre']\nyears = 1\nreason = 'x'", "Encountre"),
        ("[[rule]]\ntypes = ['Encounter']\nyears = 1\nreasons = 'x'", "reasons"),
        ("[rules]\n", "rules"),
        ("[[rule", "retention"),
    ],
)
def test_a_table_with_a_word_that_means_nothing_is_refused(tmp_path: Path, text: str, word: str) -> None:
    path = tmp_path / "retention.toml"
    path.write_text(text)
    with pytest.raises(RetentionError, match=word):
        load(path, registry())


def test_the_longest_of_several_rules_counts(tmp_path: Path) -> None:
    path = tmp_path / "retention.toml"
    row = "[[rule]]\ntypes = ['Encounter']\nyears = {}\nreason = 'x'\n"
    path.write_text(row.format(3) + row.format(30) + row.format(5))
    found = Retention(load(path, registry())).kept(
        {"resourceType": "Encounter", "period": {"start": "2020-01-01"}}, PATIENT, 0, us(NOW)
    )
    assert found is not None
    assert found.until == "2050-01-02"
