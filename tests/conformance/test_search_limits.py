"""What a search may not ask for, and what it is told then; value sets by literal reference.

Spec: https://hl7.org/fhir/R4/search.html#errors
"""

from __future__ import annotations

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("search")


def refused(client: httpx.Client, status: int, key: str, **query: str) -> None:
    answer = client.post("Patient/_search", data=query)
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == key


def test_an_order_has_eight_keys_at_most(client: httpx.Client) -> None:
    keys = ["family", "given", "gender", "birthdate", "active", "email", "phone", "address", "name"]
    assert client.get("Patient", params={"_sort": ",".join(keys[:8])}).status_code == 200
    refused(client, 400, "HS-SEARCH-VALUE", _sort=",".join(keys))


def test_a_parameter_has_so_many_values_at_most(client: httpx.Client) -> None:
    def many(count: int) -> str:
        return ",".join(f"v{n}" for n in range(count))

    assert client.post("Patient/_search", data={"identifier": many(500)}).status_code == 200
    refused(client, 422, "HS-SEARCH-VALUES", identifier=many(501))
    assert client.post("Patient/_search", data={"name:contains": many(50)}).status_code == 200
    refused(client, 422, "HS-SEARCH-VALUES", **{"name:contains": many(51)})


def test_a_value_set_is_named_by_its_url_its_place_or_our_address(client: httpx.Client) -> None:
    compose = {"include": [{"system": "http://limits.example/codes", "concept": [{"code": "a"}]}]}
    value_set = {"resourceType": "ValueSet", "id": "limits", "status": "active", "compose": compose}
    client.put("ValueSet/limits", json={**value_set, "url": "http://limits.example/vs"})
    code = {"coding": [{"system": "http://limits.example/codes", "code": "a"}]}
    client.put("Basic/limits", json={"resourceType": "Basic", "id": "limits", "code": code})
    for name in ("http://limits.example/vs", "ValueSet/limits", f"{client.base_url}ValueSet/limits"):
        answer = client.get("Basic", params={"code:in": name})
        assert [e["resource"]["id"] for e in answer.json()["entry"]] == ["limits"], answer.text
    assert client.get("Basic", params={"code:in": "ValueSet/nowhere"}).status_code == 400
