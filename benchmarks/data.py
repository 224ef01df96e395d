"""The data of a benchmark: where the patients come from, and resources made to measure."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec

Json = dict[str, Any]
ARCHIVE = "synthea-120-patients.tar.xz"
#: Beside the checkout lies a folder shared by several checkouts; the variable names another one.
DEFAULT_FOLDER = Path(os.environ.get("HEALTHSPHERE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
GENERATED_PATIENTS = 120


def patients_folder(data: Path, scratch: Path) -> tuple[Path, str]:
    """A folder of Bundles to load, and what it is called in the report.

    `data` is a folder with the Synthea archive, or with Bundles; when it has neither, patients are generated.
    """
    archive = data / ARCHIVE
    if archive.is_file():
        with tarfile.open(archive) as tar:
            tar.extractall(scratch / "patients", filter="data")
        return scratch / "patients", "120 Synthea patients"
    if data.is_dir() and any(data.glob("*.json")):
        return data, f"the Bundles of {data.name}"
    from carebundle import generate_cohort, to_json  # noqa: PLC0415  (heavy: only when it is used)

    folder = scratch / "patients"
    folder.mkdir()
    cohort = generate_cohort(count=GENERATED_PATIENTS, seed=42, sex="mixed", age_range=(18, 90))
    for number, bundle in enumerate(cohort):
        (folder / f"{number:04}.json").write_text(to_json(bundle), "utf-8")
    return folder, f"{GENERATED_PATIENTS} carebundle patients"


_CODES = (
    ("8302-2", "Body Height", "cm"),
    ("29463-7", "Body Weight", "kg"),
    ("8867-4", "Heart rate", "/min"),
    ("9279-1", "Respiratory rate", "/min"),
    ("2339-0", "Glucose", "mg/dL"),
)


def observation(number: int, patient: str) -> Json:
    """A vital sign of about 1.1 KB; `number` makes it differ from others."""
    code, display, unit = _CODES[number % len(_CODES)]
    day = f"20{10 + number % 14:02}-{1 + number % 12:02}-{1 + number % 28:02}"
    return {
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/vitalsigns"]},
        "identifier": [{"system": "https://bench.example.org/observation", "value": f"o-{number}"}],
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                        "display": "Vital Signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": display},
        "subject": {"reference": patient},
        "effectiveDateTime": f"{day}T{number % 24:02}:15:30+01:00",
        "issued": f"{day}T{number % 24:02}:20:30.125+01:00",
        "valueQuantity": {
            "value": 50 + number % 100,
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
        "interpretation": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
                        "code": "N",
                        "display": "Normal",
                    }
                ]
            }
        ],
        "note": [{"text": "Measured sitting, after five minutes of rest, with the device of the practice."}],
    }


def patient(number: int) -> Json:
    """A patient whose identifier holds `number`."""
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "https://bench.example.org/patient", "value": f"p-{number}"}],
        "active": True,
        "name": [{"use": "official", "family": f"Family{number}", "given": ["Given", f"Middle{number % 97}"]}],
        "telecom": [{"system": "phone", "value": f"+49 30 {number:07}", "use": "home"}],
        "gender": ("female", "male")[number % 2],
        "birthDate": f"{1930 + number % 90}-{1 + number % 12:02}-{1 + number % 28:02}",
        "address": [{"line": [f"{number} Main Street"], "city": "Boston", "state": "MA", "postalCode": "02138"}],
    }


def transaction(number: int, size: int) -> bytes:
    """A transaction Bundle of a patient and `size - 1` observations that refer to it."""
    full_url = f"urn:uuid:00000000-0000-4000-8000-{number:012}"
    entries: list[Json] = [
        {"fullUrl": full_url, "resource": patient(number), "request": {"method": "POST", "url": "Patient"}}
    ]
    for offset in range(size - 1):
        resource = observation(number * size + offset, full_url)
        entries.append({"resource": resource, "request": {"method": "POST", "url": "Observation"}})
    return msgspec.json.encode({"resourceType": "Bundle", "type": "transaction", "entry": entries})


def batch_of_puts(resources: list[tuple[str, Json]]) -> bytes:
    """A batch that stores resources under ids of our choice."""
    entries = [
        {"resource": {**body, "id": name}, "request": {"method": "PUT", "url": f"{body['resourceType']}/{name}"}}
        for name, body in resources
    ]
    return msgspec.json.encode({"resourceType": "Bundle", "type": "batch", "entry": entries})
