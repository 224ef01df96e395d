"""`$expand` over HTTP.

Spec: https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.terminology.samples import ANIMALS, SETS, answers, by, codes, parameters, value_set

Json = dict[str, Any]


def expand(client: Any, status: int = 200, **given: Any) -> Json:
    answer = client.post("ValueSet/$expand", json=parameters(**given))
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def test_a_whole_code_system_is_expanded_in_its_order_with_what_is_known_of_each_code(terms: Any) -> None:
    body = terms.get("ValueSet/$expand", params={"url": SETS + "all"}).json()
    assert codes(body) == ["animal", "mammal", "dog", "cat", "bat", "flyer", "dodo", "robin"]
    rows = {row["code"]: row for row in body["expansion"]["contains"]}
    assert rows["animal"] == {"system": ANIMALS, "abstract": True, "code": "animal", "display": "Animal"}
    assert rows["dodo"]["inactive"] is True
    assert body["expansion"]["total"] == 8
    assert "offset" not in body["expansion"]
    assert {"name": "version", "valueUri": f"{ANIMALS}|1.0.0"} in body["expansion"]["parameter"]
    assert (body["url"], body["status"]) == (SETS + "all", "active")
    assert "compose" not in body


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (by("concept", "is-a", "mammal"), ["mammal", "dog", "cat", "bat"]),
        (by("concept", "descendent-of", "mammal"), ["dog", "cat", "bat"]),
        (by("concept", "is-not-a", "mammal"), ["animal", "flyer", "dodo", "robin"]),
        (by("concept", "generalizes", "bat"), ["animal", "mammal", "bat", "flyer"]),
        (by("legs", "=", "4"), ["dog", "cat"]),
        (by("code", "regex", "[cb]at"), ["cat", "bat"]),
        (by("display", "regex", "D.*"), ["dog", "dodo"]),
        (by("code", "in", "cat, dog"), ["dog", "cat"]),
        (by("code", "not-in", "cat,dog,bat,animal"), ["mammal", "flyer", "dodo", "robin"]),
        (by("flying", "exists", "true"), ["bat", "robin"]),
        (by("legs", "exists", "false"), ["animal", "mammal", "flyer"]),
        (by("parent", "=", "flyer"), ["bat", "dodo", "robin"]),
        (by("child", "exists", "true"), ["animal", "mammal", "flyer"]),
    ],
)
def test_each_filter_of_r4_picks_its_codes(terms: Any, part: Json, expected: list[str]) -> None:
    assert codes(expand(terms, valueSet=value_set("sent", part))) == expected


def test_several_filters_of_one_include_must_all_be_met_and_several_includes_add_up(terms: Any) -> None:
    both = {**by("concept", "is-a", "flyer")}
    both["filter"] = [*both["filter"], *by("legs", "=", "2")["filter"]]
    assert codes(expand(terms, valueSet=value_set("sent", both))) == ["bat", "dodo", "robin"]
    either = value_set("sent", by("legs", "=", "4"), by("flying", "=", "true"))
    assert codes(expand(terms, valueSet=either)) == ["dog", "cat", "bat", "robin"]


def test_imports_of_one_include_are_intersected_and_excluded_codes_are_gone(terms: Any) -> None:
    assert codes(expand(terms, url=SETS + "imports")) == ["bat"]
    assert "cat" not in codes(expand(terms, url=SETS + "but-cats"))
    narrowed = value_set("sent", {**by("legs", "=", "2"), "valueSet": [SETS + "mammals"]})
    assert codes(expand(terms, valueSet=narrowed)) == ["bat"]


def test_listed_codes_keep_their_order_and_displays_and_those_that_the_system_lacks_are_left_out(terms: Any) -> None:
    body = expand(terms, url=SETS + "pets")
    assert [(row["code"], row["display"]) for row in body["expansion"]["contains"]] == [
        ("dog", "Pet dog"),
        ("cat", "Cat"),
    ]
    body = expand(terms, url=SETS + "foreign")  # nothing is known of that code system
    assert [(row["code"], row["display"]) for row in body["expansion"]["contains"]] == [("bread", "Bread")]


def test_pages_follow_each_other_without_gap_or_repetition(terms: Any) -> None:
    whole = codes(expand(terms, url=SETS + "all"))
    pages = [expand(terms, url=SETS + "all", offset=offset, count=3) for offset in (0, 3, 6, 9)]
    assert [code for page in pages for code in codes(page)] == whole
    assert [page["expansion"]["offset"] for page in pages] == [0, 3, 6, 9]
    assert {page["expansion"]["total"] for page in pages} == {8}
    counted = expand(terms, url=SETS + "all", count=0)["expansion"]
    assert (counted["total"], "contains" in counted) == (8, False)


def test_pages_go_across_code_systems(terms: Any) -> None:
    mixed = value_set("sent", by("legs", "=", "4"), {"system": "http://hl7.org/fhir/administrative-gender"})
    assert codes(expand(terms, valueSet=mixed, offset=1, count=3)) == ["cat", "male", "female"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("mam", ["mammal"]), ("MAMMAL", ["mammal"]), ("säuge", ["mammal"]), ("saug", ["mammal"]), ("ani fly", ["flyer"]),
     ("robi europ", ["robin"]), ("amm", [])],
)  # fmt: skip
def test_the_text_filter_takes_beginnings_of_words_of_codes_displays_and_designations(
    terms: Any, text: str, expected: list[str]
) -> None:
    assert codes(expand(terms, url=SETS + "all", filter=text)) == expected


def test_codes_nest_as_in_their_code_system_where_that_is_asked_for(terms: Any) -> None:
    (top,) = expand(terms, url=SETS + "all", excludeNested=False)["expansion"]["contains"]
    assert [row["code"] for row in top["contains"]] == ["mammal", "flyer"]
    assert [row["code"] for row in top["contains"][0]["contains"]] == ["dog", "cat", "bat"]
    flat = expand(terms, url=SETS + "all", excludeNested=True)["expansion"]["contains"]
    assert len(flat) == 8
    paged = expand(terms, url=SETS + "all", excludeNested=False, count=5)["expansion"]["contains"]
    assert len(paged) == 5


def test_inactive_codes_and_headings_are_left_out_where_that_is_asked_for(terms: Any) -> None:
    assert "dodo" not in codes(expand(terms, url=SETS + "all", activeOnly=True))
    assert "animal" not in codes(expand(terms, url=SETS + "all", excludeNotForUI=True))
    without = value_set("sent", {"system": ANIMALS})
    without["compose"]["inactive"] = False
    assert "dodo" not in codes(expand(terms, valueSet=without))


def test_displays_come_in_the_language_that_is_asked_for_and_designations_beside_them(terms: Any) -> None:
    rows = {
        row["code"]: row
        for row in expand(terms, url=SETS + "mammals", displayLanguage="de-AT,de")["expansion"]["contains"]
    }
    assert [rows[code]["display"] for code in ("mammal", "dog", "bat")] == ["Säugetier", "Hund", "Bat"]
    assert "designation" not in rows["dog"]
    rows = {
        row["code"]: row
        for row in expand(terms, url=SETS + "mammals", includeDesignations=True)["expansion"]["contains"]
    }
    assert rows["dog"]["designation"][0]["value"] == "Hund"
    for token, found in (
        ("urn:ietf:bcp:47|de", True),
        ("urn:ietf:bcp:47|fr", False),
        ("urn:uses|common", True),
        ("urn:uses|x", False),
    ):
        rows = {
            row["code"]: row for row in expand(terms, url=SETS + "mammals", designation=token)["expansion"]["contains"]
        }
        assert ("designation" in rows["dog"]) is found, token


def test_a_supplement_that_a_value_set_names_adds_its_designations_and_one_that_is_not_held_is_missed(
    terms: Any,
) -> None:
    supplement = {
        "resourceType": "CodeSystem",
        "id": "french",
        "url": "http://example.org/CodeSystem/french",
        "status": "active",
        "content": "supplement",
        "supplements": ANIMALS,
        "concept": [{"code": "dog", "designation": [{"language": "fr", "value": "Chien"}]}],
    }
    assert terms.put("CodeSystem/french", json=supplement).status_code in (200, 201)

    def sent(url: str) -> Json:
        extension = {"url": "http://hl7.org/fhir/StructureDefinition/valueset-supplement", "valueCanonical": url}
        return value_set("sent", by("legs", "=", "4"), extension=[extension])

    body = expand(terms, valueSet=sent(supplement["url"]), displayLanguage="fr")
    assert [row["display"] for row in body["expansion"]["contains"]] == ["Chien", "Cat"]
    body = expand(terms, 422, valueSet=sent("http://example.org/CodeSystem/none"))
    assert "supplement" in body["issue"][0]["diagnostics"]


def test_the_definition_comes_along_where_that_is_asked_for(terms: Any) -> None:
    assert "compose" in expand(terms, url=SETS + "mammals", includeDefinition=True)


def test_versions_of_code_systems_are_chosen_checked_and_forced(terms: Any) -> None:
    expand(terms, 422, url=SETS + "all", **{"check-system-version": f"{ANIMALS}|2.0.0"})
    assert len(codes(expand(terms, url=SETS + "all", **{"check-system-version": f"{ANIMALS}|1.0.0"}))) == 8
    body = expand(terms, 422, url=SETS + "all", **{"force-system-version": f"{ANIMALS}|2.0.0"})
    assert "not held" in body["issue"][0]["diagnostics"]
    assert len(codes(expand(terms, url=SETS + "all", **{"system-version": f"{ANIMALS}|1.0.0"}))) == 8
    assert codes(expand(terms, url=SETS + "all", **{"exclude-system": ANIMALS})) == []


@pytest.mark.parametrize(
    "context", ["Patient.gender", "http://hl7.org/fhir/StructureDefinition/Patient#Patient.gender"]
)
def test_an_element_names_the_value_set_that_it_is_bound_to(terms: Any, context: str) -> None:
    assert codes(expand(terms, context=context)) == ["male", "female", "other", "unknown"]


def test_what_is_bound_to_nothing_is_not_found(terms: Any) -> None:
    expand(terms, 404, context="Patient.active")
    expand(terms, 404, context="http://example.org/StructureDefinition/none#Patient.active")


@pytest.mark.parametrize(("name", "status"), [("lost", 422), ("loop", 422), ("foods", 422), ("none", 404)])
def test_what_cannot_be_listed_is_refused_with_the_reason(terms: Any, name: str, status: int) -> None:
    (issue,) = expand(terms, status, url=SETS + name)["issue"]
    assert issue["code"] == ("not-supported" if status == 422 else "not-found")
    assert "http://example.org/" in issue["diagnostics"]


def test_a_value_set_is_expanded_by_its_address_and_by_its_version(terms: Any) -> None:
    assert codes(terms.get("ValueSet/mammals/$expand").json()) == ["mammal", "dog", "cat", "bat"]
    assert terms.get("ValueSet/nothing/$expand").status_code == 404
    assert terms.get("ValueSet/mammals/$expand", params={"url": "urn:x"}).status_code == 400
    expand(terms, url=SETS + "mammals", valueSetVersion="1")
    expand(terms, 404, url=SETS + "mammals", valueSetVersion="2")
    expand(terms, 404, url=SETS + "mammals|2")


def test_a_value_set_that_was_not_there_yet_is_not_held_and_a_date_to_come_means_now(terms: Any) -> None:
    expand(terms, 404, url=SETS + "all", date="2001-01-01")
    expand(terms, url=SETS + "all", date="2999-01-01")


def test_a_change_of_any_definition_shows_in_the_next_expansion(terms: Any) -> None:
    system = {"resourceType": "CodeSystem", "id": "changing", "url": "urn:changing", "status": "active",
              "content": "complete", "concept": [{"code": "a"}]}  # fmt: skip
    terms.put("CodeSystem/changing", json=system)
    terms.put("ValueSet/inner", json=value_set("inner", {"system": "urn:changing"}))
    terms.put("ValueSet/outer", json=value_set("outer", {"valueSet": [SETS + "inner"]}))
    assert codes(expand(terms, url=SETS + "outer")) == ["a"]
    terms.put("CodeSystem/changing", json={**system, "concept": [{"code": "a"}, {"code": "b"}]})
    assert codes(expand(terms, url=SETS + "outer")) == ["a", "b"]
    only = {"system": "urn:changing", "concept": [{"code": "b"}]}
    terms.put("ValueSet/inner", json=value_set("inner", only))
    assert codes(expand(terms, url=SETS + "outer")) == ["b"]
    terms.delete("ValueSet/inner")
    expand(terms, 422, url=SETS + "outer")


def test_a_value_set_of_the_specification_and_the_implicit_ones_are_expanded(terms: Any) -> None:
    gender = expand(terms, url="http://hl7.org/fhir/ValueSet/administrative-gender")
    assert codes(gender) == ["male", "female", "other", "unknown"]
    assert codes(expand(terms, url=f"{ANIMALS}?fhir_vs=isa/flyer")) == ["bat", "flyer", "dodo", "robin"]
    assert len(codes(expand(terms, url=f"{ANIMALS}?fhir_vs"))) == 8


def test_a_parameter_that_is_none_and_a_wrong_value_are_refused(terms: Any) -> None:
    assert terms.get("ValueSet/$expand", params={"url": SETS + "all", "cuont": "1"}).status_code == 400
    assert terms.get("ValueSet/$expand", params={"url": SETS + "all", "count": "-1"}).status_code == 400
    assert terms.get("ValueSet/$expand").status_code == 400
    assert answers({}) == {}
