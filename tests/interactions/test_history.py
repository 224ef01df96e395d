"""history at its three levels: http://hl7.org/fhir/R4/http.html#history."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


@pytest.fixture(scope="module")
def busy(make_server: Any) -> Any:
    """A server on which two patients and a device were changed, and nothing else ever was."""
    server = make_server()
    client = server.client
    for name in ("a", "b"):
        for n in range(3):
            client.put(f"Patient/{name}", json={"resourceType": "Patient", "id": name, "multipleBirthInteger": n})
    client.put("Device/d", json={"resourceType": "Device", "id": "d"})
    client.delete("Patient/b")
    client.put("Patient/a", json={"resourceType": "Patient", "id": "a", "active": True})
    return server


def versions(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (e["fullUrl"].split("/fhir/")[1], e["response"]["etag"].removeprefix('W/"').removesuffix('"'))
        for e in bundle.get("entry", [])
    ]


def walk(client: httpx.Client, url: str) -> list[tuple[str, str]]:
    seen = []
    while url:
        bundle = client.get(url).json()
        assert len(bundle.get("entry", [])) <= 2
        seen += versions(bundle)
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    return seen


ALL = [
    ("Patient/a", "4"),
    ("Patient/b", "4"),
    ("Device/d", "1"),
    ("Patient/b", "3"),
    ("Patient/b", "2"),
    ("Patient/b", "1"),
    ("Patient/a", "3"),
    ("Patient/a", "2"),
    ("Patient/a", "1"),
]


def test_each_level_lists_every_version_once_newest_first_over_pages(busy: Any) -> None:
    client = busy.client
    patients = [row for row in ALL if row[0].startswith("Patient")]
    assert sorted(walk(client, "_history?_count=2")) == sorted(ALL)
    assert sorted(walk(client, "Patient/_history?_count=2")) == sorted(patients)
    assert walk(client, "Patient/b/_history?_count=2") == [row for row in ALL if row[0] == "Patient/b"]
    assert versions(client.get("_history?_count=2").json())[0] == ("Patient/a", "4")


def test_an_instance_history_tells_its_total_and_how_each_version_came_about(busy: Any) -> None:
    bundle = busy.client.get("Patient/b/_history").json()
    assert (bundle["type"], bundle["total"]) == ("history", 4)
    assert [e["request"] for e in bundle["entry"]] == [
        {"method": "DELETE", "url": "Patient/b"},
        *[{"method": "PUT", "url": "Patient/b"}] * 3,
    ]
    assert [e["response"]["status"] for e in bundle["entry"]] == ["204", "200", "200", "201"]
    assert "resource" not in bundle["entry"][0]


def test_since_leaves_out_what_is_older(busy: Any) -> None:
    moment = busy.client.get("Device/d").json()["meta"]["lastUpdated"]
    listed = versions(busy.client.get("_history", params={"_since": moment}).json())
    assert ("Patient/a", "4") in listed
    assert ("Patient/a", "1") not in listed


def test_at_lists_what_was_current_at_that_time(busy: Any) -> None:
    moment = busy.client.get("Patient/a/_history/3").json()["meta"]["lastUpdated"]
    listed = versions(busy.client.get("Patient/a/_history", params={"_at": moment}).json())
    assert ("Patient/a", "3") in listed
    assert ("Patient/a", "4") not in listed
    assert versions(busy.client.get("_history", params={"_at": "1999"}).json()) == []
    today = versions(busy.client.get("_history", params={"_at": moment[:10], "_count": 50}).json())
    assert sorted(today) == sorted(ALL)


@pytest.mark.parametrize("query", ["_since=abc", "_count=-1", "_count=x", "_cursor=nonsense", "_at=2020-13"])
def test_a_malformed_parameter_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"_history?{query}")
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_the_history_of_what_never_was_is_not_found(client: httpx.Client) -> None:
    assert client.get("Patient/never-was/_history").status_code == 404
