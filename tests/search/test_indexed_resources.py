"""What the indexer writes, a search finds: real resources through both halves.

Spec: https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.search.execute import page_of
from fhir_server.search.index import Indexer
from fhir_server.search.parse import parse
from profiles.registry import registry
from profiles.terminology import terminology

BASE = "https://our.example/fhir/"
UCUM = "http://unitsofmeasure.org"
PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {
        "profile": ["http://x.org/P|2"],
        "tag": [{"system": "urn:t", "code": "Red"}],
        "source": "http://x.org/src/1",
    },
    "active": True,
    "identifier": [
        {
            "system": "urn:mrn",
            "value": "ABC-1",
            "type": {"text": "Record", "coding": [{"system": "urn:ty", "code": "MR"}]},
        }
    ],
    "name": [{"family": "Müller", "given": ["Jörg", "Max"], "text": "Dr. Jörg Müller"}],
    "telecom": [{"system": "phone", "value": "+49 1"}],
    "gender": "male",
    "birthDate": "1970-05",
    "generalPractitioner": [{"identifier": {"system": "urn:gp", "value": "9"}}, {"reference": f"{BASE}Practitioner/7"}],
}
OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "status": "final",
    "code": {
        "coding": [{"system": "http://loinc.org", "code": "15074-8", "display": "Glucose in Blood"}],
        "text": "Zucker",
    },
    "subject": {"reference": "Patient/p1"},
    "effectivePeriod": {"start": "2020-01-01", "end": "2020-01-31"},
    "valueQuantity": {"value": Decimal("6.30"), "unit": "mmol/l", "system": UCUM, "code": "mmol/L"},
}


@pytest.fixture(scope="module")
def stored(library: Any) -> None:
    indexer = Indexer(registry(), terminology(), BASE)
    for resource in (PATIENT, OBSERVATION):
        row = {"_id": resource["id"], "v": 1, "t": 10**15, "r": json.dumps(resource, default=str).encode()}
        library.fill(str(resource["resourceType"]), [{**row, "x": indexer.entries_of(resource)}])


@pytest.mark.parametrize(
    ("resource_type", "name", "text", "matches"),
    [
        ("Patient", "identifier", "urn:mrn|ABC-1", True),
        ("Patient", "identifier", "urn:mrn|abc-1", True),
        ("Patient", "identifier", "abc-1", True),
        ("Patient", "identifier", "|ABC-1", False),
        ("Patient", "identifier", "urn:mrn|", True),
        ("Patient", "identifier:of-type", "urn:ty|MR|ABC-1", True),
        ("Patient", "identifier:text", "rec", True),
        ("Patient", "active", "true", True),
        ("Patient", "active", "false", False),
        ("Patient", "gender", "http://hl7.org/fhir/administrative-gender|male", True),
        ("Patient", "gender", "female,male", True),
        ("Patient", "gender:not", "female", True),
        ("Patient", "name", "muller", True),
        ("Patient", "name", "jör", True),
        ("Patient", "name", "ller", False),
        ("Patient", "name:contains", "LLER", True),
        ("Patient", "family:exact", "Müller", True),
        ("Patient", "family:exact", "Muller", False),
        ("Patient", "phone", "+49 1", True),
        ("Patient", "birthdate", "1970", True),
        ("Patient", "birthdate", "1970-05-01", False),
        ("Patient", "birthdate", "ne1970-05-01", True),
        ("Patient", "birthdate", "sa1970-04", True),
        ("Patient", "general-practitioner", "7", True),
        ("Patient", "general-practitioner:Practitioner", "7", True),
        ("Patient", "general-practitioner:Organization", "7", False),
        ("Patient", "general-practitioner:identifier", "urn:gp|9", True),
        ("Patient", "_profile", "http://x.org/P", True),
        ("Patient", "_profile", "http://x.org/P|2", True),
        ("Patient", "_profile", "http://x.org/P|3", False),
        ("Patient", "_tag", "urn:t|red", True),
        ("Patient", "_source", "http://x.org/src/1", True),
        ("Patient", "_source:below", "http://x.org/src", True),
        ("Patient", "_source:above", "http://x.org/src/1/2", True),
        ("Patient", "_id", "p1,p2", True),
        ("Patient", "_id", "P1", False),
        ("Patient", "_id:missing", "true", False),
        ("Patient", "deceased", "true", False),
        ("Patient", "death-date:missing", "true", True),
        ("Observation", "code", "http://loinc.org|15074-8", True),
        ("Observation", "code:text", "zuck", True),
        ("Observation", "code:text", "glucose", True),
        ("Observation", "patient", "p1", True),
        ("Observation", "patient", "Group/p1", False),
        ("Observation", "patient", "http://elsewhere.example/Patient/p1", False),
        ("Observation", "subject:Patient", f"{BASE}Patient/p1/_history/2", True),
        ("Observation", "date", "2020-01", True),
        ("Observation", "date", "2020-01-15", False),
        ("Observation", "date", "gt2020-01-15", True),
        ("Observation", "date", "lt2020-01-15", True),
        ("Observation", "date", "sa2020-01-15", False),
        ("Observation", "value-quantity", "6.3", True),
        ("Observation", "value-quantity", "6.300", True),
        ("Observation", "value-quantity", "6", True),
        ("Observation", "value-quantity", "6.4", False),
        ("Observation", "value-quantity", "6.3||mmol/l", True),
        ("Observation", "value-quantity", f"6300|{UCUM}|umol/L", True),
        ("Observation", "value-quantity", f"gt0.006|{UCUM}|mol/L", True),
        ("Observation", "value-quantity", f"gt0.007|{UCUM}|mol/L", False),
        ("Observation", "code-value-quantity", "15074-8$gt6", True),
        ("Observation", "code-value-quantity", "15074-8$gt7", False),
        ("Observation", "combo-code-value-quantity", f"http://loinc.org|15074-8$6.3|{UCUM}|mmol/L", True),
    ],
)
def test_an_indexed_resource_is_found(
    library: Any, stored: None, resource_type: str, name: str, text: str, matches: bool
) -> None:
    search = parse(resource_type, [(name, text)], registry(), strict=True, default_count=5, max_count=5, base_url=BASE)
    page = asyncio.run(page_of(library, search, terminology()))
    assert bool(page.rows) == matches
    assert page.total == len(page.rows)
