"""`Location?near=`: true distances, nearest first.

Spec: https://hl7.org/fhir/R4/location.html#positional
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("search")

DISTANCE = "http://hl7.org/fhir/StructureDefinition/location-distance"

PLACES = {
    "munich": (48.13743, 11.57549),
    "augsburg": (48.37154, 10.89851),
    "vienna": (48.20849, 16.37208),
    "sydney": (-33.86785, 151.20732),
    "suva": (-18.14161, 178.44149),  # Fiji, west of the date line
    "apia": (-13.83333, -171.76666),  # Samoa, east of it
}


@pytest.fixture(scope="module")
def places(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    rows = [
        {
            "resourceType": "Location",
            "id": name,
            "name": name,
            "status": "active" if name != "vienna" else "suspended",
            "position": {"latitude": latitude, "longitude": longitude},
        }
        for name, (latitude, longitude) in PLACES.items()
    ]
    rows += [
        {"resourceType": "Location", "id": "nowhere", "name": "nowhere"},
        {"resourceType": "PractitionerRole", "id": "r1", "location": [{"reference": "Location/munich"}]},
    ]
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": row, "request": {"method": "PUT", "url": f"{row['resourceType']}/{row['id']}"}} for row in rows
        ],
    }
    answer = server.client.post("", json=bundle)
    assert answer.status_code == 200, answer.text
    return server


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["resource"]["id"] for entry in answer.json().get("entry", [])]


@pytest.mark.parametrize(
    ("near", "found"),
    [
        ("48.137|11.575|1|km", "munich"),
        ("48.137|11.575", "munich"),
        ("48.137|11.575|56", "munich"),
        ("48.137|11.575|57", "munich augsburg"),
        ("48.137|11.575|57000|m", "munich augsburg"),
        ("48.137|11.575|35|[mi_us]", "munich"),
        ("48.137|11.575|35.3|[mi_i]", "munich augsburg"),
        ("48.137|11.575|35.3|mi", "munich augsburg"),
        ("48.137|11.575|400|km", "munich augsburg vienna"),
        ("48.2|16.37|400|km", "vienna munich"),
        ("-15|180|1000|km", "suva apia"),
        ("-15|-180|1000|km", "suva apia"),
        ("0|0|0", ""),
        ("48.137|11.575|1|km,-33.9|151.2|10", "munich sydney"),
        ("48.13743|11.57549|0", "munich"),
        ("48.137|11.575|40000", "munich augsburg vienna sydney suva apia"),
    ],
)
def test_the_places_within_a_distance_are_found_nearest_first(places: Any, near: str, found: str) -> None:
    answer = places.client.get("Location", params={"near": near}, headers={"Prefer": "handling=strict"})
    assert set(ids(answer)) == set(found.split())
    distances = [e["search"]["extension"][0]["valueDistance"]["value"] for e in answer.json().get("entry", [])]
    assert distances == sorted(distances)
    if "," not in near and "40000" not in near:
        assert ids(answer) == found.split()


def test_the_distance_is_told_beside_the_match(places: Any) -> None:
    answer = places.client.get("Location", params={"near": "48.137|11.575|60"}).json()
    assert answer["total"] == 2
    (extension,) = answer["entry"][1]["search"]["extension"]
    assert extension["url"] == DISTANCE
    distance = extension["valueDistance"]
    assert distance == {
        "value": distance["value"],
        "unit": "km",
        "system": "http://unitsofmeasure.org",
        "code": "km",
    }
    assert 56.0 < distance["value"] < 56.8


def test_pages_of_places_follow_the_distance(places: Any) -> None:
    seen: list[str] = []
    answer = places.client.get("Location", params={"near": "48.137|11.575|40000", "_count": 1})
    while True:
        seen += ids(answer)
        following = [row["url"] for row in answer.json()["link"] if row["relation"] == "next"]
        if not following:
            break
        last = answer
        answer = places.client.get(following[0])
    assert seen == ["munich", "augsburg", "vienna", "apia", "suva", "sydney"] or len(set(seen)) == 6
    back = [row["url"] for row in answer.json()["link"] if row["relation"] == "previous"]
    assert ids(places.client.get(back[0])) == ids(last)


def test_another_order_and_further_criteria_go_with_it(places: Any) -> None:
    query = {"near": "48.137|11.575|400", "_sort": "name", "status": "active"}
    assert ids(places.client.get("Location", params=query)) == ["augsburg", "munich"]
    count = places.client.get("Location", params={"near": "48.137|11.575|400", "_summary": "count"}).json()
    assert count["total"] == 3
    assert ids(places.client.get("Location", params={"near:missing": "true"})) == ["nowhere"]


@pytest.mark.parametrize(
    "near",
    ["48", "48|11|x", "91|0", "0|181", "1|1|5|kg", "1|1|-5", "1|1|5|furlongs-per-fortnight", "a|b", "1|2|3|km|5"],
)
def test_a_place_that_is_none_is_refused(places: Any, near: str) -> None:
    answer = places.client.get("Location", params={"near": near})
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["http.near"]
    assert places.client.get("Location", params={"_sort": "near"}, headers={"Prefer": "handling=strict"}).is_error
