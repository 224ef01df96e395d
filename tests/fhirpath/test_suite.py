"""The official FHIRPath suite for R4.

Spec: https://github.com/FHIR/fhir-test-cases
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fhirpath.known_failures import KNOWN_FAILURES
from tests.fhirpath.suite import Case, cases_of, verdict


@pytest.fixture(scope="module")
def cases(test_data: Path) -> list[Case]:
    return cases_of(test_data / "fhir-test-cases-r4" / "fhirpath" / "tests-fhir-r4.xml")


@pytest.fixture(scope="module")
def failures(cases: list[Case], test_data: Path) -> dict[str, str]:
    """What failed, by the key of the test."""
    verdicts = {case.key: verdict(case, test_data / "fhir-test-cases-r4") for case in cases}
    return {key: found for key, found in verdicts.items() if found is not None}


def test_every_test_of_the_suite_passes_but_for_those_that_are_explained(failures: dict[str, str]) -> None:
    unexplained = {key: found for key, found in failures.items() if key not in KNOWN_FAILURES}
    assert unexplained == {}


def test_each_explained_failure_is_still_one(cases: list[Case], failures: dict[str, str]) -> None:
    assert set(KNOWN_FAILURES) - {case.key for case in cases} == set()
    assert set(KNOWN_FAILURES) - set(failures) == set()


def test_the_suite_is_whole_and_at_least_98_of_100_pass(cases: list[Case], failures: dict[str, str]) -> None:
    assert len(cases) == 935
    assert len(failures) <= len(cases) * 0.02
