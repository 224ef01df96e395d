"""What a search says already: left out of the policy's filter beside it, and never more than that."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.implied import Remainder
from fhir_server.search.compile import all_of
from fhir_server.search.matching import meets

PATIENTS = {"x.subject": {"$in": ["Patient/1", "Patient/2"]}}
PERFORMERS = {"x.performer": {"$in": ["Patient/1", "Patient/2"]}}
DENIED = {"$nor": [{"x._security": "R"}]}


@pytest.mark.parametrize(
    ("condition", "search", "rest"),
    [
        (PATIENTS, {"x.subject": "Patient/1"}, {}),
        (PATIENTS, {"x.subject": {"$in": ["Patient/2", "Patient/1"]}}, {}),
        (PATIENTS, {"x.subject": "Patient/3"}, PATIENTS),
        (PATIENTS, {"x.subject": {"$in": ["Patient/1", "Patient/3"]}}, PATIENTS),
        (PATIENTS, {"x.performer": "Patient/1"}, PATIENTS),
        (PATIENTS, {"$or": [{"x.subject": "Patient/1"}, {"x.code": "c"}]}, PATIENTS),
        (PATIENTS, {"$nor": [{"x.subject": "Patient/1"}]}, PATIENTS),
        (PATIENTS, {"$and": [{"x.code": "c"}, {"x.subject": "Patient/1"}]}, {}),
        ({"$or": [PATIENTS, PERFORMERS], **DENIED}, {"x.subject": "Patient/1"}, DENIED),
        ({"$or": [{**PATIENTS, **DENIED}, PERFORMERS]}, {"x.subject": "Patient/1"}, None),
        ({"$and": [{"_id": "p"}, {"_id": "p"}, DENIED]}, {"x.name": "n"}, {"_id": "p", **DENIED}),
        ({"_id": {"$in": []}}, {"x.subject": "Patient/1"}, {"_id": {"$in": []}}),
        ({"_id": {"$in": []}}, {"_id": {"$in": []}}, {"_id": {"$in": []}}),
    ],
)
def test_only_what_follows_is_left_out(
    condition: dict[str, Any], search: dict[str, Any], rest: dict[str, Any] | None
) -> None:
    assert Remainder(condition).beside(search) == (condition if rest is None else rest)


def test_what_is_left_of_two_policies_is_one_object_so_that_their_searches_go_together() -> None:
    one = Remainder({"x.subject": "Patient/1", **DENIED}).beside({"x.subject": "Patient/1"})
    other = Remainder({"x.subject": "Patient/2", "$nor": [{"x._security": "R"}]}).beside({"x.subject": "Patient/2"})
    assert one == DENIED
    assert one is other


NAMES = st.sampled_from(["x.a", "x.b", "x.c"])
TEXTS = st.sampled_from(["1", "2", "3"])
PLAIN = st.builds(lambda name, value: {name: value}, NAMES, TEXTS | st.lists(TEXTS).map(lambda some: {"$in": some}))
FILTERS = st.recursive(
    PLAIN,
    lambda inner: st.builds(
        lambda operator, parts: {operator: parts}, st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1)
    ),
    max_leaves=6,
)
ENTRIES = st.dictionaries(st.sampled_from("abc"), TEXTS | st.lists(TEXTS, min_size=1))


@given(FILTERS, FILTERS, ENTRIES)
def test_a_search_finds_beside_the_rest_what_it_finds_beside_the_whole(
    condition: dict[str, Any], search: dict[str, Any], entries: dict[str, Any]
) -> None:
    document = {"_id": "1", "x": entries}
    rest = Remainder(condition).beside(search)
    assert meets(all_of([search, rest]), document) == meets(all_of([search, condition]), document)
