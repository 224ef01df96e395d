"""Real resources: what is found in the contents of R4's own examples, and what US Core says of generated patients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fhir_server.model.codec import Json, decode
from fhir_server.model.errors import Issue
from fhir_server.validation.profile.validator import ProfileValidator, is_readable
from tests.us_core import Package
from tests.validation.cost import settled
from tests.validation.profile.holding import STRUCTURE, validator_of
from tests.validation.test_examples import examples

#: Clinical examples of R4 whose contents are at fault, each looked at: file, the keys of its errors.
FAULTY: dict[str, set[str]] = {
    # `tbl`, `TAB`, `mcg`, `ea`, `drop`, `mEq`, `ml/hr` and `month` are no units of UCUM, which the system claims.
    **{
        name: {"HS-CONTENT-UNIT"}
        for name in ("Bundle-father", "Claim-760151", "Claim-760152", "VisionPrescription-33124")
    },
    **{f"MedicationDispense-meddisp03{n}": {"HS-CONTENT-UNIT"} for n in ("09", "13", "18", "24", "27", "28", "29")},
    **{
        f"MedicationRequest-medrx03{n}": {"HS-CONTENT-UNIT"}
        for n in ("04", "14", "19", "22", "25", "26", "28", "29", "34", "35")
    },
    # Addresses that end in another id than the resource has.
    "Bundle-10bb101f-a121-4264-a920-67be9cb82c74": {"HS-CONTENT-BUNDLE"},
    "Bundle-3a0707d3-549e-4467-b8b8-5a2ab3800efe": {"HS-CONTENT-BUNDLE"},
    "Bundle-lri-example": {"HS-CONTENT-BUNDLE"},
    # A hash in hexadecimal digits, of something else than the data that stands beside it.
    "DiagnosticReport-example-pgx": {"HS-CONTENT-ATTACHMENT"},
}

#: Warnings of US Core about generated patients: the element, and why it is told.
TOLD = {
    # Codes beyond extensible value sets: types of notes, of allergens, vital signs of children.
    *("DiagnosticReport.category", "AllergyIntolerance.code", "Observation.code"),
    # A language that R4's extensible list of common ones lacks.
    "Patient.communication.language",
    # A social security number is none of the types of identifiers that R4 lists.
    "Patient.identifier.type",
    # The guide's own code of its own slice, beside the value set of R4.
    "Provenance.agent:ProvenanceTransmitter.type",
}

#: So many of the smallest Bundles are looked at in each run; the slow test takes all.
SAMPLE = 12


def errors_in(issues: list[Issue]) -> list[Issue]:
    return [issue for issue in issues if issue.severity == "error"]


def test_the_contents_of_the_clinical_examples_are_right_but_for_the_faulty_ones(test_data: Path) -> None:
    validator, found, count = validator_of(), {}, 0
    for name, resource in examples(test_data, definitional=False):
        assert is_readable(STRUCTURE.issues_of(resource)), name
        count += 1
        if errors := errors_in(asyncio.run(validator.contents_of(resource))):
            found[name] = {issue.key for issue in errors}
    assert count > 700
    assert found == FAULTY


@pytest.fixture(scope="module")
def core(us_core: Callable[[str], Package]) -> ProfileValidator:
    """With the version of US Core that the generator knew."""
    return validator_of(*us_core("3.1.1").definitions)


def patients(folder: Path) -> Iterator[Path]:
    yield from sorted((folder / "synthea-blaze").glob("*.json"), key=lambda path: path.stat().st_size)


async def looked_at(validator: ProfileValidator, bundle: Json) -> tuple[int, list[Issue], set[str]]:
    """How many resources of a Bundle claim a profile, what is wrong with any, and what is only told."""
    claiming, errors, told = 0, [], set()
    for entry in bundle["entry"]:
        resource = settled(entry["resource"])
        claiming += bool(resource.get("meta", {}).get("profile"))
        issues = await validator.issues_of_claims(resource, at_most_s=3600)
        for issue in (*issues, *await validator.contents_of(resource, at_most_s=3600)):
            if issue.severity == "error":
                errors.append(issue)
            elif issue.severity == "warning":
                told.add(issue.rule[1] if issue.rule else issue.diagnostics)
    return claiming, errors, told


def test_generated_patients_conform_to_what_they_claim(core: ProfileValidator, test_data: Path) -> None:
    total, told = 0, set()
    for path in list(patients(test_data))[:SAMPLE]:
        claiming, errors, warnings = asyncio.run(looked_at(core, decode(path.read_bytes())))
        assert errors == [], path.name
        total += claiming
        told |= warnings
    assert total > 1000
    assert told <= TOLD


@pytest.mark.slow
def test_all_generated_patients_conform_to_what_they_claim(core: ProfileValidator, test_data: Path) -> None:
    total, told = 0, set()
    for path in patients(test_data):
        claiming, errors, warnings = asyncio.run(looked_at(core, decode(path.read_bytes())))
        assert errors == [], path.name
        total += claiming
        told |= warnings
    assert total > 50_000
    assert told == TOLD
