"""Every operator of `_filter` for every type of parameter that it has a meaning for, over HTTP.

Spec: https://hl7.org/fhir/R4/search_filter.html#ops
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search.filter.build import MEANINGS
from tests.stored import stored

pytestmark = pytest.mark.xdist_group("search")

UCUM = "http://unitsofmeasure.org"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
GENDERS = "http://hl7.org/fhir/ValueSet/administrative-gender"
SET = "http://example.org/fhir/ValueSet"

#: By type and operator: what is searched, and the ids that are found. The data are those of `test_search_criteria`.
CASES: dict[tuple[str, str], tuple[str, str]] = {
    ("string", "eq"): ("Patient?family eq muller", "p2"),
    ("string", "ne"): ("Patient?family ne muller", "p1 p3"),
    ("string", "co"): ("Patient?family co luden", "p1"),
    ("string", "sw"): ("Patient?family sw mul", "p1 p2"),
    ("string", "ew"): ('Patient?family ew "Jr."', "p3"),
    ("string", "gt"): ("Patient?family gt muller", "p1 p3"),
    ("string", "lt"): ("Patient?family lt n", "p1 p2"),
    ("string", "ge"): ("Patient?family ge o", "p3"),
    ("string", "le"): ("Patient?family le muller", "p2"),
    ("string", "pr"): ("Patient?family pr false", "p4"),
    ("token", "eq"): ("Patient?gender eq female", "p1"),
    ("token", "ne"): ("Patient?gender ne female", "p2 p3"),
    ("token", "co"): ("Patient?gender co male", "p1 p2"),
    ("token", "sw"): ("Patient?gender sw fe", "p1"),
    ("token", "ew"): ("Patient?gender ew er", "p3"),
    ("token", "in"): (f"Patient?gender in {GENDERS}", "p1 p2 p3"),
    ("token", "ss"): (f"Condition?clinical-status ss {CLINICAL}|active", "k1 k2"),
    ("token", "sb"): (f"Condition?clinical-status sb {CLINICAL}|active", "k1"),
    ("token", "pr"): ("Patient?gender pr false", "p4"),
    ("reference", "eq"): ("Patient?organization eq Organization/o1", "p1"),
    ("reference", "re"): ("Patient?organization re http://test/fhir/Organization/o1", "p1"),
    ("reference", "ne"): ("Patient?organization ne Organization/o1", "p3"),
    ("reference", "pr"): ("Patient?organization pr false", "p4"),
    ("uri", "eq"): (f"ValueSet?url eq {SET}/a", "v1"),
    ("uri", "re"): (f"ValueSet?url re {SET}/a/b", "v2"),
    ("uri", "ne"): (f"ValueSet?url ne {SET}/a", "v2 v3"),
    ("uri", "co"): ("ValueSet?url co example.org", "v1 v2"),
    ("uri", "sw"): ("ValueSet?url sw urn:oid", "v3"),
    ("uri", "ew"): ("ValueSet?url ew /b", "v2"),
    ("uri", "pr"): ("ValueSet?url pr true", "v1 v2 v3"),
    ("date", "eq"): ("Patient?birthdate eq 1970-05", "p1 p2"),
    ("date", "ne"): ("Patient?birthdate ne 1970", "p3"),
    ("date", "gt"): ("Patient?birthdate gt 1970", "p3"),
    ("date", "lt"): ("Patient?birthdate lt 1970-05-06", "p2 p4"),
    ("date", "ge"): ("Patient?birthdate ge 1970-06", "p3 p4"),
    ("date", "le"): ("Patient?birthdate le 1970-05-06", "p1 p2 p4"),
    ("date", "sa"): ("Patient?birthdate sa 1970-05", "p3"),
    ("date", "eb"): ("Patient?birthdate eb 1971", "p1 p2 p4"),
    ("date", "ap"): ("Patient?birthdate ap 1970-05-06", "p1 p2 p3 p4"),
    ("date", "po"): ("Patient?birthdate po 1970-05-06", "p1 p2 p4"),
    ("date", "pr"): ("Patient?death-date pr true", "p4"),
    ("number", "eq"): ("RiskAssessment?probability eq 100", "r1 r2"),
    ("number", "ne"): ("RiskAssessment?probability ne 100", "r3 r4 r5"),
    ("number", "gt"): ("RiskAssessment?probability gt 99.5", "r1"),
    ("number", "lt"): ("RiskAssessment?probability lt 15", "r3 r4"),
    ("number", "ge"): ("RiskAssessment?probability ge 99.5", "r1 r2"),
    ("number", "le"): ("RiskAssessment?probability le 0.01", "r4"),
    ("number", "sa"): ("RiskAssessment?probability sa 20", "r1 r2 r5"),
    ("number", "eb"): ("RiskAssessment?probability eb 10", "r4"),
    ("number", "ap"): ("RiskAssessment?probability ap 0.0052", "r4"),
    ("number", "pr"): ("RiskAssessment?probability pr false", "r6"),
    ("quantity", "eq"): (f"Observation?value-quantity eq 72.5|{UCUM}|kg", "w1 w3"),
    ("quantity", "ne"): (f"Observation?value-quantity ne 72.5|{UCUM}|kg", "w2"),
    ("quantity", "gt"): (f"Observation?value-quantity gt 72.5|{UCUM}|kg", "w2"),
    ("quantity", "lt"): (f"Observation?value-quantity lt 72.57|{UCUM}|kg", "w1 w3"),
    ("quantity", "ge"): (f"Observation?value-quantity ge 72.57|{UCUM}|kg", "w2"),
    ("quantity", "le"): (f"Observation?value-quantity le 72500|{UCUM}|g", "w1 w3"),
    ("quantity", "sa"): (f"Observation?value-quantity sa 72.55|{UCUM}|kg", "w2"),
    ("quantity", "eb"): (f"Observation?value-quantity eb 72.55|{UCUM}|kg", "w1 w3"),
    ("quantity", "ap"): (f"Observation?value-quantity ap 72|{UCUM}|kg", "w1 w2 w3"),
    ("quantity", "pr"): ("Observation?value-quantity pr false", "b2 c1 s1"),
    ("composite", "eq"): ("Observation?code-value-quantity eq 29463-7$72.5", "w1"),
    ("composite", "pr"): ("Observation?code-value-concept pr true", "c1"),
    ("special", "eq"): ('Location?near eq "48.137|11.575|5|km"', "here"),
    ("special", "pr"): ("Location?near pr true", "here there"),
}


@pytest.fixture(scope="module")
def data(make_server: Callable[..., Any]) -> Any:
    server = make_server()
    body = (Path(__file__).parent / "search_data.json").read_bytes()
    answer = server.client.post("", content=body, headers={"Content-Type": "application/fhir+json"})
    assert answer.status_code == 200, answer.text
    for name, latitude in (("here", 48.137), ("there", 52.52)):
        place = {"resourceType": "Location", "id": name, "position": {"longitude": 11.575, "latitude": latitude}}
        assert server.client.put(f"Location/{name}", json=place).status_code == 201
    assert server.client.put("Location/nowhere", json={"resourceType": "Location", "id": "nowhere"}).status_code == 201
    return server


@pytest.mark.parametrize(("kind", "operator"), CASES, ids=lambda value: value)
def test_an_operator_finds_what_it_means_for_the_type_of_the_parameter(data: Any, kind: str, operator: str) -> None:
    query, ids = CASES[kind, operator]
    resource_type, _, text = query.partition("?")
    answer = data.client.get(
        resource_type, params={"_filter": text, "_count": 100}, headers={"Prefer": "handling=strict"}
    )
    assert answer.status_code == 200, answer.text
    assert sorted(entry["resource"]["id"] for entry in stored(answer.json())) == ids.split()


def test_each_operator_of_each_type_has_a_case() -> None:
    assert CASES.keys() == {(kind, o) for kind, operators in MEANINGS.items() for o in (*operators, "pr")}
