"""How names that look into other resources are read, and what they are asked of the database as.

Spec: https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/search.html#has
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fhir_server.model.errors import FhirError
from fhir_server.search.compile import filter_of, unrestricted
from fhir_server.search.cost import is_quick
from fhir_server.search.follow import MOST, Follower
from fhir_server.search.include import Inclusion, fields_of
from fhir_server.search.parse import parse
from fhir_server.search.query import Chain, Comparison, Include, Listed, Predicate, Reverse, Search
from fhir_server.search.reverse import BOUND, Spreads
from profiles.registry import registry
from profiles.terminology import terminology

BASE = "http://our.example/fhir/"


def read(resource_type: str, *pairs: tuple[str, str], strict: bool = True) -> Search:
    return parse(resource_type, pairs, registry(), strict=strict, default_count=20, max_count=100, base_url=BASE)


def one(resource_type: str, name: str, text: str = "x") -> Predicate:
    (predicate,) = read(resource_type, (name, text)).predicates
    return predicate


class Told:
    """A store that answers with what it was told, and notes what it was asked."""

    def __init__(self, *answers: list[dict[str, Any]], estimate: int = 0) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, list[Any], bool]] = []
        self.number = estimate

    async def aggregate(self, resource_type: str, pipeline: Any, *, shared: bool = False) -> list[dict[str, Any]]:
        self.asked.append((resource_type, list(pipeline), shared))
        return self.answers.pop(0)

    async def estimate(self, resource_type: str) -> int:
        return self.number


def followed(
    search: Search,
    store: Told,
    spreads: Spreads | None = None,
    *,
    checking: bool = False,
    containing: tuple[str, ...] = (),
) -> Search:
    follower = Follower(store, terminology(), BASE, unrestricted, lambda: containing, spreads)
    (result,) = asyncio.run(follower.follow([search], checking=checking))
    return result


def condition(search: Search) -> dict[str, Any]:
    return filter_of(search, terminology())


def test_a_chain_without_a_type_leads_to_each_type_that_has_the_rest() -> None:
    chain = one("Observation", "subject.name")
    assert isinstance(chain, Chain)
    assert sorted(name for name, _ in chain.links) == ["Location", "Patient"]
    typed = one("Observation", "subject:Patient.name")
    assert isinstance(typed, Chain)
    assert [name for name, _ in typed.links] == ["Patient"]


def test_modifiers_and_prefixes_belong_to_the_last_parameter() -> None:
    chain = one("Observation", "subject:Patient.general-practitioner:Practitioner.name:exact", "Eva")
    assert isinstance(chain, Chain)
    ((_, inner),) = chain.links
    assert isinstance(inner, Chain)
    ((target, last),) = inner.links
    assert isinstance(last, Comparison)
    assert (target, last.parameter.code, last.modifier) == ("Practitioner", "name", "exact")


def test_reverse_chains_nest_and_take_chains() -> None:
    reverse = one("Patient", "_has:Observation:patient:_has:AuditEvent:entity:agent", "Practitioner/1")
    assert isinstance(reverse, Reverse)
    assert (reverse.source, reverse.parameter.code, reverse.key.code) == ("Observation", "patient", "_id")
    assert isinstance(reverse.predicate, Reverse)
    assert reverse.predicate.source == "AuditEvent"
    chained = one("Patient", "_has:Observation:patient:performer.name")
    assert isinstance(chained, Reverse)
    assert isinstance(chained.predicate, Chain)


def test_a_list_is_named_by_its_id() -> None:
    listed = one("Patient", "_list", "a,List/b,a")
    assert isinstance(listed, Listed)
    assert listed.lists == ("a", "b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", Include(False, "Observation", None, None, False)),
        ("Observation:*", Include(False, "Observation", None, None, False)),
        ("Observation:subject", Include(False, "Observation", "subject", None, False)),
        ("Observation:subject:Patient", Include(False, "Observation", "subject", "Patient", False)),
    ],
)
def test_an_include_names_source_reference_and_target(text: str, expected: Include) -> None:
    assert read("Observation", ("_include", text)).includes == (expected,)


def test_only_the_entries_that_includes_read_are_fetched() -> None:
    search = read("Observation", ("_include", "Observation:subject"), ("_include:iterate", "Patient:organization"))
    assert fields_of(search.includes, "Observation", registry()) == {"x.subject": 1}
    assert fields_of(search.includes, "Patient", registry()) == {"x.organization": 1}
    assert fields_of(search.includes, "Group", registry()) == {}


def test_a_chain_becomes_a_comparison_with_the_references_found() -> None:
    store = Told([{"n": 0, "e": ["1", "2"]}])
    search = followed(read("Observation", ("subject:Patient.name", "eva")), store)
    assert condition(search) == {"x.subject": {"$in": ["Patient/1", "Patient/2"]}}
    assert not store.asked[0][2]
    nobody = followed(read("Observation", ("patient.name", "eva")), Told([]))
    assert condition(nobody) == {"x.subject": {"$in": []}}


def test_a_chain_leads_to_what_the_resource_contains_as_well() -> None:
    store = Told([{"n": 0, "e": ["1"]}, {"n": 1, "e": ["o1", "o2"]}])
    search = followed(read("Observation", ("subject:Patient.name", "eva")), store, containing=("Observation",))
    assert condition(search) == {"$or": [{"x.subject": "Patient/1"}, {"_id": {"$in": ["o1", "o2"]}}], "d": None}
    assert is_quick(search)
    (union,) = [stage["$unionWith"] for stage in store.asked[0][1] if "$unionWith" in stage]
    assert (union["coll"], union["pipeline"][0]["$match"]["$and"][1]) == ("Observation", {"c.k": "Patient<subject"})


def test_where_no_resource_of_a_type_contains_others_a_chain_looks_at_references_alone() -> None:
    store = Told([{"n": 0, "e": ["1"]}])
    followed(read("Observation", ("subject:Patient.name", "eva")), store, containing=("Claim",))
    assert not any("$unionWith" in stage for stage in store.asked[0][1])


def test_a_chain_within_one_container_goes_from_one_contained_resource_to_another() -> None:
    pair = ("medication:Medication.ingredient:Substance.code", "a")
    store = Told([{"n": 0, "e": ["1"]}], [{"n": 1, "e": ["r"]}])
    search = followed(read("MedicationRequest", pair), store, containing=("MedicationRequest",))
    assert condition(search) == {"$or": [{"x.medication": {"$in": []}}, {"_id": "r"}], "d": None}
    (union,) = [stage["$unionWith"] for stage in store.asked[1][1] if "$unionWith" in stage]
    assert {"c.k": "Medication<medication"} in union["pipeline"][0]["$match"]["$or"][0]["$and"]
    assert {"c.k": "Substance<medication.ingredient"} in union["pipeline"][0]["$match"]["$or"][1]["$and"]


def test_a_reverse_chain_becomes_ids_and_leaves_deleted_resources_out() -> None:
    store = Told([{"n": 0, "e": ["Patient/1"], "c": 1}])
    search = followed(read("Patient", ("_has:Observation:patient:code", "1")), store)
    assert condition(search) == {"_id": "1", "d": None}


def test_chains_of_one_level_are_one_command_and_narrow_ones_are_shared() -> None:
    store = Told([{"n": 0, "e": ["1"]}, {"n": 1, "e": ["2"]}])
    pairs = (("patient.identifier", "a"), ("encounter.identifier", "b"))
    search = followed(read("Observation", *pairs), store)
    assert len(store.asked) == 1
    assert store.asked[0][2]
    assert condition(search) == {"x.subject": "Patient/1", "x.encounter": "Encounter/2"}


def test_what_a_chain_finds_in_number_is_not_quick() -> None:
    few = followed(read("Observation", ("patient.name", "a")), Told([{"n": 0, "e": ["1"]}]))
    many = followed(read("Observation", ("patient.name", "a")), Told([{"n": 0, "e": [str(n) for n in range(101)]}]))
    assert is_quick(few)
    assert not is_quick(many)


def test_a_step_that_finds_too_many_is_refused() -> None:
    store = Told([{"n": 0, "e": [str(n) for n in range(MOST + 1)]}])
    with pytest.raises(FhirError) as caught:
        followed(read("Observation", ("patient.name", "a")), store)
    assert (caught.value.status, caught.value.issues[0].code) == (422, "too-costly")


def gathered(count: int, each: int) -> list[dict[str, Any]]:
    return [{"n": 0, "e": [f"Patient/{n}" for n in range(count)], "c": count * each}]


def test_a_reverse_chain_that_reads_many_for_each_is_asked_of_the_charts_afterwards() -> None:
    spreads = Spreads()
    search = read("Patient", ("_has:Observation:patient:code", "1"), ("_total", "accurate"))
    first, second = Told(gathered(10, 100), estimate=10), Told([{"n": 0, "e": ["Patient/1"]}])
    result = followed(search, first, spreads, checking=True)
    assert condition(result) == {"_id": {"$in": [str(n) for n in range(10)]}, "d": None}
    assert condition(followed(search, second, spreads, checking=True)) == {"_id": "1", "d": None}
    assert {"$group": {"_id": "$x.subject"}} in second.asked[0][1]
    assert first.asked[0][1][1] == {"$limit": BOUND + 1}


def test_a_reverse_chain_to_nearly_everybody_is_checked_match_by_match_afterwards() -> None:
    spreads = Spreads()
    search = read("Patient", ("_has:Observation:patient:status", "final"))
    followed(search, Told(gathered(100, 100), estimate=110), spreads, checking=True)
    store = Told()
    result = followed(search, store, spreads, checking=True)
    assert (store.asked, result.predicates, condition(result)) == ([], (), {"d": None})
    (check,) = result.checks
    assert (check.source, check.field, check.condition) == ("Observation", "x.subject", {"x.status": "=final"})
    assert not is_quick(result)


def test_where_checks_are_not_possible_or_dear_a_reverse_chain_is_gathered_again() -> None:
    spreads = Spreads()
    search = read("Patient", ("_has:Observation:patient:status", "final"))
    for checking, found in ((True, 100), (False, 100), (True, 3)):
        followed(search, Told(gathered(found, 4000 // found), estimate=100_000), spreads, checking=True)
        store = Told(gathered(found, 1), estimate=100_000)
        result = followed(search, store, spreads, checking=checking)
        assert (len(store.asked), result.checks) == (1, ())
        assert "$limit" not in store.asked[0][1][1]


def test_what_other_criteria_leave_few_of_is_checked_at_once() -> None:
    for pair in (("_id", "a,b"), ("identifier", "http://s|1")):
        store = Told()
        result = followed(read("Patient", pair, ("_has:Condition:patient:code", "1")), store, Spreads(), checking=True)
        assert (store.asked, len(result.checks), is_quick(result)) == ([], 1, True)
    store = Told([{"n": 0, "e": ["Patient/a"], "c": 1}])
    plain = followed(read("Patient", ("_id", "a,b"), ("_has:Condition:patient:code", "1")), store, Spreads())
    assert plain.checks == ()


def test_a_reverse_chain_that_has_more_than_is_read_at_first_goes_another_way() -> None:
    search = read("Patient", ("_has:Observation:patient:status", "final"))
    store = Told(gathered(100, 1000), estimate=110)
    assert len(followed(search, store, Spreads(), checking=True).checks) == 1
    again = Told(gathered(100, 1000), gathered(100, 4000), estimate=110)
    result = followed(search, again, Spreads())  # nothing else is possible: it is read to its end
    assert condition(result)["_id"] == {"$in": [str(n) for n in range(100)]}
    assert len(again.asked) == 2


def test_conditions_of_access_hold_for_what_checks_look_at() -> None:
    access = {"Observation": [{"x.org": "mine"}]}
    follower = Follower(Told(), terminology(), BASE, access.__getitem__, spreads=Spreads())
    search = read("Patient", ("_id", "a"), ("_has:Observation:patient:code", "1"))
    (result,) = asyncio.run(follower.follow([search], checking=True))
    assert result.checks[0].condition == {"x.code": "=1", "x.org": "mine"}


def test_conditions_of_access_hold_for_what_chains_look_at() -> None:
    store = Told([])
    follower = Follower(store, terminology(), BASE, lambda name: [{"x.org": f"{name}-mine"}])
    asyncio.run(follower.follow([read("Observation", ("subject:Patient.name", "a"))]))
    assert store.asked[0][1][0]["$match"]["x.org"] == "Patient-mine"


def test_searches_without_chains_ask_nothing() -> None:
    search = read("Observation", ("code", "1"))
    assert followed(search, Told()) == search


def test_conditions_of_access_hold_for_what_is_included() -> None:
    search = read("Observation", ("_include", "Observation:subject"), ("_include", "Observation:performer"))
    store = Told([{"_id": "1", "y": "Patient", "r": b"{}"}])
    inclusion = Inclusion(store, registry(), search.includes, lambda name: [{"x.org": f"{name}-mine"}], 10, 3)
    row = {"_id": "o", "x": {"subject": "Patient/1", "performer": ["Practitioner/2", "http://elsewhere/Patient/3"]}}
    added = asyncio.run(inclusion.added_to([("Observation", row)]))
    assert [(name, found["_id"]) for name, found in added.rows] == [("Patient", "1")]
    ((first, stages, shared),) = store.asked
    assert (first, stages[0], shared) == ("Patient", {"$match": {"_id": "1", "d": None, "x.org": "Patient-mine"}}, True)
    (union,) = [stage["$unionWith"] for stage in stages if "$unionWith" in stage]
    assert union["coll"] == "Practitioner"
    assert union["pipeline"][0] == {"$match": {"_id": "2", "d": None, "x.org": "Practitioner-mine"}}
