"""Searches of compartments and of several types at once: what they find, in what order, page by page.

Spec: https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("search")

Json = dict[str, Any]
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Prefer": "handling=strict"}
STRICT = {"Prefer": "handling=strict"}


def ref(to: str) -> Json:
    return {"reference": to}


def observation(name: str, **more: Any) -> Json:
    return {"resourceType": "Observation", "id": name, "status": "final", "code": {"coding": [{"code": "1"}]}, **more}


def condition(name: str, subject: str, **more: Any) -> Json:
    return {"resourceType": "Condition", "id": name, "subject": ref(subject), **more}


RESOURCES: list[Json] = [
    {"resourceType": "Patient", "id": "a", "meta": {"tag": [{"code": "blue"}]}, "gender": "male"},
    {"resourceType": "Patient", "id": "b", "link": [{"other": ref("Patient/a"), "type": "seealso"}]},
    {"resourceType": "Practitioner", "id": "a", "meta": {"tag": [{"code": "blue"}]}},
    observation("o1", subject=ref("Patient/a"), encounter=ref("Encounter/e")),
    observation("o2", subject=ref("Patient/b"), performer=[ref("Patient/a")], valueString="told"),
    observation("o3", subject=ref("Patient/b"), performer=[ref("Practitioner/a")]),
    condition("k1", "Patient/a", encounter=ref("Encounter/e"), meta={"tag": [{"code": "blue"}]}),
    condition("k2", "Patient/b"),
    {
        "resourceType": "Encounter",
        "id": "e",
        "status": "planned",
        "class": {"code": "AMB"},
        "subject": ref("Patient/a"),
    },
    {"resourceType": "Medication", "id": "m"},
]


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    entries = [
        {"request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}, "resource": r} for r in RESOURCES
    ]
    answer = server.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    server.client.put("Condition/gone", json=condition("gone", "Patient/a"))
    server.client.delete("Condition/gone")
    return server


def names(bundle: Json) -> list[str]:
    return [e["fullUrl"].removeprefix("http://test/fhir/") for e in bundle.get("entry", []) if "fullUrl" in e]


CASES = {
    "Patient/a/Observation": "Observation/o1 Observation/o2",
    "Patient/a/Observation?performer=Patient/a": "Observation/o2",
    "Patient/a/Observation?value-string=told": "Observation/o2",
    "Patient/a/Observation?subject.gender=male": "Observation/o1",
    "Patient/a/Observation?_id=o3": "",
    "Patient/a/Condition": "Condition/k1",
    "Patient/a/Patient": "Patient/a Patient/b",
    "Patient/a/*": "Condition/k1 Encounter/e Observation/o1 Observation/o2 Patient/a Patient/b",
    "Patient/a/*?_type=Condition,Observation": "Condition/k1 Observation/o1 Observation/o2",
    "Patient/a/*?_type=Condition": "Condition/k1",
    "Patient/a/*?_tag=blue": "Condition/k1 Patient/a",
    "Patient/a/*?_type=Condition,Observation&encounter=e": "Condition/k1 Observation/o1",
    "Patient/none/*": "",
    "Patient/none/Observation": "",
    "Encounter/e/Observation": "Observation/o1",
    "Encounter/e/*": "Condition/k1 Encounter/e Observation/o1",
    "Practitioner/a/Observation": "Observation/o3",
    "?_id=a": "Patient/a Practitioner/a",
    "?_tag=blue": "Condition/k1 Patient/a Practitioner/a",
    "?_tag=blue&_type=Patient,Condition": "Condition/k1 Patient/a",
    "?_type=Patient": "Patient/a Patient/b",
    "?_type=Patient&gender=male": "Patient/a",
    "?_type=Observation,Condition&patient=a": "Condition/k1 Observation/o1",
    "?_type=Observation,Condition&patient.gender=male": "Condition/k1 Observation/o1",
    "?_type=Observation,Condition&patient:missing=true": "",
    "Patient?_type=Patient&gender=male": "Patient/a",
    "?_type=Medication,Group": "Medication/m",
}


@pytest.mark.parametrize(("query", "expected"), CASES.items())
def test_a_search_by_get_and_by_post_finds_what_belongs(data: Any, query: str, expected: str) -> None:
    answer = data.client.get(query, headers=STRICT)
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert " ".join(sorted(names(bundle))) == expected
    assert bundle["total"] == len(names(bundle))
    place, _, criteria = query.partition("?")
    posted = data.client.post(f"{place}/_search".lstrip("/"), content=criteria, headers=FORM)
    assert posted.status_code == 200, posted.text
    assert posted.json() == bundle
    counted = data.client.get(f"{query}{'&' if '?' in query else '?'}_summary=count", headers=STRICT).json()
    assert (counted["total"], "entry" in counted) == (bundle["total"], False)


def test_everything_of_a_compartment_is_searched_by_post_without_a_type_too(data: Any) -> None:
    posted = data.client.post("Patient/a/_search", content="_tag=blue", headers=FORM).json()
    assert names(posted) == ["Condition/k1", "Patient/a"]
    assert posted["link"][0]["url"] == "http://test/fhir/Patient/a/*?_tag=blue"


@pytest.mark.parametrize(
    ("query", "status", "key"),
    [
        ("Organization/o/Observation", 404, "HS-SEARCH-COMPARTMENT"),
        ("Patient/a/Medication", 404, "HS-SEARCH-COMPARTMENT"),
        ("Patient/a/Nothing", 404, "HS-SEARCH-COMPARTMENT"),
        ("Patient/a/*?_type=Medication", 404, "HS-SEARCH-COMPARTMENT"),
        ("?_type=Patient,Nothing", 400, "HS-SEARCH-TYPE"),
        ("?_type=Patient,Observation&gender=male", 400, "HS-SEARCH-UNKNOWN"),
        ("?gender=male", 400, "HS-SEARCH-UNKNOWN"),
        ("?patient=a", 400, "HS-SEARCH-UNKNOWN"),
        ("?_type=Patient,Observation&_sort=birthdate", 400, "HS-SEARCH-SORT"),
        ("Patient?_type=Observation", 400, "HS-SEARCH-VALUE"),
        ("?_type=Patient,Observation&_cursor=abc", 400, "HS-SEARCH-CURSOR"),
        ("Patient/a/observation", 404, "HS-ROUTE"),
    ],
)
def test_what_cannot_be_searched_together_is_refused_with_a_reason(
    data: Any, query: str, status: int, key: str
) -> None:
    answer = data.client.get(query, headers=STRICT)
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == key


def test_a_parameter_that_not_all_types_have_is_ignored_for_all_of_them(data: Any) -> None:
    bundle = data.client.get("?_type=Patient,Condition&gender=male").json()
    assert names(bundle) == ["Condition/k1", "Condition/k2", "Patient/a", "Patient/b"]
    assert "in common" in bundle["entry"][-1]["resource"]["issue"][0]["diagnostics"]
    assert bundle["link"][0]["url"] == "http://test/fhir?_type=Patient,Condition"


@pytest.mark.parametrize("sort", ["", "_id", "-_id", "_lastUpdated", "-_lastUpdated"])
@pytest.mark.parametrize("place", ["", "Patient/a/*"])
def test_pages_over_several_types_show_each_resource_once_in_both_directions(data: Any, place: str, sort: str) -> None:
    query = f"{place}?{f'_sort={sort}&' if sort else ''}"
    whole = names(data.client.get(f"{query}_count=500").json())
    if not sort:
        assert whole == sorted(whole)
    elif sort.endswith("_id"):
        ids = [name.partition("/")[2] for name in whole]
        assert ids == sorted(ids, reverse=sort.startswith("-"))
    pages: list[list[str]] = []
    url = f"{query}_count={2 if place else 13}&_total=accurate"  # what the server carries is there, too
    while url:
        bundle = data.client.get(url, headers=STRICT).json()
        assert bundle["total"] == len(whole)
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        pages.append(names(bundle))
        last, url = links, links.get("next", "")
    assert [name for page in pages for name in page] == whole
    for page in pages[-2::-1]:
        bundle = data.client.get(last["previous"]).json()
        last = {link["relation"]: link["url"] for link in bundle["link"]}
        assert names(bundle) == page
    assert "previous" not in last


def test_a_cursor_of_one_compartment_is_refused_by_another(data: Any) -> None:
    links = data.client.get("Patient/a/*?_count=1").json()["link"]
    following = next(link["url"] for link in links if link["relation"] == "next")
    assert data.client.get(following.replace("Patient/a", "Patient/b")).status_code == 400


def test_several_types_are_searched_inside_a_transaction(data: Any) -> None:
    entries = [
        {"request": {"method": "GET", "url": url}}
        for url in ("?_id=a", "Patient/a/*?_sort=_lastUpdated", "Patient/a/Observation?patient.gender=male")
    ]
    answer = data.client.post("", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text
    found = [sorted(names(entry["resource"])) for entry in answer.json()["entry"]]
    assert found[0] == ["Patient/a", "Practitioner/a"]
    assert len(found[1]) == 6
    assert found[2] == ["Observation/o1"]


def test_the_statement_names_searches_and_includes(data: Any) -> None:
    rest = data.client.get("metadata").json()["rest"][0]
    assert {"code": "search-system"} in rest["interaction"]
    rows = {row["type"]: row for row in rest["resource"]}
    assert "Observation:subject" in rows["Observation"]["searchInclude"]
    assert "*" in rows["Observation"]["searchInclude"]
    assert "Observation:subject" in rows["Patient"]["searchRevInclude"]
    assert "Observation:subject" not in rows["Organization"]["searchRevInclude"]
    assert set(rest["compartment"]) == {
        f"http://hl7.org/fhir/CompartmentDefinition/{name}"
        for name in ("patient", "encounter", "practitioner", "relatedPerson", "device")
    }
