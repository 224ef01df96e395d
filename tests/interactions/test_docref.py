"""`$docref`: the documents about a patient."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
LOINC = "http://loinc.org"


@pytest.fixture(scope="module")
def patient(server: Any) -> str:
    """A patient with summaries, notes and documents that are no longer current; ids start with it."""
    p = f"d{uuid.uuid4().hex[:10]}"

    def put(name: str, code: str, period: Json | None = None, date: str | None = None, **members: Any) -> None:
        resource = {
            "resourceType": "DocumentReference",
            "id": f"{p}-{name}",
            "status": "current",
            "type": {"coding": [{"system": LOINC, "code": code}]},
            "subject": {"reference": f"Patient/{p}"},
            "content": [{"attachment": {"url": "https://documents.example/1"}, "format": {"code": f"urn:{name}"}}],
            **({"context": {"period": period}} if period else {}),
            **({"date": date} if date else {}),
            **members,
        }
        answer = server.client.put(f"DocumentReference/{p}-{name}", json=resource)
        assert answer.status_code == 201, answer.text

    server.client.put(f"Patient/{p}", json={"resourceType": "Patient", "id": p})
    put("old", "34133-9", {"start": "2019-01-01", "end": "2019-02-01"}, "2021-01-01T00:00:00Z")
    put("new", "34133-9", {"start": "2020-01-01"}, "2022-01-01T00:00:00Z")
    put("note", "11506-3", None, "2020-06-01T00:00:00Z")
    put("gone", "34133-9", None, "2023-01-01T00:00:00Z", status="superseded")
    put("bare", "18842-5")
    return p


def ask(client: httpx.Client, patient: str, **parameters: Any) -> list[str]:
    answer = client.get("DocumentReference/$docref", params={"patient": patient, **parameters})
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    return [e["resource"]["id"].removeprefix(f"{patient}-") for e in entries if e["search"]["mode"] == "match"]


def test_without_dates_the_newest_of_each_type(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient) == ["new", "note", "bare"]


def test_dates_are_of_care(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient, start="2019-01-15", end="2019-01-20") == ["old", "bare"]
    assert ask(client, patient, start="2020-02-01") == ["new", "note", "bare"]
    assert ask(client, patient, end="2019-12-31") == ["old", "bare"]


def test_types_and_profiles_narrow(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient, start="2000-01-01", type=f"{LOINC}|34133-9") == ["new", "old"]
    assert ask(client, patient, type="11506-3,18842-5") == ["note", "bare"]
    assert ask(client, patient, start="2000-01-01", profile="urn:old") == ["old"]
    concept = {"coding": [{"system": LOINC, "code": "11506-3"}]}
    rows = [{"name": "patient", "valueId": patient}, {"name": "type", "valueCodeableConcept": concept}]
    answer = client.post("DocumentReference/$docref", json={"resourceType": "Parameters", "parameter": rows}).json()
    assert [e["resource"]["id"] for e in answer["entry"]] == [f"{patient}-note"]
    assert answer["link"][0]["url"].endswith(f"patient={patient}&type={LOINC}|11506-3")


@pytest.mark.parametrize("dates", ["", "&start=2000-01-01"])
def test_pages_hold_all_once(client: httpx.Client, patient: str, dates: str) -> None:
    whole = ask(client, patient, **({"start": "2000-01-01"} if dates else {}))
    found: list[str] = []
    following: str | None = f"DocumentReference/$docref?patient={patient}{dates}&_count=1"
    while following:
        bundle = client.get(following).json()
        found += [e["resource"]["id"].removeprefix(f"{patient}-") for e in bundle["entry"]]
        following = {row["relation"]: row["url"] for row in bundle["link"]}.get("next")
    assert found == whole


def test_on_demand_documents_are_none_and_the_answer_says_so(client: httpx.Client, patient: str) -> None:
    bundle = client.get(f"DocumentReference/$docref?patient={patient}&on-demand=true").json()
    assert bundle["total"] == 0
    assert bundle["entry"][0]["resource"]["resourceType"] == "OperationOutcome"


def test_a_patient_that_is_not_there_has_no_documents(client: httpx.Client) -> None:
    assert ask(client, "never-was") == []


@pytest.mark.parametrize(
    "query",
    [
        "",
        "patient=Practitioner/1",
        "patient=1&start=x",
        "patient=1&start=2021&end=2020",
        "patient=1&codetype=x",
        "patient=1&on-demand=perhaps",
        "patient=1&_count=0",
        "patient=1&type=http://x|",
        "patient=1&_cursor=x",
    ],
)
def test_what_cannot_be_understood_is_refused(client: httpx.Client, query: str) -> None:
    assert client.get(f"DocumentReference/$docref?{query}").status_code == 400
