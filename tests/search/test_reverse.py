"""Which way a reverse chain goes, and that an index of charts answers exactly what a date asks.

Spec: https://hl7.org/fhir/R4/search.html#has, https://hl7.org/fhir/R4/search.html#prefix
"""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.model.dates import OPEN_END_US, OPEN_START_US
from fhir_server.search.parse import parse
from fhir_server.search.query import DateValue, Prefix, Reverse, Search
from fhir_server.search.reverse import REMEMBERED, Spread, Spreads, chart_conditions, charted, way_of
from fhir_server.search.types.date import ranges
from profiles.registry import registry
from profiles.terminology import terminology

PREFIXES = [prefix for prefix in get_args(Prefix) if prefix != "ne"]


def read(query: str, resource_type: str = "Patient") -> Search:
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]
    return parse(resource_type, pairs, registry(), strict=True, default_count=20, max_count=1000)


def reverse_of(query: str, resource_type: str = "Patient") -> Reverse:
    return next(p for p in read(query, resource_type).predicates if isinstance(p, Reverse))


DATE = "_has:Observation:patient:date=gt2000"
STATUS = "_has:Observation:patient:status=final"


@pytest.mark.parametrize(
    ("query", "spread", "way"),
    [
        (DATE, None, "gather"),
        (DATE, Spread(40_000, 115, 120, True), "chart"),
        (DATE, Spread(20_001, 115, 120, False), "chart"),
        (DATE, Spread(400_000, 900_000, 1_000_000, True), "check"),
        (DATE, Spread(400, 300, 1_000_000, True), "gather"),
        (STATUS, Spread(40_000, 115, 120, True), "check"),
        (STATUS, Spread(20_001, 20_000, 1_000_000, False), "check"),
        (STATUS, Spread(20_001, 3, 1_000_000, False), "gather"),
        (STATUS, Spread(300, 100, 120, True), "gather"),
        # All have to be known: a check of each is dearer than to gather.
        (f"{STATUS}&_total=accurate", Spread(2000, 100, 120, True), "gather"),
        (f"{STATUS}&_summary=count", Spread(2000, 100, 120, True), "gather"),
        (f"{STATUS}&_sort=family,birthdate", Spread(2000, 100, 120, True), "gather"),
        (f"{STATUS}&_sort=family", Spread(2000, 100, 120, True), "check"),
        (f"{STATUS}&identifier=http://s|1", None, "check"),
        (f"{STATUS}&_id=a", Spread(300, 100, 120, True), "check"),
        (f"{STATUS}&link=Patient/a", Spread(2000, 3, 100_000, True), "check"),
        (f"{STATUS}&gender=male", None, "gather"),
    ],
)
def test_the_way_that_costs_least_is_taken(query: str, spread: Spread | None, way: str) -> None:
    assert way_of(reverse_of(query), spread, read(query)) == way


def test_where_no_check_is_possible_none_is_chosen() -> None:
    wide = Spread(40_000, 115, 120, True)
    assert way_of(reverse_of(STATUS), wide, None) == "gather"
    many = f"_has:Observation:patient:code={','.join(map(str, range(150)))}"
    assert way_of(reverse_of(many), wide, read(many)) == "gather"
    canonical = "_has:QuestionnaireResponse:questionnaire:status=completed"
    assert way_of(reverse_of(canonical, "Questionnaire"), wide, read(canonical, "Questionnaire")) == "gather"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("_has:Observation:patient:date=gt2000", "x.subject"),
        ("_has:Observation:subject:date=2000", "x.subject"),
        ("_has:Observation:patient:code=1", "x.subject"),
        ("_has:Encounter:patient:date=ge2000", "x.subject"),
        ("_has:Immunization:patient:date=ge2000", "x.patient"),
        ("_has:Observation:patient:date=ne2000", None),
        ("_has:Observation:patient:date=2000,2001", None),
        ("_has:Observation:patient:code=1,2", None),
        ("_has:Observation:patient:code=http://s|", None),
        ("_has:Observation:patient:status=final", None),
        ("_has:Observation:performer:date=gt2000", None),
        ("_has:Appointment:patient:date=gt2000", None),  # has several actors, which no index gives one after the other
        ("_has:RiskAssessment:patient:date=gt2000", None),
    ],
)
def test_an_index_of_charts_answers_single_codes_and_dates_of_a_patient(query: str, field: str | None) -> None:
    assert charted(reverse_of(query)) == field


def test_what_was_seen_is_remembered_for_a_while_and_not_for_everything() -> None:
    spreads = Spreads()
    spread = Spread(1000, 10, 10, True)
    chains = [reverse_of(f"_has:Observation:patient:code={n}") for n in range(REMEMBERED + 1)]
    for chain in chains:
        spreads.remember(chain, spread)
    assert (spreads.get(chains[0]), spreads.get(chains[-1])) == (None, spread)


moments = st.integers(-50, 50)
edges = st.one_of(moments, st.sampled_from([OPEN_START_US, OPEN_END_US]))


def meets(condition: dict[str, Any], start: int, end: int) -> bool:
    entry = {"x.date.s": start, "x.date.e": end}
    compare = {"$gt": int.__gt__, "$gte": int.__ge__, "$lt": int.__lt__, "$lte": int.__le__}
    return all(compare[op](entry[field], value) for field, ops in condition.items() for op, value in ops.items())


def by_the_table(prefix: str, low: int, high: int, start: int, end: int) -> bool:
    """The table of `search.types.date`, word for word."""
    inside = low <= start and end <= high
    return {
        "eq": inside and start < high,
        "gt": end > high,
        "lt": start < low,
        "ge": end > low and not (start < low and end <= high),
        "le": start < high and not (start >= low and end > high),
        "sa": start >= high,
        "eb": start < low and end <= low,
        "ap": start < high and end > low,
    }[prefix]


@given(st.sampled_from(PREFIXES), moments, st.integers(1, 20), edges, edges)
def test_the_ranges_of_a_date_mean_what_its_prefix_means(
    prefix: Any, low: int, length: int, start: int, end: int
) -> None:
    found = any(meets(span, start, end) for span in ranges("x.date", DateValue(prefix, low, low + length)))
    assert found == by_the_table(prefix, low, low + length, start, end)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_chart_is_walked_by_steps_in_its_index_alone(library: Any, prefix: str) -> None:
    documents = [
        {"_id": f"{n}", "x": {"subject": f"Patient/{n % 10}", "date": {"s": n * 1000, "e": n * 1000 + 10}}, "r": b""}
        for n in range(3000)
    ]
    collection = library.fill("Observation", documents)
    moment = "1970-01-01T00:00:01.500Z"
    for condition in chart_conditions(reverse_of(f"_has:Observation:patient:date={prefix}{moment}"), terminology()):
        match = {"$match": {**condition, "x.subject": {"$gte": "Patient/", "$lt": "Patient0"}}}
        pipeline = [match, {"$group": {"_id": "$x.subject"}}]
        command = {"aggregate": "Observation", "pipeline": pipeline, "cursor": {}}
        plan = collection.database.command("explain", command, verbosity="executionStats")
        assert "DISTINCT_SCAN" in re.findall(r"'stage': '(\w+)'", str(plan))
        assert max(map(int, re.findall(r"'totalKeysExamined': (\d+)", str(plan)))) <= 50
