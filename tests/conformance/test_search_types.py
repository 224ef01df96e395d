"""Search parameters whose elements have unusual types or expressions: choices, timings, money, canonicals, composites.

Spec: https://hl7.org/fhir/R4/searchparameter-registry.html, https://hl7.org/fhir/R4/search.html
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.stored import stored

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
UCUM = "http://unitsofmeasure.org"


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    resources: list[Json] = json.loads((Path(__file__).parent / "search_types_data.json").read_bytes())
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    return server


def found(client: httpx.Client, query: str) -> str:
    resource_type, _, criteria = query.partition("?")
    encoded = "&".join(
        f"{name}={quote(value, safe='')}" for name, _, value in (part.partition("=") for part in criteria.split("&"))
    )
    answer = client.get(f"{resource_type}?{encoded}&_count=500", headers={"Prefer": "handling=strict"})
    assert answer.status_code == 200, answer.text
    return " ".join(sorted(entry["resource"]["id"] for entry in stored(answer.json())))


CASES = {
    "Patient?name=dr": "p1",
    "Patient?name=mba": "p1",
    "Patient?family=van der berg": "p1",
    "Patient?family:exact=Van  der   Berg": "p1",
    "Patient?address=mitte": "p1",
    "Patient?address=somewhere": "p1",
    "Patient?address-state=be": "p1",
    "Patient?address-use=home": "p1",
    "Patient?link=p2": "p1",
    "Patient?link=Patient/p2": "p1",
    "Patient?organization:missing=false": "p2",
    "Patient?_id:not=p1": "p2",
    "Encounter?class=AMB": "e1",
    "Encounter?class=http://terminology.hl7.org/CodeSystem/v3-ActCode|AMB": "e1",
    f"Encounter?length=1|{UCUM}|h": "e1",
    f"Encounter?length=gt59|{UCUM}|min": "e1",
    "Encounter?date=2020-01-01": "e1",
    "Encounter?date=ge2020-01-01T10:30:00Z&date=le2020-01-01T10:30:00Z": "e1",
    "ServiceRequest?occurrence=2021": "s1 s3",
    "ServiceRequest?occurrence=gt2021-04&occurrence=lt2021-06": "s1",
    "ServiceRequest?occurrence=2022-01": "s2",
    "ServiceRequest?occurrence=sa2021-12": "s2",
    "Invoice?totalgross=12.5": "i1 i2",
    "Invoice?totalgross=12.50||EUR": "i1",
    "Invoice?totalgross=gt12|urn:iso:std:iso:4217|USD": "i2",
    "DocumentReference?relatesto=DocumentReference/d0": "d1",
    "DocumentReference?relatesto=d0": "d1",
    "DocumentReference?relation=replaces": "d1",
    # R4 names the components crosswise; "combination of relation and relatesTo" is the order that its prose gives.
    "DocumentReference?relationship=replaces$DocumentReference/d0": "d1",
    "DocumentReference?relationship=appends$DocumentReference/d0": "",
    "DocumentReference?contenttype=text/plain": "d1",
    "DocumentReference?location=http://x/doc": "d1",
    "Observation?value-date=2020-05": "o1 o2",
    "Observation?value-date=2020-05-05": "o1",
    "Observation?code-value-date=http://codes|t$2020-05-05": "o1",
    "Observation?value-string=blood": "o3",
    "Observation?subject=Group/g1": "o4",
    "Observation?subject:Group=g1": "o4",
    "Observation?patient=p1": "o1",
    "Observation?patient:missing=true": "o2 o3 o4",
    "Observation?data-absent-reason=unknown": "o4",
    "Observation?has-member=Observation/o1": "o4",
    "Observation?has-member=o1": "o4",
    "Observation?code:not=t": "o3 o4",
    "Group?value=true": "g1",
    "Group?value=http://codes|f": "g1",
    "Group?characteristic-value=smoker$true": "g1",
    "Group?characteristic-value=smoker$f": "",
    "Group?exclude=true": "g1",
    "StructureDefinition?base=http://hl7.org/fhir/StructureDefinition/Patient": "sd",
    "StructureDefinition?abstract=false": "sd",
    "StructureDefinition?type=Patient": "sd",
    "StructureDefinition?context-type-quantity=age$gt2": "sd",
    "StructureDefinition?context=http://codes|x": "",
    "CodeSystem?code=outer": "cs",
    "CodeSystem?language=de": "cs",
    "Device?device-name=pump": "v1",
    "Device?device-name=infusor": "v1",
    "Goal?target-date=2020-12": "go",
    "Goal?start-date=2020": "go",
    "Procedure?date=2020-02": "pr",
    "Procedure?date=sa2020-01-31": "pr",
    "Composition?related-id=http://docs|7": "co",
    "Composition?title=a t": "co",
    "Composition?author=p1": "co",
    "Medication?ingredient-code=salt": "me",
    "Medication?ingredient=Substance/su": "me",
    "Medication?ingredient=su": "me",
    "Provenance?target=Patient/p1": "po",
    "Provenance?agent=p1": "po",
    "Questionnaire?subject-type=Group": "qu",
    "Questionnaire?title=arzte": "qu",
    "Questionnaire?title:contains=FRAG": "qu",
    "Questionnaire?effective=gt2025": "qu",
    "Questionnaire?effective=lt2020": "",
    "Questionnaire?url=http://example.org/Q": "qu",
    "MolecularSequence?window-start=ge100&window-end=lt251": "ms",
    "MolecularSequence?chromosome=1": "ms",
    "Appointment?date=2020-06-01": "ap",
    "Appointment?actor=Patient/p1": "ap",
    "Appointment?patient=p1": "ap",
    "Task?owner:identifier=http://npi|77": "ta",
    "Task?owner:missing=false": "ta",
    "Library?depends-on=http://example.org/Other": "li",
    "Library?depends-on=http://example.org/Other|1": "li",
}


@pytest.mark.parametrize("query", CASES)
def test_a_parameter_finds_what_its_definition_says(data: Any, query: str) -> None:
    assert found(data.client, query) == CASES[query]
