"""`_text` and `_content`: words, expressions, phrases, the order by score.

Spec: https://hl7.org/fhir/R4/search.html#text
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.xdist_group("search")

STRICT = {"Prefer": "handling=strict"}
REPORTS = {
    "r1": ("CT scan of the liver: <b>metastases</b> &amp; cysts", "Liver imaging"),
    "r2": ("Bone scan without metastases", "Bone imaging"),
    "r3": ("Scan of the bone marrow. Follow-up advised. Knochenmark: Ödem", "Marrow"),
    "r4": ("Nothing at all", "Metastatic disease, liver"),
}


@pytest.fixture(scope="module")
def reports(make_server: Callable[..., Any]) -> Any:
    server = make_server(text_search="all")
    for name, (narrative, conclusion) in REPORTS.items():
        resource = {
            "resourceType": "DiagnosticReport",
            "id": name,
            "status": "final",
            "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{narrative}</div>'},
            "code": {"coding": [{"system": "http://loinc.org", "code": "24627-2"}], "text": "Imaging"},
            "subject": {"reference": "Patient/p"},
            "conclusion": conclusion,
        }
        answer = server.client.put(f"DiagnosticReport/{name}", json=resource)
        assert answer.status_code == 201, answer.text
    server.client.put("Patient/p", json={"resourceType": "Patient", "id": "p", "name": [{"family": "Bone"}]})
    return server


def found(server: Any, **query: str) -> list[str]:
    answer = server.client.get("DiagnosticReport", params=query, headers=STRICT)
    assert answer.status_code == 200, answer.text
    return [e["resource"]["id"] for e in answer.json().get("entry", [])]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("liver", "r1"),
        ("LIVER", "r1"),
        ("odem", "r3"),
        ("bone", "r2 r3"),
        ("bone metastases", "r2"),
        ("bone AND metastases", "r2"),
        ("liver OR marrow", "r1 r3"),
        ("(bone OR liver) and metastases", "r1 r2"),
        ("bone OR liver metastases", "r1 r2 r3"),
        ("scan NOT metastases", "r3"),
        ("scan -metastases", "r3"),
        ("scan NOT (metastases OR marrow)", ""),
        ("not scan", "r4"),
        ('"bone scan"', "r2"),
        ('"scan of the bone"', "r3"),
        ('"scan bone"', ""),
        ("follow-up", "r3"),
        ("metas*", "r1 r2"),
        ("b", ""),
        ("xmlns", ""),
    ],
)
def test_narratives_are_found_by_their_words(reports: Any, text: str, ids: str) -> None:
    if text == "not scan":
        answer = reports.client.get("DiagnosticReport", params={"_text": text})
        assert answer.status_code == 400  # what must not be there says nothing of what is looked for
        return
    assert sorted(found(reports, _text=text)) == ids.split()


def test_content_is_all_text_of_a_resource(reports: Any) -> None:
    assert sorted(found(reports, _content="liver")) == ["r1", "r4"]
    assert sorted(found(reports, _content="24627-2")) == ["r1", "r2", "r3", "r4"]
    assert found(reports, _content="loinc") == []
    assert sorted(found(reports, _content="metasta*", status="final")) == ["r1", "r2", "r4"]
    assert found(reports, _text="liver", _content="cysts imaging") == ["r1"]


def test_the_best_match_comes_first_and_tells_its_score(reports: Any) -> None:
    answer = reports.client.get("DiagnosticReport", params={"_content": "bone OR scan OR marrow", "_count": 2}).json()
    assert answer["entry"][0]["resource"]["id"] == "r3"
    scores = [entry["search"]["score"] for entry in answer["entry"]]
    assert 1 >= scores[0] >= scores[1] > 0
    (following,) = [row["url"] for row in answer["link"] if row["relation"] == "next"]
    rest = reports.client.get(following).json()["entry"]
    assert {e["resource"]["id"] for e in answer["entry"]} | {e["resource"]["id"] for e in rest} == {"r1", "r2", "r3"}
    assert found(reports, _content="scan", _sort="-_id") == ["r3", "r2", "r1"]


def test_words_go_with_chains_and_totals(reports: Any) -> None:
    assert sorted(found(reports, **{"subject:Patient._content": "bone", "_text": "scan"})) == ["r1", "r2", "r3"]
    answer = reports.client.get("DiagnosticReport", params={"_text": "scan", "_summary": "count"}).json()
    assert answer["total"] == 3


def test_a_change_of_the_text_is_found_and_a_deletion_is_not(reports: Any) -> None:
    resource = {"resourceType": "Basic", "id": "b", "code": {"text": "zebra"}}
    reports.client.put("Basic/b", json=resource)
    assert reports.client.get("Basic?_content=zebra").json()["total"] == 1
    reports.client.put("Basic/b", json={**resource, "code": {"text": "horse"}})
    assert reports.client.get("Basic?_content=zebra").json()["total"] == 0
    reports.client.delete("Basic/b")
    assert reports.client.get("Basic?_content=horse").json()["total"] == 0


@pytest.mark.parametrize(
    "text", ["(liver", "liver)", "AND", "!!", '""', " ".join(["a"] * 60), "(" * 30 + "a" + ")" * 30]
)
def test_an_expression_that_is_none_is_refused(reports: Any, text: str) -> None:
    answer = reports.client.get("DiagnosticReport", params={"_text": text})
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["coding"][0]["code"] == "HS-SEARCH-TEXT"


def test_without_the_setting_it_says_so(make_server: Callable[..., Any]) -> None:
    server = make_server(text_search="off")
    for name in ("_text", "_content"):
        answer = server.client.get("Patient", params={name: "x"}, headers=STRICT)
        assert answer.status_code == 400
        assert answer.json()["issue"][0]["code"] == "not-supported"


def test_several_types_are_searched_by_their_words(reports: Any) -> None:
    answer = reports.client.get("", params={"_type": "DiagnosticReport,Patient", "_content": "bone"}, headers=STRICT)
    assert answer.status_code == 200, answer.text
    assert {e["resource"]["id"] for e in answer.json()["entry"]} == {"p", "r2", "r3"}
