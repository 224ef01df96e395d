"""An EHR sends a visit to a FHIR server, corrects a value, and reads back what it sent.

It shows the habits that keep an exchange safe when networks fail and messages arrive twice:

- everything that belongs together goes as one transaction Bundle: all of it is stored, or none of it
- records are named by *identifiers of the EHR*, not by ids of the server: the same message sent again changes nothing
- entries refer to each other by `urn:uuid`, and to records already there by conditional references
  (`Practitioner?identifier=…`)
- decimals are written and read with their digits: 71.50 kg does not become 71.5 on the way
- a correction says which version it corrects (`If-Match`), so that it never overwrites somebody else's
- what was stored is asked for by search and by history, page after page, by the links that the server gives

Run it against a server (by default the one that `make run` starts):

    .venv/bin/python -m examples.ehr_exchange --base-url http://127.0.0.1:8000/fhir

Spec: https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/http.html#ccreate
"""

from __future__ import annotations

import argparse
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import httpx
import msgspec

Json = dict[str, Any]

FHIR_JSON = "application/fhir+json"

#: The systems that this EHR's own numbers belong to; a real one would use a URL of its own organization.
PATIENT_NUMBERS = "urn:example:clinic:patient"
STAFF_NUMBERS = "urn:example:clinic:staff"
VISIT_NUMBERS = "urn:example:clinic:visit"
RESULT_NUMBERS = "urn:example:clinic:result"

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

#: JSON with decimals as they are written; Python's own `json` would make floats of them, which lose digits.
as_json = msgspec.json.Encoder(decimal_format="number").encode
from_json = msgspec.json.Decoder(float_hook=Decimal).decode


@dataclass(frozen=True, slots=True)
class Result:
    """One measured value of a visit; `number` is the EHR's own and never used twice."""

    number: str
    loinc: str
    name: str
    value: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit as the EHR knows it."""

    number: str
    patient_number: str
    family: str
    given: str
    birth_date: str
    staff_number: str
    start: str
    results: tuple[Result, ...]


VISIT = Visit(
    number="V-2026-0815",
    patient_number="P-1001",
    family="Lindqvist",
    given="Maja",
    birth_date="1974-05-19",
    staff_number="S-7",
    start="2026-11-20T09:15:00+01:00",
    results=(
        Result("R-1", "29463-7", "Body weight", Decimal("71.50"), "kg"),
        Result("R-2", "8867-4", "Heart rate", Decimal("64"), "/min"),
    ),
)


def identifier(system: str, value: str) -> Json:
    return {"system": system, "value": value}


def staff_bundle(staff_number: str) -> Json:
    """The practitioner whom visits refer to: created once, whoever sends it first."""
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": {
                    "resourceType": "Practitioner",
                    "identifier": [identifier(STAFF_NUMBERS, staff_number)],
                    "name": [{"family": "Eriksson", "given": ["Nils"], "prefix": ["Dr"]}],
                },
                "request": {
                    "method": "POST",
                    "url": "Practitioner",
                    # "Create this, unless there is one with that number": no search beforehand, no race.
                    "ifNoneExist": f"identifier={STAFF_NUMBERS}|{staff_number}",
                },
            }
        ],
    }


def visit_bundle(visit: Visit) -> Json:
    """The patient, the encounter and its results as one transaction.

    The patient is a conditional update: master data follow the EHR. Encounter and results are conditional creates:
    they happened once, so sending them again must not make a second one, nor a new version.
    """
    # fullUrls are names inside this Bundle only; the server replaces them by the ids that it gives.
    patient, encounter = (f"urn:uuid:{uuid.uuid4()}" for _ in range(2))
    entries: list[Json] = [
        {
            "fullUrl": patient,
            "resource": {
                "resourceType": "Patient",
                "identifier": [identifier(PATIENT_NUMBERS, visit.patient_number)],
                "name": [{"family": visit.family, "given": [visit.given]}],
                "birthDate": visit.birth_date,
            },
            "request": {"method": "PUT", "url": f"Patient?identifier={PATIENT_NUMBERS}|{visit.patient_number}"},
        },
        {
            "fullUrl": encounter,
            "resource": {
                "resourceType": "Encounter",
                "identifier": [identifier(VISIT_NUMBERS, visit.number)],
                "status": "finished",
                "class": {"system": ACT_CODE, "code": "AMB"},
                "subject": {"reference": patient},
                # Not in this Bundle: the server finds the one practitioner with this number, or refuses everything.
                "participant": [
                    {"individual": {"reference": f"Practitioner?identifier={STAFF_NUMBERS}|{visit.staff_number}"}}
                ],
                "period": {"start": visit.start},
            },
            "request": {
                "method": "POST",
                "url": "Encounter",
                "ifNoneExist": f"identifier={VISIT_NUMBERS}|{visit.number}",
            },
        },
    ]
    entries += [
        {
            "resource": {
                "resourceType": "Observation",
                "identifier": [identifier(RESULT_NUMBERS, result.number)],
                "status": "final",
                "code": {"coding": [{"system": LOINC, "code": result.loinc, "display": result.name}]},
                "subject": {"reference": patient},
                "encounter": {"reference": encounter},
                "effectiveDateTime": visit.start,
                "valueQuantity": {
                    "value": result.value,
                    "unit": result.unit,
                    "system": UCUM,
                    "code": result.unit,
                },
            },
            "request": {
                "method": "POST",
                "url": "Observation",
                "ifNoneExist": f"identifier={RESULT_NUMBERS}|{result.number}",
            },
        }
        for result in visit.results
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


class RefusedError(Exception):
    """The server refused; the text holds what its OperationOutcome says."""


def read(answer: httpx.Response) -> Json:
    """The resource of an answer.

    Raises:
        RefusedError: the server refused; every issue of its outcome is told with its place.
    """
    if answer.is_success:
        resource: Json = from_json(answer.content)
        return resource
    is_fhir = answer.headers.get("content-type", "").startswith(FHIR_JSON)
    issues = from_json(answer.content)["issue"] if is_fhir else []
    told = [f"{issue.get('expression', ['?'])[0]}: {issue['diagnostics']}" for issue in issues]
    raise RefusedError(f"{answer.status_code} " + ("; ".join(told) or answer.text[:200]))


def send(client: httpx.Client, bundle: Json) -> list[str]:
    """Send a transaction; where each entry's resource now is (`Patient/…`), in the order of the entries."""
    answer = read(client.post("", content=as_json(bundle), headers={"Content-Type": FHIR_JSON}))
    return [entry["response"]["location"].partition("/_history/")[0] for entry in answer["entry"]]


def found(client: httpx.Client, search: str) -> Iterator[Json]:
    """All matches of a search, page after page."""
    url: str | None = search
    while url:
        page = read(client.get(url))
        yield from (entry["resource"] for entry in page.get("entry", []) if entry["search"]["mode"] == "match")
        url = next((link["url"] for link in page["link"] if link["relation"] == "next"), None)


def correct(client: httpx.Client, address: str, value: Decimal) -> Json:
    """Correct a result: read it, change it, and write it only if nobody else has changed it since."""
    answer = client.get(address)
    observation = read(answer)
    observation["status"] = "corrected"
    observation["valueQuantity"]["value"] = value
    headers = {"Content-Type": FHIR_JSON, "If-Match": answer.headers["ETag"]}
    corrected: Json = read(client.put(address, content=as_json(observation), headers=headers))
    return corrected


def versions(client: httpx.Client, address: str) -> list[tuple[str, str]]:
    """Each version of a resource, newest first: its number, and the method that made it."""
    page = read(client.get(f"{address}/_history"))
    return [(entry["response"]["etag"], entry["request"]["method"]) for entry in page["entry"]]


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What the exchange came to: addresses, and what was read back."""

    patient: str
    encounter: str
    results: list[str]
    read_back: list[Json]
    versions: list[tuple[str, str]]


def exchange(client: httpx.Client, visit: Visit = VISIT) -> Exchanged:
    """The whole exchange; `client` has the FHIR base as its base URL."""
    send(client, staff_bundle(visit.staff_number))
    patient, encounter, *results = send(client, visit_bundle(visit))
    # The acknowledgement was lost, say: sending it all again is safe, and tells the same addresses.
    assert send(client, visit_bundle(visit)) == [patient, encounter, *results]
    correct(client, results[0], Decimal("70.50"))
    read_back = list(found(client, f"Observation?patient={patient}&encounter={encounter}&_sort=-date&_count=1"))
    return Exchanged(patient, encounter, results, read_back, versions(client, results[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Send a visit to a FHIR server and read it back.")
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/fhir", help="FHIR base of the server")
    base_url = parser.parse_args().base_url
    token = os.environ.get("HEALTHSPHERE_TOKEN")
    headers = {"Accept": FHIR_JSON} | ({"Authorization": f"Bearer {token}"} if token else {})
    with httpx.Client(base_url=base_url, headers=headers, timeout=30) as client:
        done = exchange(client)
    print(f"{done.patient} was seen in {done.encounter}:")
    for observation in done.read_back:
        name, value = observation["code"]["coding"][0]["display"], observation["valueQuantity"]
        print(f"  {name}: {value['value']} {value['unit']} ({observation['status']})")
    print(f"Versions of {done.results[0]}:", ", ".join(f"{etag} by {method}" for etag, method in done.versions))


if __name__ == "__main__":
    main()
