"""`Prefer: explain`: the query and the index that led it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("search")


def explained(client: httpx.Client, query: str) -> list[str]:
    answer = client.get(query, headers={"Prefer": "explain"})
    assert answer.status_code == 200, answer.text
    outcomes: list[Any] = [e["resource"] for e in answer.json()["entry"] if e["search"]["mode"] == "outcome"]
    issues = [issue for outcome in outcomes for issue in outcome["issue"]]
    assert {(i["severity"], i["code"]) for i in issues} == {("information", "informational")}
    return [issue["diagnostics"] for issue in issues]


def test_a_search_tells_its_query_and_its_index(client: httpx.Client) -> None:
    client.put(
        "Patient/explained", json={"resourceType": "Patient", "id": "explained", "identifier": [{"value": "xq-17"}]}
    )
    (text,) = explained(client, "Patient?identifier=xq-17")
    assert '"x.identifier": "=xq-17"' in text
    assert "indexes identifier" in text
    assert "1 documents examined, 1 returned" in text


def test_a_scan_is_called_a_scan(client: httpx.Client) -> None:
    texts = explained(client, "Patient?gender:not=male&_total=accurate&_count=1")
    assert texts
    assert all("examined" in text for text in texts)


def test_a_search_that_is_not_asked_says_nothing(client: httpx.Client) -> None:
    answer = client.get("Patient?identifier=xq-17").json()
    assert all(entry["search"]["mode"] == "match" for entry in answer.get("entry", []))
