"""`$lastn`: the most recent Observations of each kind."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

Json = dict[str, Any]
LOINC = "http://loinc.org"


@pytest.fixture(scope="module")
def patient(server: Any) -> str:
    """A patient with heart rates, temperatures of two codings, free texts, one entered in error; ids start with it."""
    p = f"l{uuid.uuid4().hex[:10]}"

    def put(name: str, date: str | None, *codings: tuple[str, str], **members: Any) -> None:
        code: Json = {"coding": [{"system": s, "code": c} for s, c in codings]} if codings else {}
        if "text" in members:
            code["text"] = members.pop("text")
        resource = {
            "resourceType": "Observation",
            "id": f"{p}-{name}",
            "status": "final",
            "category": [{"coding": [{"system": "http://c", "code": "vital-signs"}]}],
            "code": code,
            "subject": {"reference": f"Patient/{p}"},
            **({"effectiveDateTime": date} if date else {}),
            **members,
        }
        answer = server.client.put(f"Observation/{p}-{name}", json=resource)
        assert answer.status_code == 201, answer.text

    server.client.put(f"Patient/{p}", json={"resourceType": "Patient", "id": p})
    for n in range(4):
        put(f"rate{n}", f"2020-01-0{n + 1}", (LOINC, "8867-4"))
    put("rate-wrong", "2020-01-09", (LOINC, "8867-4"), status="entered-in-error")
    put("rate-undated", None, (LOINC, "8867-4"))
    put("temp1", "2020-02-01", (LOINC, "8310-5"))
    put("temp2", "2020-02-02", ("http://local", "T"))
    put("temp3", "2020-02-03", ("http://local", "T"), (LOINC, "8310-5"))
    put("text1", "2020-03-01", text="Mood")
    put("text2", "2020-03-02", text="mood ")
    put("other", "2020-03-03", ("http://other", "8867-4"), category=[{"text": "x"}])
    component = {"code": {"coding": [{"system": LOINC, "code": "8867-4"}]}, "valueInteger": 1}
    put("panel", "2021-01-01", (LOINC, "85354-9"), component=[component])
    server.client.put(
        f"Observation/{p}-else",
        json={
            "resourceType": "Observation",
            "id": f"{p}-else",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": "8867-4"}]},
            "subject": {"reference": f"Patient/{p}-else"},
            "effectiveDateTime": "2022-01-01",
        },
    )
    return p


def names(answer: httpx.Response, patient: str) -> list[str]:
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    return [e["resource"]["id"].removeprefix(f"{patient}-") for e in entries if e["search"]["mode"] == "match"]


def ask(client: httpx.Client, patient: str, **parameters: Any) -> list[str]:
    return names(client.get("Observation/$lastn", params={"patient": patient, **parameters}), patient)


def test_each_kind_gives_its_newest_and_kinds_come_by_their_newest(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient) == ["panel", "other", "text2", "temp3", "rate3"]


def test_max_is_per_kind_and_undated_ones_come_last(client: httpx.Client, patient: str) -> None:
    found = ask(client, patient, max=9)
    assert found[-5:] == ["rate3", "rate2", "rate1", "rate0", "rate-undated"]
    assert ask(client, patient, max=2, code=f"{LOINC}|8867-4") == ["rate3", "rate2"]


def test_translations_make_one_kind_and_equal_texts_too(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient, max=3)[2:7] == ["text2", "text1", "temp3", "temp2", "temp1"]
    assert ask(client, patient, code="http://local|T", max=1) == ["temp3"]


def test_other_criteria_are_those_of_searches(client: httpx.Client, patient: str) -> None:
    assert ask(client, patient, category="http://c|vital-signs", date="lt2020-02-02") == ["temp1", "rate3"]
    assert ask(client, patient, status="entered-in-error") == ["rate-wrong"]
    answer = client.get("Observation/$lastn", params={"subject": f"Patient/{patient}", "code": f"{LOINC}|8310-5"})
    assert names(answer, patient) == ["temp3"]
    two = client.get("Observation/$lastn", params={"patient": f"{patient},{patient}-else", "code": f"{LOINC}|8867-4"})
    assert names(two, patient) == ["else", "rate3"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_pages_hold_all_once(client: httpx.Client, patient: str, count: int) -> None:
    whole = ask(client, patient, max=3)
    found: list[str] = []
    following: str | None = f"Observation/$lastn?patient={patient}&max=3&_count={count}"
    while following:
        answer = client.get(following)
        found += names(answer, patient)
        assert answer.json()["total"] == len(whole)
        following = {row["relation"]: row["url"] for row in answer.json()["link"]}.get("next")
    assert found == whole


def test_parts_of_resources_can_be_asked_for(client: httpx.Client, patient: str) -> None:
    answer = client.get("Observation/$lastn", params={"patient": patient, "_elements": "effective"})
    resource = answer.json()["entry"][0]["resource"]
    assert "subject" not in resource
    assert resource["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_by_post_too(client: httpx.Client, patient: str) -> None:
    rows = [{"name": "max", "valuePositiveInt": 2}, {"name": "patient", "valueString": patient}]
    rows.append({"name": "code", "valueString": f"{LOINC}|8867-4"})
    answer = client.post("Observation/$lastn", json={"resourceType": "Parameters", "parameter": rows})
    assert names(answer, patient) == ["rate3", "rate2"]


@pytest.mark.parametrize(
    "query",
    [
        "max=1&code=x",
        "",
        "patient={p}&max=0",
        "patient={p}&max=x",
        "patient={p}&max=5000",
        "patient={p}&_sort=date",
        "patient={p}&date=x",
        "patient={p}&code:nonsense=x",
        "patient={p}&_cursor=x",
        "patient={p}&max=1&max=2",
    ],
)
def test_what_cannot_be_understood_is_refused(client: httpx.Client, patient: str, query: str) -> None:
    assert client.get(f"Observation/$lastn?{query.replace('{p}', patient)}").status_code == 400


def test_an_unknown_parameter_warns_or_is_refused_as_in_searches(client: httpx.Client, patient: str) -> None:
    query = f"Observation/$lastn?patient={patient}&nonsense=1"
    outcome = client.get(query).json()["entry"][-1]
    assert outcome["search"]["mode"] == "outcome"
    assert client.get(query, headers={"Prefer": "handling=strict"}).status_code == 400
