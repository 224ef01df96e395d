"""`$everything`: complete, without doubles over its pages, and nobody else's."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

Json = dict[str, Any]


def reference(target: str) -> Json:
    return {"reference": target}


@pytest.fixture(scope="module")
def record(server: Any) -> Iterator[str]:
    """The id of a patient with a record of every kind that matters here; ids start with it."""
    p = f"p{uuid.uuid4().hex[:10]}"
    patient = reference(f"Patient/{p}")
    code = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    resources: list[Json] = [
        {"resourceType": "Organization", "id": f"{p}-org", "name": "Clinic"},
        {"resourceType": "Practitioner", "id": f"{p}-doc"},
        {"resourceType": "Location", "id": f"{p}-room"},
        {"resourceType": "Medication", "id": f"{p}-drug"},
        {"resourceType": "Binary", "id": f"{p}-scan", "contentType": "text/plain", "data": "aGk="},
        {"resourceType": "Patient", "id": p, "managingOrganization": reference(f"Organization/{p}-org")},
        {"resourceType": "Patient", "id": f"{p}-other"},
        {
            "resourceType": "Group",
            "id": f"{p}-group",
            "type": "person",
            "actual": True,
            "member": [{"entity": patient}, {"entity": reference(f"Patient/{p}-other")}],
        },
        {
            "resourceType": "Encounter",
            "id": f"{p}-visit",
            "status": "finished",
            "class": {"code": "AMB"},
            "subject": patient,
            "participant": [{"individual": reference(f"Practitioner/{p}-doc")}],
            "location": [{"location": reference(f"Location/{p}-room")}],
            "period": {"start": "2020-05-01", "end": "2020-05-01"},
        },
        {
            "resourceType": "MedicationRequest",
            "id": f"{p}-order",
            "status": "active",
            "intent": "order",
            "subject": patient,
            "medicationReference": reference(f"Medication/{p}-drug"),
            "authoredOn": "2020-05-01",
        },
        {
            "resourceType": "DocumentReference",
            "id": f"{p}-paper",
            "status": "current",
            "subject": patient,
            "content": [{"attachment": {"url": f"Binary/{p}-scan"}}],
        },
        {"resourceType": "Coverage", "id": f"{p}-plan", "status": "active", "beneficiary": patient, "payor": [patient]},
        {"resourceType": "Observation", "id": f"{p}-foreign", "status": "final", "code": code},
        {
            "resourceType": "List",
            "id": f"{p}-list",
            "status": "current",
            "mode": "working",
            "subject": patient,
            "entry": [
                {"item": reference(f"Observation/{p}-foreign")},
                {"item": reference(f"Observation/{p}-others")},
                {"item": reference(f"Observation/{p}-never-was")},
            ],
        },
        {
            "resourceType": "Observation",
            "id": f"{p}-others",
            "status": "final",
            "code": code,
            "subject": reference(f"Patient/{p}-other"),
        },
        *(
            {
                "resourceType": "Observation",
                "id": f"{p}-o{n}",
                "status": "final",
                "code": code,
                "subject": patient,
                "performer": [patient, reference(f"Practitioner/{p}-doc")],
                "encounter": reference(f"Encounter/{p}-visit"),
                "effectiveDateTime": f"202{n}-05-01",
            }
            for n in range(5)
        ),
    ]
    for resource in resources:
        answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text
    gone = {"resourceType": "Observation", "id": f"{p}-gone", "status": "final", "code": code, "subject": patient}
    server.client.put(f"Observation/{p}-gone", json=gone)
    server.client.delete(f"Observation/{p}-gone")
    return p


def pages(client: httpx.Client, url: str) -> list[Json]:
    found = []
    following: str | None = url
    while following:
        answer = client.get(following)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        links = {row["relation"]: row["url"] for row in found[-1]["link"]}
        following = links.get("next")
        assert len(found) < 50
    return found


def addresses(bundle: Json) -> list[str]:
    return [f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle.get("entry", [])]


COMPARTMENT = [
    "Coverage/{p}-plan",
    "DocumentReference/{p}-paper",
    "Encounter/{p}-visit",
    "Group/{p}-group",
    "List/{p}-list",
]
COMPARTMENT += ["MedicationRequest/{p}-order", *(f"Observation/{{p}}-o{n}" for n in range(5))]
REFERRED = ["Binary/{p}-scan", "Location/{p}-room", "Medication/{p}-drug", "Observation/{p}-foreign"]
REFERRED += ["Organization/{p}-org", "Practitioner/{p}-doc"]


def expected(p: str, *lists: list[str]) -> list[str]:
    return [text.replace("{p}", p) for rows in lists for text in rows]


def test_the_patient_comes_first_then_the_compartment_then_what_it_refers_to(client: httpx.Client, record: str) -> None:
    (bundle,) = pages(client, f"Patient/{record}/$everything")
    assert addresses(bundle) == expected(record, ["Patient/{p}"], COMPARTMENT, REFERRED)
    assert bundle["type"] == "searchset"
    assert bundle["total"] == len(bundle["entry"])
    modes = [entry["search"]["mode"] for entry in bundle["entry"]]
    assert modes == ["match"] * (1 + len(COMPARTMENT)) + ["include"] * len(REFERRED)
    paths = [urlsplit(entry["fullUrl"]).path for entry in bundle["entry"]]
    assert paths == [f"/fhir/{address}" for address in addresses(bundle)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 11, 12, 17, 18])
def test_pages_of_any_size_hold_everything_once(client: httpx.Client, record: str, count: int) -> None:
    found = pages(client, f"Patient/{record}/$everything?_count={count}")
    assert [a for page in found for a in addresses(page)] == expected(record, ["Patient/{p}"], COMPARTMENT, REFERRED)
    assert all(len(page["entry"]) == count for page in found[:-1])


def test_types_are_kept_to_on_both_sides(client: httpx.Client, record: str) -> None:
    (bundle,) = pages(client, f"Patient/{record}/$everything?_type=Encounter,Practitioner&_type=Location")
    assert addresses(bundle) == expected(record, ["Encounter/{p}-visit", "Location/{p}-room", "Practitioner/{p}-doc"])


def test_start_and_end_are_of_care_and_let_pass_what_has_no_date(client: httpx.Client, record: str) -> None:
    (bundle,) = pages(
        client, f"Patient/{record}/$everything?start=2021-01-01&end=2022&_type=Observation,Encounter,List"
    )
    assert addresses(bundle) == [
        *expected(record, ["List/{p}-list", "Observation/{p}-o1", "Observation/{p}-o2"]),
        f"Observation/{record}-foreign",
    ]
    (bundle,) = pages(client, f"Patient/{record}/$everything?end=2020-12-31&_type=Observation,Encounter")
    assert f"Observation/{record}-o0" in addresses(bundle)
    assert f"Observation/{record}-o1" not in addresses(bundle)


def test_since_asks_for_what_changed(client: httpx.Client, record: str) -> None:
    doc = client.get(f"Practitioner/{record}-doc").json()
    seen = client.get(f"Observation/{record}-o4").json()["meta"]["lastUpdated"]
    client.put(f"Practitioner/{record}-doc", json={**doc, "active": True})
    (bundle,) = pages(client, httpx.URL(f"Patient/{record}/$everything", params={"_since": seen}).raw_path.decode())
    assert addresses(bundle) == expected(record, ["Observation/{p}-o4", "Practitioner/{p}-doc"])


def test_an_encounter_brings_its_patient_along_and_nobody_else(client: httpx.Client, record: str) -> None:
    (bundle,) = pages(client, f"Encounter/{record}/$everything".replace(record, f"{record}-visit"))
    observations = [f"Observation/{record}-o{n}" for n in range(5)]
    referred = expected(record, ["Location/{p}-room", "Patient/{p}", "Practitioner/{p}-doc"])
    assert addresses(bundle) == [f"Encounter/{record}-visit", *observations, *referred]


@pytest.mark.parametrize(
    "query",
    [
        "_count=0",
        "_count=x",
        "_type=Nonsense",
        "start=2020-13-01",
        "_since=x",
        "strat=2020",
        "_cursor=abc",
        "end=x",
        "start=2021&end=2020",
        "start=2021&start=2022",
    ],
)
def test_a_parameter_that_cannot_be_understood_is_refused(client: httpx.Client, record: str, query: str) -> None:
    answer = client.get(f"Patient/{record}/$everything?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"].startswith("HS-")


def test_a_cursor_belongs_to_its_record_and_conditions(client: httpx.Client, record: str) -> None:
    first = client.get(f"Patient/{record}/$everything?_count=2").json()
    following = next(row["url"] for row in first["link"] if row["relation"] == "next")
    assert client.get(following.replace("_count=2", "_count=3")).status_code == 200
    assert client.get(f"{following}&_type=Observation").status_code == 400
    assert client.get(following.replace(record, f"{record}-other", 1)).status_code == 400


def test_by_post_too(client: httpx.Client, record: str) -> None:
    body = {"resourceType": "Parameters", "parameter": [{"name": "_type", "valueCode": "Patient"}]}
    answer = client.post(f"Patient/{record}/$everything", json=body)
    assert addresses(answer.json()) == [f"Patient/{record}"]


def test_what_never_was_is_404_and_what_is_deleted_410(client: httpx.Client) -> None:
    assert client.get("Patient/never-was/$everything").status_code == 404
    made = client.post("Patient", json={"resourceType": "Patient"}).json()["id"]
    client.delete(f"Patient/{made}")
    assert client.get(f"Patient/{made}/$everything").status_code == 410
    assert client.get("Patient/$everything").status_code == 404
    assert client.get(f"Encounter/{made}/$everything?start=2020").status_code == 400


def test_inside_a_transaction_it_sees_what_the_transaction_made(client: httpx.Client) -> None:
    made = f"t{uuid.uuid4().hex[:10]}"
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": {"resourceType": "Patient", "id": made},
                "request": {"method": "PUT", "url": f"Patient/{made}"},
            },
            {"request": {"method": "GET", "url": f"Patient/{made}/$everything"}},
        ],
    }
    answer = client.post("", json=bundle)
    assert answer.status_code == 200, answer.text
    assert addresses(answer.json()["entry"][1]["resource"]) == [f"Patient/{made}"]
