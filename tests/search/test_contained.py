"""How contained resources stand in the index, and how conditions on them are asked.

Spec: https://hl7.org/fhir/R4/search.html#contained
"""

from __future__ import annotations

import asyncio
from typing import Any

from fhir_server.search.contained import page_of_contained
from fhir_server.search.index import Indexer
from fhir_server.search.indexes import indexes_of
from fhir_server.search.parse import parse
from fhir_server.search.query import Search
from profiles.registry import registry
from profiles.terminology import terminology

Json = dict[str, Any]
BASE = "http://our.example/fhir"

indexer = Indexer(registry(), terminology(), BASE)


def read(resource_type: str, **pairs: str) -> Search:
    return parse(
        resource_type, list(pairs.items()), registry(), strict=True, default_count=20, max_count=100, base_url=BASE
    )


def order(name: str, *codes: str, status: str = "active") -> Json:
    return {
        "resourceType": "MedicationRequest",
        "id": name,
        "contained": [{"resourceType": "Medication", "id": f"m{n}", "code": code(c)} for n, c in enumerate(codes)],
        "status": status,
        "medicationReference": {"reference": "#m0"},
        "subject": {"reference": "Patient/p"},
    }


def code(text: str) -> Json:
    return {"coding": [{"system": "http://s", "code": text}]}


def document(resource: Json) -> Json:
    indexed = indexer.indexed(resource)
    more = {"c": indexed.contained} if indexed.contained else {}
    return {"_id": resource["id"], "v": 1, "t": 1, "r": b"{}", "x": indexed.entries, **more}


def test_a_resource_without_contained_ones_leaves_no_row() -> None:
    resource = {k: v for k, v in order("r").items() if k != "contained"} | {"medicationReference": {"reference": "M/1"}}
    assert indexer.indexed(resource).contained == []
    assert "c" not in document(resource)


def test_a_contained_resource_leaves_its_entries_and_keys_that_lead_to_them() -> None:
    (first, second) = indexer.indexed(order("r", "A", "B")).contained
    assert (first["_id"], first["y"], first["x"]) == ("m0", "Medication", {"code": ["=a", "http://s|a"]})
    assert first["k"] == ["Medication", "Medication<medication", "Medication.code =a", "Medication.code http://s|a"]
    assert second["k"] == ["Medication", "Medication.code =b", "Medication.code http://s|b"]
    assert indexer.indexed(order("r", "A")).entries["medication:inside"] == ["m0"]


def test_ways_lead_from_one_contained_resource_to_another_and_end() -> None:
    resource = order("r", "A")
    resource["contained"][0]["ingredient"] = [
        {"itemReference": {"reference": "#s"}},
        {"itemReference": {"reference": "#m0"}},
    ]
    resource["contained"].append({"resourceType": "Substance", "id": "s", "code": code("S")})
    (first, second) = indexer.indexed(resource).contained
    assert [key for key in first["k"] if "<" in key] == [
        "Medication<medication",
        "Medication<medication.ingredient",
        "Medication<medication.ingredient.ingredient",
        "Medication<medication.ingredient.ingredient.ingredient",
    ]
    assert second["k"][:2] == ["Substance", "Substance<medication.ingredient"]


def test_a_resource_that_contains_a_tangle_leaves_a_bounded_number_of_keys() -> None:
    names = [f"o{n}" for n in range(60)]
    tangle = [
        {"resourceType": "Observation", "id": name, "hasMember": [{"reference": f"#{other}"} for other in names]}
        | {"derivedFrom": [{"reference": f"#{other}"} for other in names]}
        for name in names
    ]
    container = {"resourceType": "Observation", "id": "t", "contained": tangle, "hasMember": [{"reference": "#o1"}]}
    rows = indexer.indexed(container).contained
    assert sum(len(row["k"]) for row in rows) < 2000


def test_rows_stand_in_the_order_of_their_ids() -> None:
    resource = order("r", "A", "B")
    resource["contained"].reverse()
    assert [row["_id"] for row in indexer.indexed(resource).contained] == ["m0", "m1"]


def test_no_type_has_more_indexes_than_mongodb_allows() -> None:
    counts = {name: len(indexes_of(name, registry())) for name in registry().resource_types}
    assert max(counts.values()) < 64
    names = {name: [spec.name for spec in indexes_of(name, registry())] for name in ("Claim", "Bundle")}
    assert ("contained" in names["Claim"], "contained" in names["Bundle"]) == (True, False)


def found(library: Any, search: Search, access: Any = lambda _: ()) -> list[str]:
    page = asyncio.run(page_of_contained(library, search, ["MedicationRequest"], registry(), terminology(), access))
    return [f"{row['_id']}#{row['i']}" if row.get("i") else row["_id"] for row in page.rows]


def test_conditions_of_access_hold_for_the_container(library: Any) -> None:
    library.fill("MedicationRequest", [document(order("seen", "A")), document(order("hidden", "A", status="draft"))])
    library.fill("Medication", [])
    asked: list[str] = []

    def access(name: str) -> list[Json]:
        asked.append(name)
        return [{"x.status": "=active"}]

    for kind, expected in (("container", ["seen"]), ("contained", ["seen#m0"])):
        for contained in ("true", "both"):
            search = read("Medication", code="A", _contained=contained, _containedType=kind, _total="accurate")
            assert found(library, search, access) == expected
            assert len(found(library, search)) == 2
    assert set(asked) == {"MedicationRequest", "Medication"}


def test_an_index_leads_to_containers_in_the_order_of_their_ids(library: Any) -> None:
    documents = [document(order(f"r{n:03}", f"C{n % 50}", "Z")) for n in range(500)]
    collection = library.fill("MedicationRequest", documents)
    library.fill("Medication", [])
    cases = {
        "code": ("C7", 10, 11),
        "code:text": ("x", 0, 501),
        "manufacturer": ("Organization/1", 0, 1),
    }
    for name, (value, matches, most_keys) in cases.items():
        pairs = [(name, value), ("_contained", "true"), ("_count", "100")]
        search = parse("Medication", pairs, registry(), strict=True, default_count=20, max_count=100, base_url=BASE)
        library.pipelines.clear()
        assert len(found(library, search)) == matches
        plan = collection.database.command(
            "explain",
            {"aggregate": "MedicationRequest", "pipeline": library.pipelines[0], "cursor": {}},
            verbosity="executionStats",
        )
        stats = plan["executionStats"] if "executionStats" in plan else plan["stages"][0]["$cursor"]["executionStats"]
        assert stats["totalKeysExamined"] <= most_keys, name
        assert "SORT" not in str(plan["queryPlanner"] if "queryPlanner" in plan else plan["stages"][0])
