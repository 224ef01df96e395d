"""`$document`: a Composition and all that it is made of."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

Json = dict[str, Any]


def reference(target: str) -> Json:
    return {"reference": target}


@pytest.fixture(scope="module")
def composition(server: Any) -> str:
    """The id of a Composition with two sections, whose resources refer further; ids start with it."""
    c = f"c{uuid.uuid4().hex[:10]}"
    resources: list[Json] = [
        {"resourceType": "Organization", "id": f"{c}-org", "name": "Clinic"},
        {"resourceType": "Practitioner", "id": f"{c}-doc"},
        {"resourceType": "Patient", "id": f"{c}-p", "managingOrganization": reference(f"Organization/{c}-org")},
        {"resourceType": "Binary", "id": f"{c}-scan", "contentType": "text/plain", "data": "aGk="},
        {
            "resourceType": "Observation",
            "id": f"{c}-o",
            "status": "final",
            "code": {"text": "x"},
            "subject": reference(f"Patient/{c}-p"),
            "performer": [reference(f"{server.base_url}/Organization/{c}-org"), reference("Practitioner/never-was")],
            "hasMember": [reference(f"Observation/{c}-o2")],
        },
        {
            "resourceType": "Observation",
            "id": f"{c}-o2",
            "status": "final",
            "code": {"text": "y"},
            "derivedFrom": [reference(f"DocumentReference/{c}-paper"), reference(f"Observation/{c}-o")],
        },
        {
            "resourceType": "DocumentReference",
            "id": f"{c}-paper",
            "status": "current",
            "content": [{"attachment": {"url": f"Binary/{c}-scan"}}],
        },
        {
            "resourceType": "Composition",
            "id": c,
            "status": "final",
            "type": {"text": "letter"},
            "subject": reference(f"Patient/{c}-p"),
            "date": "2020-01-01",
            "author": [reference(f"Practitioner/{c}-doc"), reference("https://elsewhere.example/Practitioner/1")],
            "title": "Letter",
            "section": [
                {"title": "A", "entry": [reference(f"Observation/{c}-o")]},
                {"title": "B", "section": [{"title": "C", "entry": [reference(f"Observation/{c}-o/_history/1")]}]},
            ],
        },
    ]
    for resource in resources:
        answer = server.client.put(f"{resource['resourceType']}/{resource['id']}", json=resource)
        assert answer.status_code == 201, answer.text
    return c


def addresses(bundle: Json) -> list[str]:
    return [f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in bundle["entry"]]


def expected(c: str) -> list[str]:
    names = ["Composition/{c}", "Patient/{c}-p", "Practitioner/{c}-doc", "Observation/{c}-o", "Organization/{c}-org"]
    names += ["Observation/{c}-o2", "DocumentReference/{c}-paper", "Binary/{c}-scan"]
    return [name.replace("{c}", c) for name in names]


def test_the_composition_comes_first_and_all_it_refers_to_once(client: httpx.Client, composition: str) -> None:
    answer = client.get(f"Composition/{composition}/$document")
    bundle = answer.json()
    assert answer.status_code == 200, answer.text
    assert addresses(bundle) == expected(composition)
    assert bundle["type"] == "document"
    assert bundle["timestamp"]
    assert bundle["identifier"]["value"].startswith("urn:uuid:")
    assert "search" not in bundle["entry"][0]
    outcome = client.post("Bundle/$validate", json=bundle).json()
    assert {issue["severity"] for issue in outcome["issue"]} <= {"information", "warning"}
    assert client.get(f"Bundle/{bundle['id']}").status_code == 404


def test_it_is_stored_when_that_is_asked_for(client: httpx.Client, composition: str) -> None:
    answer = client.post(f"Composition/{composition}/$document?persist=true", content=b"")
    stored = client.get(answer.headers["Location"])
    assert stored.status_code == 200
    assert stored.json() == answer.json()
    assert addresses(stored.json()) == expected(composition)
    kept = client.get(f"Composition/{composition}/$document?persist=false")
    assert "Location" not in kept.headers


def test_a_head_stores_nothing(client: httpx.Client, composition: str) -> None:
    before = client.get("Bundle?_summary=count").json()["total"]
    client.head(f"Composition/{composition}/$document?persist=true")
    assert client.get("Bundle?_summary=count").json()["total"] == before


@pytest.mark.parametrize("form", ["{c}", "Composition/{c}", "{base}/Composition/{c}"])
def test_the_composition_can_be_named_by_a_parameter(
    client: httpx.Client, server: Any, composition: str, form: str
) -> None:
    named = form.replace("{c}", composition).replace("{base}", server.base_url)
    answer = client.get("Composition/$document", params={"id": named})
    assert addresses(answer.json()) == expected(composition)


@pytest.mark.parametrize(
    "path",
    [
        "Composition/$document",
        "Composition/{c}/$document?id={c}",
        "Composition/{c}/$document?persist=perhaps",
        "Composition/{c}/$document?graph=http://x",
        "Composition/{c}/$document?nonsense=1",
        "Composition/$document?id=https://elsewhere.example/Composition/1",
    ],
)
def test_what_cannot_be_understood_is_refused(client: httpx.Client, composition: str, path: str) -> None:
    assert client.get(path.replace("{c}", composition)).status_code == 400


def test_a_document_whose_parts_are_missing_is_none(client: httpx.Client) -> None:
    resource = {
        "resourceType": "Composition",
        "status": "final",
        "type": {"text": "letter"},
        "date": "2020",
        "author": [reference("Practitioner/never-was")],
        "title": "x",
    }
    made = client.post("Composition", json=resource).json()["id"]
    answer = client.get(f"Composition/{made}/$document")
    assert answer.status_code == 422
    assert "Practitioner/never-was" in answer.json()["issue"][0]["diagnostics"]
    client.delete(f"Composition/{made}")
    assert client.get(f"Composition/{made}/$document").status_code == 410
    assert client.get("Composition/never-was/$document").status_code == 404
